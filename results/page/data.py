"""What the page's scripts show: settings, methods, runs, entries and curves, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from results.looks import looks


@dataclass(frozen=True)
class SettingData:
    """A setting in words.

    Attributes:
        selection: how the epoch was chosen.
        training, data: how networks were trained and images prepared, as JSON texts.
        digest: of the data; empty where its tasks have digests of their own.
    """

    title: str
    suite: str
    backbone: str
    protocol: str
    selection: str
    tasks: tuple[str, ...]
    training: str
    data: str
    digest: str


@dataclass(frozen=True)
class MethodData:
    """A method as it is named in its setting."""

    name: str
    label: str
    group: str
    citation: str


@dataclass(frozen=True)
class RunData:
    """A run behind an entry; `commit`, `command`, `finished` and `knobs` are places in `texts`."""

    record: str
    task: str
    seed: int
    commit: int
    command: int
    finished: int
    knobs: int


@dataclass(frozen=True)
class EntryData:
    """An entry of the standings; setting, method and runs are places in their tables."""

    setting: int
    method: int
    task: str
    compression: float
    mean: float
    sd: float
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    removed: float
    macs: float
    parameters: float
    bytes: float
    activations: float
    latency_1: float
    latency_32: float
    device: str
    threads: int | None
    runs: tuple[int, ...]


@dataclass(frozen=True)
class CurveData:
    """A run's target accuracy after each epoch.

    Attributes:
        run: its place among the runs.
        accuracy: in percent.
        events: epochs, from 0, that ended with channels removed.
        starts: each kind of stage and the epoch, from 0, that it begins with.
    """

    run: int
    accuracy: tuple[float, ...]
    events: tuple[int, ...]
    starts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PageData:
    """All that the scripts of the page show.

    Attributes:
        metric: what accuracies are, in words.
        texts: that runs refer to by their places.
        curves_left_out: of how many runs the curves are not in the page, for want of room.
    """

    metric: str
    settings: tuple[SettingData, ...]
    methods: tuple[MethodData, ...]
    runs: tuple[RunData, ...]
    entries: tuple[EntryData, ...]
    curves: tuple[CurveData, ...]
    texts: tuple[str, ...]
    curves_left_out: int

    def as_json(self) -> dict[str, Any]:
        """Tables as rows under the names of their columns; null where there is no number."""
        drawn = looks(method.name for method in self.methods)
        methods = _table(self.methods)
        methods["columns"] += ["colour", "marker"]
        for row, method in zip(methods["rows"], self.methods, strict=True):
            row += [drawn[method.name].colour, drawn[method.name].marker]
        return {
            "metric": self.metric,
            "texts": self.texts,
            "settings": _table(self.settings),
            "methods": methods,
            "runs": _table(self.runs),
            "entries": _table(self.entries),
            "curves": _table(self.curves),
        }


class Texts:
    """Texts that many runs share, each once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Where the text stands among all; it is added where it is new."""
        return self._places.setdefault(text, len(self._places))

    def all(self) -> tuple[str, ...]:
        """The texts, by place."""
        return tuple(self._places)


def _table(items: Sequence[Any]) -> dict[str, list[Any]]:
    """Dataclasses of one kind as rows under the names of their fields."""
    names = [field.name for field in fields(items[0])] if items else []
    return {
        "columns": names,
        "rows": [[_plain(getattr(item, name)) for name in names] for item in items],
    }


def _plain(value: Any) -> Any:
    """As JSON has it: no NaN, and whole numbers without a decimal point."""
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return int(value) if value == int(value) else value
