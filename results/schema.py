"""One record as one row: its fields, checked, and what older schemas said differently."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = 3
SELECTIONS = {
    "last": "last epoch",
    "source_validation": "source validation",
    "entropy": "entropy",
    "infomax": "InfoMax",
    "snd": "SND",
    "dev": "DEV",
    # Last, and apart: it alone looks at target labels.
    "oracle": "oracle (best epoch by target labels)",
}
# Validators by their keys in `SELECTIONS`; the higher a score, the better.
SCORES = tuple(key for key in SELECTIONS if key not in ("last", "oracle"))
METRICS = {"overall": "target accuracy", "mean_class": "target accuracy, mean over classes"}
UNADAPTED = "source_only"
# Of accuracies in percent: tells apart one image in a million. All tables and files start from
# these, so that none of them rounds a mean otherwise than another.
ACCURACY_DECIMALS = 4

# Column of a row -> where the record has it. Without one of these a record is damaged.
_IDENTITY = {
    "run": "run",
    "suite": "suite",
    "digest": "dataset.digest",
    "task": "task.name",
    "source": "task.source",
    "target": "task.target",
    "protocol": "protocol",
    "method": "method.name",
    "group": "method.group",
    "label": "method.label",
    "backbone": "network.backbone",
    "weights": "network.weights",
}
# Texts that may be absent; they are empty then.
_TEXTS = {
    "dataset": "dataset.name",
    "citation": "method.citation",
    "unpruned": "method.unpruned",
    "device": "environment.device",
    "machine": "environment.machine",
    "precision": "environment.precision",
    "commit": "environment.git_commit",
}
# Figures that tell which setting and task a run belongs to; NaN where absent.
_SETTING = {
    "task_index": "task.index",
    "bottleneck": "network.bottleneck",
    "image_size": "network.image_size",
    "epochs": "training.epochs",
}
# Figures of finished runs; NaN where absent.
_FIGURES = {
    "reached": "compression.reached",
    "code": "environment.core_version",
    **{
        f"{network}_{figure}": f"cost.{network}.{where}"
        for network in ("student", "teacher")
        for figure, where in (
            *((name, name) for name in ("macs", "parameters", "activations", "bytes")),
            *((f"latency_{size}", f"latency_ms.batch_{size}.p50") for size in (1, 32)),
            ("latency_threads", "latency_ms.threads"),
        )
    },
    **{
        figure: f"effort.{figure}"
        for figure in (
            *("images", "forward_images", "backward_images", "forward_macs", "backward_macs"),
            *("images_per_second", "peak_memory_bytes"),
        )
    },
}


def accuracy_column(selection: str, metric: str) -> str:
    """The frame's column for a key of `SELECTIONS` and a key of `METRICS`."""
    return f"{selection}.{metric}"


def score_column(validator: str) -> str:
    """The frame's column for a key of `SCORES`."""
    return f"score.{validator}"


# Of what `row_of` gives; a row with others was made by something else.
COLUMNS = frozenset(
    {
        *(*_IDENTITY, *_TEXTS, *_SETTING, *_FIGURES),
        *("seed", "compression", "conditions", "knobs", "guide_backbone", "guide_weights"),
        *("finished", "command", "labelled"),
        *(score_column(validator) for validator in SCORES),
        *(accuracy_column(selection, metric) for selection in SELECTIONS for metric in METRICS),
    }
)


class DamagedRecordError(ValueError):
    """A record that cannot be used; the message says why."""


def parse(text: bytes) -> dict[str, Any]:
    """The record in `text`, brought to the present schema.

    Raises:
        DamagedRecordError: not JSON, not a record, or of a newer schema.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(f"not readable as JSON ({error})") from None
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise DamagedRecordError("no schema version; not a run record")
    if schema > SCHEMA:
        raise DamagedRecordError(
            f"schema {schema}; this version reads up to schema {SCHEMA}: use the version that "
            "wrote it, or a newer one"
        )
    for step in _MIGRATIONS[schema - 1 :]:
        record = step(record)
    return dict(record)


def row_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A finished run's row.

    Raises:
        DamagedRecordError: a field is missing or wrong.
    """
    row = identity_of(record)
    row["finished"] = _text(record, "finished")
    row |= {column: _text_or_empty(record, where) for column, where in _TEXTS.items()}
    row |= {column: _number(record, where) for column, where in _FIGURES.items()}
    row["command"] = shlex.join(map(str, _field(record, "command") or ()))
    row["labelled"] = _is_labelled(record)
    for validator in SCORES:
        row[score_column(validator)] = _number(record, f"scores.{validator}")
    for selection in SELECTIONS:
        for metric in METRICS:
            where = f"accuracy.{selection}.{metric}"
            accuracy = _number(record, where)
            if accuracy < 0 or accuracy > 100:
                raise DamagedRecordError(f"{where} is {accuracy:g}, not a percentage")
            row[accuracy_column(selection, metric)] = round(accuracy, ACCURACY_DECIMALS)
    return row


