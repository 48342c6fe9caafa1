"""What changed between two standings, row by row, with the difference and its interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from results.entry import Entry
from results.records import ResultsError
from results.standings import ordered
from results.statistics import CONFIDENCE

# Points: less than a few seeds tell apart on most tasks, and more than rounding ever makes.
TOLERANCE = 0.5
BETTER, WORSE, SAME, NEW, GONE = "better", "worse", "same", "new", "gone"
VERDICTS = (WORSE, BETTER, SAME, NEW, GONE)
# Percentages of the same counts may differ in their last bits: that is no change.
_DIGITS = 9
_UNLIKE = "each row differs from all others in something that identifies it"


@dataclass(frozen=True)
class Cost:
    """A figure of cost of which changes are told.

    Attributes:
        name: the attribute of `Entry`.
        least: the smallest relative change worth a word. A student's MACs vary with its seed by as
            much as the budget allows, and times vary from one measurement to the next.
        timed: whether it can be compared only on the same device.
    """

    name: str
    words: str
    least: float
    timed: bool = False


COSTS = (
    Cost("macs", "MACs", 0.01),
    Cost("latency_1", "latency of 1", 0.1, timed=True),
    Cost("latency_32", "latency of 32", 0.1, timed=True),
)


@dataclass(frozen=True)
class Shift:
    """New minus old, in points.

    Attributes:
        low, high: the t confidence interval; NaN where there is no spread to tell it from.
        pairs: the seeds that both sides have, over which the difference is paired; 0 where they
            share none, and the means of all seeds are compared.
    """

    mean: float
    low: float
    high: float
    pairs: int

    def is_within_noise(self) -> bool:
        """Whether there is an interval, and it includes 0."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Change:
    """What became of a row; `old` or `new` is None where there was or is none."""

    old: Entry | None
    new: Entry | None
    difference: Shift | None
    verdict: str

    @property
    def entry(self) -> Entry:
        """The row as it is now, or as it was."""
        entry = self.new or self.old
        assert entry is not None
        return entry

    def costs(self) -> Iterator[tuple[Cost, float]]:
        """Costs that changed by enough to be told, with their relative change."""
        if self.old is None or self.new is None:
            return
        places = [(entry.device, entry.threads) for entry in (self.old, self.new)]
        timed_alike = self.new.device != "" and places[0] == places[1]
        for cost in COSTS:
            before, after = (float(getattr(entry, cost.name)) for entry in (self.old, self.new))
            if (cost.timed and not timed_alike) or not before > 0:
                continue
            change = after / before - 1
            if abs(change) >= cost.least:
                yield cost, change

    def lost_seeds(self) -> tuple[int, ...]:
        """The seeds that were there and are there no more, of a row that still is."""
        if self.old is None or self.new is None:
            return ()
        return tuple(seed for seed in self.old.seeds if seed not in self.new.seeds)

    def is_exact(self) -> bool:
        """Whether the row is as it was, seed by seed; only what was timed may differ."""
        if self.old is None or self.new is None:
            return False
        names = ("seeds", "accuracies", "removed", "macs", "parameters", "activations", "bytes")
        before, after = ([getattr(e, name) for name in names] for e in (self.old, self.new))
        # As text, in which what no record tells is alike on both sides.
        return str(before) == str(after)

    def is_notable(self) -> bool:
        """Whether there is anything to tell of the row."""
        if self.old is not None and self.new is not None and self.old.seeds != self.new.seeds:
            return True
        return self.verdict != SAME or any(self.costs())


@dataclass(frozen=True)
class Changes:
    """All rows of both sides; `tolerance` is in points, `confidence` in (0, 1)."""

    rows: tuple[Change, ...]
    tolerance: float
    confidence: float

    def count(self, *verdicts: str) -> int:
        """How many rows have one of these verdicts."""
        return sum(row.verdict in verdicts for row in self.rows)


