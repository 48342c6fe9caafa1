"""What a record says besides its row: the history of the student, and its widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.schema import DamagedRecordError, parse


@dataclass(frozen=True)
class Details:
    """What is too much for a frame of many runs; read run by run, where it is shown.

    Attributes:
        stage: the kind of stage of each of the student's epochs, those of earlier stages first.
        accuracy: by key of `schema.METRICS`, after each epoch, in percent; None where the target
            has no labels. Empty, as `stage` and `removed`, where the record has no history.
        removed: share of MACs removed after each epoch, in [0, 1).
        layers: outputs of each convolution and linear layer, in the order of the network: kept,
            and of how many; empty where the record has none.
    """

    stage: tuple[str, ...]
    accuracy: Mapping[str, tuple[float | None, ...]]
    removed: tuple[float, ...]
    layers: Mapping[str, tuple[int, int]]

    def events(self) -> tuple[int, ...]:
        """The epochs, from 0, that ended with fewer MACs than they began with (or began so)."""
        before = (0.0, *self.removed)
        # An epoch without an event leaves the same MACs, up to rounding in the record.
        return tuple(e for e, now in enumerate(self.removed) if now > before[e] + 1e-4)


def read_details(path: Path) -> Details:
    """The details of a record, of whatever schema.

    Raises:
        DamagedRecordError: it cannot be read, or these parts of it are wrong.
    """
    try:
        record = parse(path.read_bytes())
    except OSError as error:
        raise DamagedRecordError(f"not readable ({error.strerror})") from None
    try:
        return _details(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedRecordError(
            "history or compression.layers is not as schema 3 has it"
        ) from None


def _details(record: dict[str, Any]) -> Details:
    history = record.get("history") or {"stage": (), "overall": (), "mean_class": (), "removed": ()}
    layers = record["compression"].get("layers") or {}
    columns = {name: tuple(history[name]) for name in ("overall", "mean_class", "removed")}
    stage = tuple(map(str, history["stage"]))
    if {len(column) for column in columns.values()} != {len(stage)}:
        raise ValueError("columns of different lengths")
    removed = tuple(map(float, columns.pop("removed")))
    accuracy = {
        name: tuple(None if value is None else float(value) for value in column)
        for name, column in columns.items()
    }
    widths = {str(name): (int(kept), int(of)) for name, (kept, of) in layers.items()}
    return Details(stage, accuracy, removed, widths)
