"""What a record says besides its row: the history of the student, and its widths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.schema import SCHEMA, DamagedRecordError, parse

GUIDANCE = ("teacher", "agrees_right", "agrees_wrong")


@dataclass(frozen=True)
class Details:
    """What is too much for a frame of many runs; read run by run, where it is shown.

    Attributes:
        stage: the kind of stage of each of the student's epochs, those of earlier stages first.
        accuracy: by key of `schema.METRICS`, after each epoch, in percent; None where the target
            has no labels. Empty, as `stage` and `removed`, where the record has no history.
        removed: share of MACs removed after each epoch, in [0, 1).
        guidance: after each epoch the teacher's accuracy (`teacher`), and of the images that it has
            right (`agrees_right`) and wrong (`agrees_wrong`) those where the student says the same,
            in percent; None where no teacher was judged, empty where none ever was.
        layers: outputs of each convolution and linear layer, in the order of the network: kept,
            and of how many; empty where the record has none.
    """

    stage: tuple[str, ...]
    accuracy: Mapping[str, tuple[float | None, ...]]
    removed: tuple[float, ...]
    guidance: Mapping[str, tuple[float | None, ...]]
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
            f"history or compression.layers is not as schema {SCHEMA} has it"
        ) from None


def _details(record: dict[str, Any]) -> Details:
    history = record.get("history") or {"stage": (), "overall": (), "mean_class": (), "removed": ()}
    layers = record["compression"].get("layers") or {}
    accuracy = {name: _percent(history[name]) for name in ("overall", "mean_class")}
    guidance = {name: _percent(history[name]) for name in GUIDANCE if name in history}
    removed = tuple(map(float, history["removed"]))
    stage = tuple(map(str, history["stage"]))
    if {len(removed), *map(len, [*accuracy.values(), *guidance.values()])} != {len(stage)}:
        raise ValueError("columns of different lengths")
    widths = {str(name): (int(kept), int(of)) for name, (kept, of) in layers.items()}
    return Details(stage, accuracy, removed, guidance, widths)


def _percent(column: Iterable[Any]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in column)