def identity_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run before it has run: what it is, and with what.

    Raises:
        DamagedRecordError: a field is missing or wrong.
    """
    row: dict[str, Any] = {column: _text(record, where) for column, where in _IDENTITY.items()}
    row |= {column: _number(record, where) for column, where in _SETTING.items()}
    row["seed"] = _integer(record, "seed")
    row["compression"] = _number(record, "compression.asked")
    if not 0 <= row["compression"] < 1:
        raise DamagedRecordError("compression.asked is not a number in [0, 1)")
    # As text, so that runs can be told apart by their hyper-parameters.
    row["conditions"] = json.dumps(
        {part: _field(record, part) or {} for part in ("data", "training")}, sort_keys=True
    )
    row["knobs"] = json.dumps(_field(record, "method.knobs") or {}, sort_keys=True)
    # A teacher other than the student's own backbone; empty where there was none.
    guided = _field(record, "teacher") is not None
    for part in ("backbone", "weights"):
        row[f"guide_{part}"] = _text(record, f"teacher.{part}") if guided else ""
    # Files of one name may hold different weights.
    for column, network in (("weights", "network"), ("guide_weights", "teacher")):
        if digest := _text_or_empty(record, f"{network}.weights_sha256"):
            row[column] += f"@{digest[:8]}"
    return row


def _with_scores(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no label-free scores of the last epoch apart from those that chose an epoch."""
    return {**record, "schema": 2, "scores": record.get("scores") or {}}


def _with_command(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 had no command, history or widths, and did not say what a student is unpruned."""
    method = record.get("method")
    if isinstance(method, dict):
        method = {**method, "unpruned": _unpruned_of_schema_2(record, method)}
    return {**record, "schema": 3, "command": [], "history": None, "method": method}


def _unpruned_of_schema_2(record: dict[str, Any], method: dict[str, Any]) -> str | None:
    if not _field(record, "compression.asked"):
        return None
    knobs = method.get("knobs")
    knobs = knobs if isinstance(knobs, dict) else {}
    narrow = str(method.get("name")).removesuffix("_student")
    named = (knobs.get("discrepancy"), knobs.get("teacher"))
    found = next((name for name in named if isinstance(name, str)), None)
    return found or (narrow if narrow != method.get("name") else UNADAPTED)


_MIGRATIONS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_with_scores, _with_command)


def _is_labelled(record: Mapping[str, Any]) -> bool:
    """Whether the target had labels; where it had none, the record says null of the last epoch."""
    accuracy = _field(record, "accuracy")
    return not (isinstance(accuracy, dict) and "last" in accuracy and accuracy["last"] is None)


def _field(record: Mapping[str, Any], where: str) -> Any:
    """The value at a dotted path, None where any part of the path is absent or null."""
    value: Any = record
    for key in where.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _text(record: Mapping[str, Any], where: str) -> str:
    value = _field(record, where)
    if not isinstance(value, str) or not value:
        raise DamagedRecordError(f"{where} is missing or not a text")
    return value


def _text_or_empty(record: Mapping[str, Any], where: str) -> str:
    return "" if _field(record, where) in (None, "") else _text(record, where)


def _integer(record: Mapping[str, Any], where: str) -> int:
    value = _field(record, where)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DamagedRecordError(f"{where} is missing or not an integer")
    return value


def _number(record: Mapping[str, Any], where: str) -> float:
    """NaN where absent; a number that is not finite is damage, not a missing value."""
    value = _field(record, where)
    if value is None:
        return math.nan
    try:
        number = math.nan if isinstance(value, bool | str | list | dict) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DamagedRecordError(f"{where} is not a finite number")
    return number