def compare(
    old: Sequence[Entry],
    new: Sequence[Entry],
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
) -> Changes:
    """Match the rows by what they are of, and judge each.

    A row is worse where its accuracy fell by more than the tolerance, better where it rose by more
    than that, else the same. The interval does not enter the verdict: with one seed there is none,
    and a loss that noise could explain is a loss all the same. It tells how sure the verdict is.

    Args:
        old, new: entries, each without two of the same key.
        tolerance: in points, at least 0.
        confidence: of the intervals, in (0, 1).

    Raises:
        ResultsError: no row is in both.
    """
    before, after = ({entry.key(): entry for entry in side} for side in (old, new))
    if not before.keys() & after.keys():
        raise ResultsError(f"OLD and NEW have no row in common: {apart(old, new) or _UNLIKE}")
    present = {**before, **after}
    # In the order of the side that has more of them, which more likely is the suite's.
    sides = sorted(([entry.task for entry in side] for side in (new, old)), key=_distinct)
    tasks = [*sides[1], *sides[0]]
    rows = (
        _change(before.get(entry.key()), after.get(entry.key()), tolerance, confidence)
        for entry in ordered(present.values(), tasks)
    )
    return Changes(tuple(rows), tolerance, confidence)


def difference(old: Entry, new: Entry, confidence: float = CONFIDENCE) -> Shift:
    """New minus old: paired over the seeds in common, where there is any, else of the means.

    The interval is Student's t over the paired differences (n - 1 degrees of freedom), and without
    pairs Welch's (The generalization of 'Student's' problem when several different population
    variances are involved, Biometrika 34, 1947, pages 28 to 35), which lets the two sides spread
    differently. Both hold from two seeds on; a bootstrap of two to five values is too narrow.
    """
    before = dict(zip(old.seeds, old.accuracies, strict=True))
    pairs = [
        round(value - before[seed], _DIGITS)
        for seed, value in zip(new.seeds, new.accuracies, strict=True)
        if seed in before
    ]
    if pairs:
        centre = statistics.fmean(pairs)
        error, freedom = _standard_error(pairs), float(len(pairs) - 1)
    else:
        centre = statistics.fmean(new.accuracies) - statistics.fmean(old.accuracies)
        first, second = _standard_error(old.accuracies), _standard_error(new.accuracies)
        error = math.hypot(first, second)
        freedom = math.nan
        if error > 0:
            freedom = error**4 / (first**4 / (old.n - 1) + second**4 / (new.n - 1))
    half = _quantile(confidence, freedom) * error if error > 0 else math.nan
    centre = round(centre, _DIGITS)
    return Shift(centre, centre - half, centre + half, len(pairs))


def _distinct(tasks: Sequence[str]) -> int:
    return len(set(tasks))


def _standard_error(values: Sequence[float]) -> float:
    """Of the mean; NaN for one value."""
    if len(values) < 2:
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


@cache
def _quantile(confidence: float, freedom: float) -> float:
    """Of the t distribution, two-sided."""
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _change(old: Entry | None, new: Entry | None, tolerance: float, confidence: float) -> Change:
    if old is None or new is None:
        return Change(old, new, None, NEW if old is None else GONE)
    found = difference(old, new, confidence)
    verdict = WORSE if found.mean < -tolerance else BETTER if found.mean > tolerance else SAME
    return Change(old, new, found, verdict)


def apart(old: Iterable[Entry], new: Iterable[Entry]) -> str:
    """In what no entry of one is like any of the other, in words; empty where there is nothing."""
    names = (
        *("suite", "protocol", "backbone", "weights", "bottleneck", "image_size", "epochs"),
        *("setting", "selection", "metric", "compression", "method", "task", "data"),
    )
    found = []
    for name in names:
        sides = [{str(getattr(entry, name)) for entry in side} for side in (old, new)]
        if not sides[0] & sides[1]:
            before, after = (_several(sorted(side)) for side in sides)
            found.append(f"{name} is {before} in OLD and {after} in NEW")
    return "; ".join(found)


def _several(values: Sequence[str]) -> str:
    """Up to three of the values."""
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")
