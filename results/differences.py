"""Differences between each method and a reference, paired over tasks and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from scipy import stats

from results.aggregate import gap_notes
from results.comparison import Comparison, Setting, comparisons
from results.records import Records, plural
from results.schema import METRICS, SELECTIONS, accuracy_column

REFERENCE = "itmc"
CONFIDENCE = 0.95
# Percentages of the same counts may differ in their last bits: that is neither a win nor a spread.
_DIGITS = 9


@dataclass(frozen=True)
class Difference:
    """A method minus the reference, in points, over the (task, seed) that both have.

    NaN stands for what does not exist: all figures without a pair, interval and p where
    the differences have no spread (one pair, or all alike).

    Attributes:
        low, high: the t confidence interval of the mean.
        won, tied, lost: pairs, from the side of the method.
        p: of the paired t-test (two-sided).
        holm: p corrected for all methods of the block that have one.
    """

    method: str
    label: str
    group: str
    pairs: int
    tasks: int
    seeds: int
    mean: float
    low: float
    high: float
    won: int
    tied: int
    lost: int
    p: float
    holm: float = math.nan


@dataclass(frozen=True)
class Differences:
    """One setting: the differences from the reference, by compression."""

    setting: Setting
    selection: str
    metric: str
    reference: str
    label: str
    confidence: float
    blocks: tuple[tuple[float, tuple[Difference, ...]], ...]
    notes: tuple[str, ...]

    def caption(self) -> str:
        """Suite, metric, network, protocol and selection."""
        return (
            f"{self.setting.suite}: difference from {self.label} in points of "
            f"{METRICS[self.metric]}, {self.setting.describe()}, "
            f"selection: {SELECTIONS[self.selection]}; paired over tasks and seeds"
        )


def difference(
    pairs: pd.DataFrame, method: str, label: str, group: str, confidence: float = CONFIDENCE
) -> Difference:
    """Compare a method with the reference.

    The test is the paired t-test, the one that agrees with the interval: p < 0.05 just where the
    95 % interval leaves out 0. Wilcoxon's signed-rank test, which asks less of the
    distribution, cannot go below p = 2 ** (1 - n): with the three to five pairs of a small suite
    it finds nothing, however large the difference. Both take the pairs for independent; those of
    one task are not quite, so that p is rather too small where there are few tasks.

    Args:
        pairs: a row a pair, with columns `task`, `seed`, `method` and `reference` (accuracies).
        method, label, group: of the method.
        confidence: of the interval, in (0, 1).
    """
    values = (pairs["method"] - pairs["reference"]).astype(float).round(_DIGITS)
    low = high = p = math.nan
    if values.nunique() > 1:
        test = stats.ttest_1samp(values.to_numpy(), 0.0)
        low, high = map(float, test.confidence_interval(confidence))
        p = float(test.pvalue)
    return Difference(
        method=method,
        label=label,
        group=group,
        pairs=len(values),
        tasks=pairs["task"].nunique(),
        seeds=pairs["seed"].nunique(),
        mean=float(values.mean()),
        low=low,
        high=high,
        won=int((values > 0).sum()),
        tied=int((values == 0).sum()),
        lost=int((values < 0).sum()),
        p=p,
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of several p-values; NaN is no test and stays NaN."""
    tested = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    corrected = [math.nan] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[place] = highest
    return corrected


def differences(
    records: Records,
    reference: str = REFERENCE,
    selection: str | None = None,
    metric: str = "overall",
    confidence: float = CONFIDENCE,
) -> tuple[Differences, ...]:
    """The differences of each setting that has the reference and another compressed method.

    Args:
        records: the runs.
        reference: name of a compressed method; a variant is named as in the CSV of tables.
        selection: a key of `records.SELECTIONS`; None for each protocol's own.
        metric: a key of `records.METRICS`.
        confidence: of the intervals, in (0, 1).
    """
    return tuple(
        _of_setting(comparison, records, reference, selection, metric, confidence)
        for comparison in comparisons(records.frame)
        if reference in comparison.compressed() and len(comparison.compressed()) > 1
    )


def _of_setting(
    comparison: Comparison,
    records: Records,
    reference: str,
    selection: str | None,
    metric: str,
    confidence: float,
) -> Differences:
    chosen = comparison.setting.selection(selection)
    wide = comparison.frame.pivot(
        index=["compression", "task", "seed"],
        columns="method",
        values=accuracy_column(chosen, metric),
    )
    others = [method for method in comparison.compressed() if method != reference]
    blocks = []
    for compression in comparison.compressions():
        if compression == 0:
            continue
        of_block = wide.xs(compression, level="compression")
        rows = []
        for method in others:
            both = of_block[[method, reference]].dropna().set_axis(["method", "reference"], axis=1)
            label, group = comparison.describe(method)
            rows.append(difference(both.reset_index(), method, label, group, confidence))
        corrected = holm([row.p for row in rows])
        found = tuple(replace(row, holm=p) for row, p in zip(rows, corrected, strict=True))
        blocks.append((compression, found))
    return Differences(
        setting=comparison.setting,
        selection=chosen,
        metric=metric,
        reference=reference,
        label=comparison.describe(reference)[0],
        confidence=confidence,
        blocks=tuple(blocks),
        notes=(
            *_notes([row for _, rows in blocks for row in rows]),
            *gap_notes(comparison, records),
        ),
    )


def _notes(rows: Sequence[Difference]) -> list[str]:
    """How to read the figures, and why some are not there."""
    notes = [
        "p: paired t-test, two-sided; Holm: p corrected for the methods tested at the same "
        "compression. Pairs of one task are not independent, so p is rather too small where there "
        "are few tasks."
    ]
    missing = sum(row.pairs == 0 for row in rows)
    single = sum(row.pairs == 1 for row in rows)
    alike = sum(row.pairs > 1 and math.isnan(row.p) for row in rows)
    if missing:
        notes.append(f"{plural(missing, 'row')} without a pair in common with the reference.")
    if single:
        notes.append(f"{plural(single, 'row')} of n = 1 pair: no interval and no p.")
    if alike:
        notes.append(
            f"{plural(alike, 'row')} whose differences are all alike: no spread, so no interval "
            "and no p."
        )
    return notes
