"""The file of a leaderboard: its columns, and how it is written and read.

A row an entry of `standings`, in its order, under the columns below. What identifies a row comes
first, with `tasks` (how many an average is of), and what was measured after it: `mean` and `sd`
(over seeds, percent), `seeds` and, in the same order and separated by spaces, the `accuracies` of
each; `removed` (percent of MACs), `macs`, `parameters`, `activations` and `bytes` of the student,
`latency_1` and `latency_32` (ms for a batch of 1 and of 32). What does not exist is empty.

Then what tables and plots need besides: `unpruned`, the `place` of the task, the `edition` of its
data, and the figures of each run, in the order of `seeds`, or one where all are alike: share of
MACs removed (`reached`), costs of the student, threads of its timing, training `images`, MACs
forward and backward, version of the training `code`, and `devices` between semicolons. Last the
hash of each seed's record.

A version that gives a column another meaning gives it another name.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.entry import FIGURES, LATENCY_DECIMALS, REMOVED_DECIMALS, Entry
from results.records import ResultsError, plural
from results.render import plain
from results.schema import ACCURACY_DECIMALS, METRICS, SELECTIONS

# Of mean and sd, which are for reading: those that compare take the accuracies.
_SHOWN = 2
# Stands for a figure that one of several seeds lacks.
_UNTOLD = "-"


@dataclass(frozen=True)
class Column:
    """A column of the file, named as the attribute of `Entry`.

    Attributes:
        text: the attribute as a cell.
        value: the attribute of a cell; raises ValueError with what the cell is not.
    """

    name: str
    text: Callable[[Any], str]
    value: Callable[[str], Any]


def _word(cell: str) -> str:
    if not cell:
        raise ValueError("is empty")
    return cell


def _one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def value(cell: str) -> str:
        if cell not in allowed:
            raise ValueError(f"{cell!r} is none of {', '.join(allowed)}")
        return cell

    return value


def _hashes(digits: int) -> Callable[[str], tuple[str, ...]]:
    def value(cell: str) -> tuple[str, ...]:
        if not re.fullmatch(rf"[0-9a-f]{{{digits}}}( [0-9a-f]{{{digits}}})*", cell):
            raise ValueError(f"{cell!r} is not hashes of {digits} hex digits")
        return tuple(cell.split(" "))

    return value


def _number(cell: str) -> float:
    """A number not below 0; none in an empty cell."""
    if not cell:
        return math.nan
    if not re.fullmatch(r"[0-9]{1,30}(\.[0-9]+)?(e-[0-9]+)?", cell):
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


def _whole(cell: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", cell):
        raise ValueError(f"{cell!r} is not a whole number")
    return int(cell)


def _count(cell: str) -> int:
    count = _whole(cell)
    if count < 1:
        raise ValueError(f"{cell!r} is not a number of seeds from 1 on")
    return count


def _share(cell: str) -> float:
    share = _number(cell)
    if not 0 <= share < 1:
        raise ValueError(f"{cell!r} is not a number in [0, 1)")
    return share


def _seeds(cell: str) -> tuple[int, ...]:
    seeds = tuple(map(_whole, _word(cell).split(" ")))
    if list(seeds) != sorted(set(seeds)):
        raise ValueError(f"{cell!r} is not ascending")
    return seeds


def _accuracies(cell: str) -> tuple[float, ...]:
    values = tuple(map(_number, _word(cell).split(" ")))
    if not all(0 <= value <= 100 for value in values):
        raise ValueError(f"{cell!r} is not percentages")
    return values


def _words(name: str) -> Column:
    return Column(name, str, _word)


def _maybe_words(name: str) -> Column:
    return Column(name, str, str)


def _maybe_whole(name: str) -> Column:
    return Column(
        name,
        lambda figure: "" if figure is None else str(figure),
        lambda cell: _whole(cell) if cell else None,
    )


def _figure(name: str, decimals: int = 0) -> Column:
    return Column(name, lambda value: plain(value, f".{decimals}f"), _number)


def _each(form: Callable[[Any], str]) -> Callable[[Sequence[Any]], str]:
    return lambda values: " ".join(map(form, values))


def _shortest(value: float) -> str:
    """Text that reads back the same."""
    if math.isnan(value):
        return _UNTOLD
    return f"{value:.0f}" if value == round(value) else repr(value)


def _by_seed(name: str) -> Column:
    """A figure of each seed."""

    def value(cell: str) -> tuple[float, ...]:
        words = cell.split(" ")
        return tuple(math.nan if word == _UNTOLD else _number(word) for word in words)

    def text(values: Sequence[float]) -> str:
        return "" if all(map(math.isnan, values)) else _alike(list(map(_shortest, values)), " ")

    return Column(name, text, value)


def _alike(words: Sequence[str], between: str) -> str:
    """The words, or the one that all are."""
    return words[0] if len(set(words)) == 1 else between.join(words)


# What tables and plots need besides; leaderboards of older versions had none of it.
ADDED = (
    _maybe_words("unpruned"),
    _maybe_whole("place"),
    Column("edition", str, _whole),
    *map(_by_seed, FIGURES),
    Column("devices", lambda places: _alike(places, "; "), lambda cell: tuple(cell.split("; "))),
)
COLUMNS = (
    *map(_words, ("suite",)),
    *map(_maybe_words, ("dataset",)),
    *map(_words, ("protocol", "backbone", "weights")),
    *map(_maybe_whole, ("bottleneck", "image_size", "epochs")),
    Column("setting", str, lambda cell: _hashes(8)(cell)[0]),
    _words("data"),
    Column("selection", str, _one_of(tuple(SELECTIONS))),
    Column("metric", str, _one_of(tuple(METRICS))),
    # 0.5, not 0.50 or 0.5000001: the shortest text that reads back the same.
    Column("compression", lambda share: repr(share).removesuffix(".0"), _share),
    *map(_words, ("group", "method", "label", "task")),
    Column("tasks", str, _whole),
    _figure("mean", _SHOWN),
    _figure("sd", _SHOWN),
    Column("n", str, _count),
    Column("seeds", _each(str), _seeds),
    Column("accuracies", _each(lambda value: f"{value:.{ACCURACY_DECIMALS}f}"), _accuracies),
    _figure("removed", REMOVED_DECIMALS),
    *map(_figure, ("macs", "parameters", "activations", "bytes")),
    *(_figure(name, LATENCY_DECIMALS) for name in ("latency_1", "latency_32")),
    _maybe_words("device"),
    _maybe_whole("threads"),
    *ADDED,
    Column("records", _each(str), _hashes(12)),
)
_COMPUTED = ("mean", "sd", "n")
_NAMES = [column.name for column in COLUMNS]
_OLDER = tuple(column for column in COLUMNS if column not in ADDED)


def text(standings: Sequence[Entry]) -> str:
    """The file of these entries, in their order."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_NAMES)
    for entry in standings:
        figures = {name: entry.figures.get(name, ()) for name in FIGURES}
        values = (figures.get(name, getattr(entry, name, None)) for name in _NAMES)
        writer.writerow([c.text(value) for c, value in zip(COLUMNS, values, strict=True)])
    return written.getvalue()


