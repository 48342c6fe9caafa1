"""Leaderboards in the place of runs: the rows of `records.Records` that they were made of."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from results.entry import Entry
from results.leaderboard_file import read_file
from results.records import Records, ResultsError, default_selection, plural
from results.schema import AVERAGE, accuracy_column, blank_row

# Above any number of editions, so that these count upwards as times do.
_EDITIONS = 10**6
# Columns of rows that entries have under the same names.
_SAME = (
    *("suite", "dataset", "protocol", "backbone", "weights", "setting", "task", "compression"),
    *("method", "group", "label", "unpruned"),
)
# Figures of a run, by the mean over seeds that leaderboards of an older version have of them.
_FROM_MEANS = {
    **{f"student_{name}": name for name in ("macs", "parameters", "activations", "bytes")},
    **{f"student_{name}": name for name in ("latency_1", "latency_32")},
    "student_latency_threads": "threads",
}


def read_leaderboards(paths: Sequence[Path]) -> tuple[Records, tuple[Entry, ...]]:
    """The runs behind leaderboards, with the accuracies by which these were made, and the entries.

    A leaderboard of an older version has means over seeds for figures of cost: they stand for each
    seed.

    Raises:
        ResultsError: a file is no leaderboard, or two have the same rows, or the averages of one
            are not over the tasks that it has.
    """
    found: dict[tuple[Any, ...], Entry] = {}
    for path in paths:
        entries = read_file(path)
        if any(entry.key() in found for entry in entries):
            raise ResultsError(f"{path} has rows that stand in another of the leaderboards too")
        check_averages(path, entries)
        found |= {entry.key(): entry for entry in entries}
    entries = tuple(found.values())
    return replace(records_of(entries), leaderboards=tuple(paths)), entries


def records_of(entries: Iterable[Entry]) -> Records:
    """The runs behind entries; averages are left out, for runs give them.

    Raises:
        ResultsError: there is nothing but averages.
    """
    rows = [row for entry in entries if entry.task != AVERAGE for row in _rows(entry)]
    if not rows:
        raise ResultsError("a leaderboard of averages only: the rows of their tasks are missing")
    frame = pd.DataFrame(rows)
    return Records(frame, frame.iloc[:0])


def choice(entries: Sequence[Entry], selection: str | None, metric: str) -> tuple[str | None, str]:
    """Selection and metric of the accuracies in these entries, as for the records of runs.

    Args:
        entries: of leaderboards.
        selection: what was asked for; None for what the entries have.
        metric: the same; `overall` for what they have.

    Raises:
        ResultsError: they are others than were asked for, or several.
    """
    metrics = {entry.metric for entry in entries}
    if metrics != {metric} and (metric != "overall" or len(metrics) > 1):
        raise ResultsError(f"leaderboards by {_named(metrics)}, not by {metric}: give the runs")
    selections = {entry.selection for entry in entries}
    own = all(entry.selection == default_selection(entry.protocol) for entry in entries)
    if selection is None and own:
        return None, metrics.pop()
    if selections != {selection or min(selections)}:
        asked = f", not by {selection}" if selection else ""
        raise ResultsError(f"leaderboards by {_named(selections)}{asked}: give the runs")
    return selections.pop(), metrics.pop()


def _named(words: Iterable[str]) -> str:
    return " and ".join(sorted(words))


def check_averages(path: Path, entries: Iterable[Entry]) -> None:
    """Averages must be those that the rows of the tasks give, else tables would show others.

    Raises:
        ResultsError: they are not; `path` is what holds the entries.
    """
    settings: dict[tuple[Any, ...], dict[tuple[str, float], dict[str, set[int]]]] = {}
    for entry in entries:
        cells = settings.setdefault((*entry.where(), entry.edition), defaultdict(dict))
        of_cell = cells[entry.method, entry.compression]
        if entry.task in of_cell:
            raise ResultsError(
                f"{path}: {entry.label} on {entry.task} is of several versions of the data"
            )
        of_cell[entry.task] = set(entry.seeds)
    for cells in settings.values():
        tasks = {task for of_cell in cells.values() for task in of_cell} - {AVERAGE}
        if not tasks:
            raise ResultsError(f"{path} has averages only: the rows of their tasks are missing")
        for (method, compression), of_cell in cells.items():
            told = of_cell.pop(AVERAGE, set())
            given = set.intersection(*of_cell.values()) if of_cell.keys() == tasks else set()
            if told != given:
                raise ResultsError(
                    f"{path}: {method} at compression {compression:g} has an average of "
                    f"{plural(len(told), 'seed')}, where its {plural(len(tasks), 'task')} give one "
                    f"of {len(given)}: the grid was not finished, or lines are missing"
                )


def _rows(entry: Entry) -> Iterator[dict[str, Any]]:
    """A row a seed, as `schema.row_of` makes them of records."""
    shared = blank_row() | {
        **{name: getattr(entry, name) for name in _SAME},
        **{name: _or_nan(getattr(entry, name)) for name in ("bottleneck", "image_size", "epochs")},
        "digest": entry.data,
        "task_index": _or_nan(entry.place),
        # Editions are told apart by which of them finished last.
        "finished": f"{_EDITIONS - entry.edition:07d}",
    }
    column = accuracy_column(entry.selection, entry.metric)
    for place, (seed, accuracy) in enumerate(zip(entry.seeds, entry.accuracies, strict=True)):
        record = entry.records[place]
        yield {
            **shared,
            **_figures(entry, place),
            **dict(zip(("device", "machine"), _device(entry, place), strict=True)),
            **{"seed": seed, column: accuracy, "record": record, "run": record},
        }


def _figures(entry: Entry, place: int) -> dict[str, float]:
    if entry.figures:
        return {name: values[place] for name, values in entry.figures.items()}
    means = {name: _or_nan(getattr(entry, mean)) for name, mean in _FROM_MEANS.items()}
    return {"reached": entry.removed / 100, **means}


def _device(entry: Entry, place: int) -> tuple[str, str]:
    """Device, and processor architecture where it is known."""
    if not entry.devices:
        return entry.device, ""
    device, bracket, machine = entry.devices[place].removesuffix(")").rpartition(" (")
    return (device, machine) if bracket else (entry.devices[place], "")


def _or_nan(figure: float | None) -> float:
    return math.nan if figure is None else float(figure)
