"""Run records as one pandas frame, and what stands beside them: failed, unfinished, damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

SCHEMA = 2
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

# Column of the frame -> where the record has it. A record without one of these is damaged.
_TEXTS = {
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
    "finished": "finished",
}
# Figures that may be absent or null; they stand as NaN.
_FIGURES = {
    "task_index": "task.index",
    "bottleneck": "network.bottleneck",
    "image_size": "network.image_size",
    "epochs": "training.epochs",
    "reached": "compression.reached",
    **{
        f"{network}_{figure}": f"cost.{network}.{figure}"
        for network in ("student", "teacher")
        for figure in ("macs", "parameters", "activations", "bytes")
    },
    **{
        figure: f"effort.{figure}"
        for figure in (
            *("images", "forward_images", "backward_images", "forward_macs", "backward_macs"),
            *("images_per_second", "peak_memory_bytes"),
        )
    },
}


class ResultsError(Exception):
    """Wrong usage: one line that names what was given and what is allowed."""


class DamagedRecordError(ValueError):
    """A record that cannot be used; the message says why."""


@dataclass(frozen=True)
class Records:
    """The usable records, one row a run, and the runs that have none.

    Attributes:
        frame: one row a finished run whose target has labels, in an order that depends on the
            content only. Accuracies are in the columns `<selection>.<metric>` (see
            `accuracy_column`), in percent, the label-free scores of the last epoch in `score.<key>`
            (see `score_column`); NaN where the record has none.
        unlabelled: the same of the runs whose target has no labels, and so no accuracies.
        failed: run directories with a `failure.json` and no record.
        unfinished: run directories with a `config.yaml` and neither of the two.
        left_out: one line for each record that is damaged or of another schema.
    """

    frame: pd.DataFrame
    unlabelled: pd.DataFrame
    failed: tuple[Path, ...]
    unfinished: tuple[Path, ...]
    left_out: tuple[str, ...]

    def gaps(self) -> str:
        """What is in neither frame, in words; empty where every run has a usable record."""
        counts = (
            (len(self.failed), "failed"),
            (len(self.unfinished), "unfinished"),
            (len(self.left_out), "left out (record damaged or of another schema)"),
        )
        return ", ".join(f"{plural(count, 'run')} {what}" for count, what in counts if count)

    def require_accuracies(self) -> None:
        """Raise ResultsError where no run has a target with labels."""
        if self.frame.empty:
            raise ResultsError(
                f"no accuracies: the targets of {plural(len(self.unlabelled), 'run')} have no "
                "labels; 'python -m results.table RUNS' shows their label-free scores"
            )


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def default_selection(protocol: str) -> str:
    """The protocol's own choice of the epoch: `oracle` where it is `paper`, else `last`."""
    return "oracle" if protocol == "paper" else "last"


def accuracy_column(selection: str, metric: str) -> str:
    """The frame's column for a key of `SELECTIONS` and a key of `METRICS`."""
    return f"{selection}.{metric}"


def score_column(validator: str) -> str:
    """The frame's column for a key of `SCORES`."""
    return f"score.{validator}"


def read(paths: Sequence[Path]) -> Records:
    """Read the records of out directories (`<path>/*/record.json`) or of single run directories.

    Raises:
        ResultsError: a path is not a directory, or there is no usable record at all.
    """
    rows: list[dict[str, Any]] = []
    failed: list[Path] = []
    unfinished: list[Path] = []
    left_out: list[str] = []
    for run in _run_directories(paths):
        if (run / "record.json").exists():
            try:
                rows.append(read_record(run / "record.json"))
            except DamagedRecordError as error:
                left_out.append(f"{run / 'record.json'}: {error}")
        elif (run / "failure.json").exists():
            failed.append(run)
        else:
            unfinished.append(run)
    if not rows:
        nothing = pd.DataFrame()
        empty = Records(nothing, nothing, tuple(failed), tuple(unfinished), tuple(left_out))
        given = ", ".join(str(path) for path in paths)
        found = f" ({empty.gaps()})" if empty.gaps() else ""
        why = f"; the first: {left_out[0]}" if left_out else "; expected */record.json"
        raise ResultsError(f"no usable record under {given}{found}{why}")
    frame = pd.DataFrame(rows).sort_values(["run", "finished"])
    # The same run copied to two out directories is one run.
    frame = frame.drop_duplicates("run", keep="last")
    labelled, unlabelled = (
        frame[frame["labelled"] == there].reset_index(drop=True) for there in (True, False)
    )
    return Records(labelled, unlabelled, tuple(failed), tuple(unfinished), tuple(left_out))


def read_record(path: Path) -> dict[str, Any]:
    """One record as a row of the frame.

    Raises:
        DamagedRecordError: not readable as JSON, of another schema, or a field missing or wrong.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedRecordError(f"not readable as JSON ({error})") from None
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(schema, int):
        raise DamagedRecordError("no schema version; not a run record")
    if schema != SCHEMA:
        remedy = (
            "delete this run's directory and run its suite again"
            if schema < SCHEMA
            else "use the version that wrote it, or a newer one"
        )
        raise DamagedRecordError(f"schema {schema}; this version reads schema {SCHEMA}: {remedy}")
    row: dict[str, Any] = {column: _text(record, where) for column, where in _TEXTS.items()}
    row |= {column: _number(record, where) for column, where in _FIGURES.items()}
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
    row["labelled"] = _is_labelled(record)
    for validator in SCORES:
        row[score_column(validator)] = _number(record, f"scores.{validator}")
    for selection in SELECTIONS:
        for metric in METRICS:
            where = f"accuracy.{selection}.{metric}"
            accuracy = _number(record, where)
            if accuracy < 0 or accuracy > 100:
                raise DamagedRecordError(f"{where} is {accuracy:g}, not a percentage")
            row[accuracy_column(selection, metric)] = accuracy
    return row


def _is_labelled(record: dict[str, Any]) -> bool:
    """Whether the target had labels; where it had none, the record says null of the last epoch."""
    accuracy = _field(record, "accuracy")
    return not (isinstance(accuracy, dict) and "last" in accuracy and accuracy["last"] is None)


def _run_directories(paths: Sequence[Path]) -> Iterator[Path]:
    """Each run directory once, sorted, whichever of the paths lead to it."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            state = "is not a directory" if path.exists() else "does not exist"
            raise ResultsError(
                f"{path} {state}; give an out directory of runs or one run's directory"
            )
        try:
            candidates = [path] if _is_run(path) else sorted(path.iterdir())
        except OSError as error:
            raise ResultsError(f"cannot read {path}: {error.strerror}") from None
        for candidate in candidates:
            if _is_run(candidate):
                found.setdefault(candidate.resolve(), candidate)
    yield from found.values()


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in ("record.json", "failure.json", "config.yaml"))


def _field(record: dict[str, Any], where: str) -> Any:
    """The value at a dotted path, None where any part of the path is absent or null."""
    value: Any = record
    for key in where.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _text(record: dict[str, Any], where: str) -> str:
    value = _field(record, where)
    if not isinstance(value, str) or not value:
        raise DamagedRecordError(f"{where} is missing or not a text")
    return value


def _integer(record: dict[str, Any], where: str) -> int:
    value = _field(record, where)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DamagedRecordError(f"{where} is missing or not an integer")
    return value


def _number(record: dict[str, Any], where: str) -> float:
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