def read_file(path: Path) -> tuple[Entry, ...]:
    """The entries of a leaderboard; those of an older version have no figures by seed.

    Raises:
        ResultsError: it cannot be read, or is no leaderboard of this version, or is damaged.
    """
    try:
        # Spreadsheets put a mark in front of UTF-8.
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ResultsError(f"{path} is not a leaderboard: it is not text in UTF-8") from None
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    found: dict[tuple[Any, ...], Entry] = {}
    try:
        columns = _columns(next(reader, []), path)
        for row in filter(None, reader):  # without blank lines
            entry = _entry(row, columns)
            if entry.key() in found:
                raise ValueError("tells of the same as a line before it")
            found[entry.key()] = entry
    except (ValueError, csv.Error) as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}") from None
    if not found:
        raise ResultsError(f"{path} has no rows")
    return tuple(found.values())


def _columns(head: list[str], path: Path) -> tuple[Column, ...]:
    """The columns of this version or of the one before, whichever the file has."""
    for columns in (COLUMNS, _OLDER):
        if head == [column.name for column in columns]:
            return columns
    missing = [name for name in _NAMES if name not in head]
    if len(missing) == len(_NAMES):
        raise ResultsError(
            f"{path} is not a leaderboard; 'python -m results.leaderboard RUNS --out FILE' "
            "writes one"
        )
    unknown = [name for name in head if name not in _NAMES]
    faults = [
        *([f"without {', '.join(missing)}"] if missing else []),
        *([f"with {', '.join(map(repr, unknown))}"] if unknown else []),
    ]
    what = " and ".join(faults) or "in another order or repeated"
    raise ResultsError(
        f"{path}, line 1: not the columns of this version ({what}); read it with the version that "
        "wrote it, or make it anew with 'python -m results.leaderboard'"
    )


def _stretch(values: dict[str, Any]) -> None:
    """What stands once for all seeds, once a seed; raises ValueError where there are too few."""
    n = len(values["seeds"])
    for name in ("accuracies", "records", "devices", *FIGURES):
        found = values.get(name, ())
        if len(found) == 1 and name not in ("accuracies", "records"):
            values[name] = found * n
        elif len(found) not in (n, 0):
            raise ValueError(f"column {name}: {len(found)} for {plural(n, 'seed')}")


def _entry(row: Sequence[str], columns: Sequence[Column]) -> Entry:
    """The entry of a row.

    Raises:
        ValueError: which column is wrong, and how.
    """
    if len(row) != len(columns):
        raise ValueError(f"{plural(len(row), 'cell')}, expected {len(columns)}")
    values: dict[str, Any] = {}
    for column, cell in zip(columns, row, strict=True):
        try:
            values[column.name] = column.value(cell)
        except ValueError as error:
            raise ValueError(f"column {column.name}: {error}") from None
    told = {name: values.pop(name) for name in _COMPUTED}
    _stretch(values)
    figures = {name: values.pop(name) for name in FIGURES if name in values}
    entry = Entry(**values, figures=figures)
    for name, value in told.items():
        # A file that was edited by hand, in one place only.
        computed = getattr(entry, name)
        if plain(value, f".{_SHOWN}f") != plain(computed, f".{_SHOWN}f"):
            raise ValueError(
                f"column {name}: {plain(value, 'g') or 'nothing'} where the accuracies give "
                f"{plain(computed, f'.{_SHOWN}f') or 'nothing'}"
            )
    return entry
