"""One record as one row: its fields, checked, and what older schemas said differently."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from results.migrations import MIGRATIONS

SCHEMA = 1 + len(MIGRATIONS)
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
# What tables have beside the tasks.
AVERAGE = "average"
# No figure of a run is as large: what is, is damage.
_MOST = 1e18
# Of accuracies in percent: tells apart one image in a million. All tables and files start from
# these, so that none of them rounds a mean otherwise than another.
ACCURACY_DECIMALS = 4

# Of the share of MACs removed, for the same reason.
_REACHED_DECIMALS = 6

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


# Of what `row_of` gives, by type.
_ACCURACIES = tuple(accuracy_column(s, metric) for s in SELECTIONS for metric in METRICS)
_NUMBERS = (*_SETTING, *_FIGURES, "compression", *map(score_column, SCORES), *_ACCURACIES)
_MAPPINGS = ("conditions", "knobs", "versions")
_WORDS = (
    *(*_IDENTITY, *_TEXTS, *_MAPPINGS, "setting"),
    *("guide_backbone", "guide_weights", "finished", "command", "record"),
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
    for step in MIGRATIONS[schema - 1 :]:
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
    row |= {column: _quantity(record, where) for column, where in _FIGURES.items()}
    if row["reached"] > 1:
        raise DamagedRecordError(f"compression.reached is {row['reached']:g}, not a share")
    row["reached"] = round(row["reached"], _REACHED_DECIMALS)
    command = _field(record, "command") or []
    if not isinstance(command, list):
        raise DamagedRecordError("command is not a list of words")
    row["command"] = _printable(shlex.join(map(str, command)))
    row["versions"] = json.dumps(_mapping(record, "environment.versions"), sort_keys=True)
    row["labelled"] = _is_labelled(record)
    for validator in SCORES:
        row[score_column(validator)] = _number(record, f"scores.{validator}")
    for selection in SELECTIONS:
        for metric in METRICS:
            where = f"accuracy.{selection}.{metric}"
            accuracy = _number(record, where)
            if accuracy < 0 or accuracy > 100:
                raise DamagedRecordError(f"{where} is {accuracy:g}, not a percentage")
            row[accuracy_column(selection, metric)] = round(accuracy, ACCURACY_DECIMALS) + 0.0
    return row


def blank_row() -> dict[str, Any]:
    """The row of a labelled run of which nothing is known."""
    numbers, words = dict.fromkeys(_NUMBERS, math.nan), dict.fromkeys(_WORDS, "")
    return {**numbers, **words, **dict.fromkeys(_MAPPINGS, "{}"), "seed": 0, "labelled": True}


def is_row(row: Mapping[str, Any]) -> bool:
    """Whether a mapping could be a row with its `record`, such as `cache` keeps."""
    try:
        return (
            row.keys() == {*_NUMBERS, *_WORDS, "seed", "labelled"}
            and all(type(row[name]) is float for name in _NUMBERS)
            and all(type(row[name]) is str for name in _WORDS)
            and all(type(json.loads(row[name])) is dict for name in _MAPPINGS)
            and (type(row["seed"]), type(row["labelled"])) == (int, bool)
            and 0 <= row["compression"] < 1
            and not any(row[name] < 0 or row[name] > 100 for name in _ACCURACIES)
        )
    except ValueError:
        return False


def identity_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run before it has run: what it is, and with what.

    Raises:
        DamagedRecordError: a field is missing or wrong.
    """
    row: dict[str, Any] = {column: _text(record, where) for column, where in _IDENTITY.items()}
    row |= {column: _quantity(record, where) for column, where in _SETTING.items()}
    if row["task"] == AVERAGE:
        raise DamagedRecordError(f"task.name is {AVERAGE}, which is what tables call the average")
    row["seed"] = _integer(record, "seed")
    row["compression"] = _number(record, "compression.asked") + 0.0  # no negative zero
    if not 0 <= row["compression"] < 1:
        raise DamagedRecordError("compression.asked is not a number in [0, 1)")
    # As text, so that runs can be told apart by their hyper-parameters.
    row["conditions"] = json.dumps(
        {part: _mapping(record, part) for part in ("data", "training")}, sort_keys=True
    )
    row["setting"] = hashlib.sha256(row["conditions"].encode()).hexdigest()[:8]
    row["knobs"] = json.dumps(_mapping(record, "method.knobs"), sort_keys=True)
    # A teacher other than the student's own backbone; empty where there was none.
    guided = _field(record, "teacher") is not None
    for part in ("backbone", "weights"):
        row[f"guide_{part}"] = _text(record, f"teacher.{part}") if guided else ""
    # Files of one name may hold different weights.
    for column, network in (("weights", "network"), ("guide_weights", "teacher")):
        if digest := _text_or_empty(record, f"{network}.weights_sha256"):
            row[column] += f"@{digest[:8]}"
    return row


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


def _mapping(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping there, an empty one where it is absent."""
    value = _field(record, where)
    if value and not isinstance(value, dict):
        raise DamagedRecordError(f"{where} is not a mapping")
    return value or {}


def _text(record: Mapping[str, Any], where: str) -> str:
    value = _field(record, where)
    if not isinstance(value, str) or not value.strip():
        raise DamagedRecordError(f"{where} is missing or not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DamagedRecordError(f"{where} is no text in Unicode") from None
    return _printable(value)


def _printable(text: str) -> str:
    """One line without control characters, for tables, terminals and files."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _text_or_empty(record: Mapping[str, Any], where: str) -> str:
    return "" if _field(record, where) in (None, "") else _text(record, where)


def _integer(record: Mapping[str, Any], where: str) -> int:
    value = _field(record, where)
    if not isinstance(value, int) or isinstance(value, bool) or not -_MOST < value < _MOST:
        raise DamagedRecordError(f"{where} is missing or not an integer")
    return value


def _quantity(record: Mapping[str, Any], where: str) -> float:
    """As `_number`, of what cannot be below zero."""
    number = _number(record, where)
    if number < 0:
        raise DamagedRecordError(f"{where} is {number:g}, below zero")
    return number


def _number(record: Mapping[str, Any], where: str) -> float:
    """NaN where absent; a number that is not finite is damage, not a missing value."""
    value = _field(record, where)
    if value is None:
        return math.nan
    try:
        number = math.nan if isinstance(value, bool | str | list | dict) else float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) < _MOST:
        raise DamagedRecordError(f"{where} is not a finite number")
    return number
