"""Differences between a reference and each other method, paired over tasks and seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from results.aggregate import gap_notes
from results.comparison import Comparison, Setting, comparisons
from results.records import Records, plural
from results.schema import METRICS, SELECTIONS, accuracy_column
from results.statistics import CONFIDENCE, holm, mean_interval, signed_rank, smallest_p

REFERENCE = "itmc"
# Percentages of the same counts may differ in their last bits: that is neither a win nor a rank.
DIGITS = 9


@dataclass(frozen=True)
class Difference:
    """The reference minus a method, in points, over the (task, seed) that both have.

    NaN stands for what does not exist: all figures without a pair, interval and p of one pair,
    the interval where all differences are alike.

    Attributes:
        method, label, group: of the method that the reference is compared with.
        low, high: the bootstrap confidence interval of the mean.
        won, tied, lost: pairs, from the side of the reference.
        p: of Wilcoxon's signed-rank test (two-sided).
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
    holm: float


@dataclass(frozen=True)
class Differences:
    """One setting: the differences between the reference and the others, by compression.

    Attributes:
        reference, label: name and label of the method that the others are subtracted from.
        confidence: of the intervals.
    """

    setting: Setting
    selection: str
    metric: str
    reference: str
    label: str
    confidence: float
    blocks: tuple[tuple[float, tuple[Difference, ...]], ...]
    notes: tuple[str, ...]

    def caption(self) -> str:
        """Suite, what is subtracted from what, metric, network, protocol and selection."""
        return (
            f"{self.setting.suite}: {self.label} minus each method, in points of "
            f"{METRICS[self.metric]}, {self.setting.describe()}, "
            f"selection: {SELECTIONS[self.selection]}; paired over tasks and seeds"
        )


def difference(
    pairs: pd.DataFrame, method: str, label: str, group: str, confidence: float = CONFIDENCE
) -> Difference:
    """Compare the reference with a method; `holm` is the p of this comparison alone.

    Interval and test take the pairs, a task and a seed each, for independent. The tasks are those
    of the suite; what is left to chance are the seeds (weights, batches, augmentations; Bouthillier
    et al. 2021, "Accounting for variance in machine learning benchmarks"). To resample seeds within
    tasks (Efron and Tibshirani 1993, chapter 8) would use that, but two or three seeds a task do
    not tell how they scatter: in simulations of 3 tasks by 3 seeds such intervals of 95 % covered
    78 % to 84 % as they are, and 86 % to 94 % expanded, by how alike the tasks scatter; with 2
    seeds 65 % to 80 %. Whole tasks as the unit would need many. Over all pairs the expanded
    interval covered 95 % where all tasks have the same mean difference; where they have not, it is
    wider than the seeds alone would make it, and covered 98 % to 99 %. It says nothing of tasks
    that are not in the suite.

    Args:
        pairs: a row a pair, with columns `task`, `seed`, `reference` and `method` (accuracies).
        method, label, group: of the method.
        confidence: of the interval, in (0, 1).
    """
    values = (pairs["reference"] - pairs["method"]).to_numpy(dtype=float).round(DIGITS)
    low, high = mean_interval(values, confidence)
    p = signed_rank(values)
    return Difference(
        method=method,
        label=label,
        group=group,
        pairs=len(values),
        tasks=pairs["task"].nunique(),
        seeds=pairs["seed"].nunique(),
        mean=float(values.mean()) if len(values) else math.nan,
        low=low,
        high=high,
        won=int((values > 0).sum()),
        tied=int((values == 0).sum()),
        lost=int((values < 0).sum()),
        p=p,
        holm=p,
    )


def differences(
    records: Records,
    reference: str = REFERENCE,
    selection: str | None = None,
    metric: str = "overall",
    confidence: float = CONFIDENCE,
    others: Collection[str] | None = None,
) -> tuple[Differences, ...]:
    """The differences of each setting that has the reference and one of the others.

    Args:
        records: the runs.
        reference: name of a compressed method; a variant is named as in the CSV of tables.
        selection: a key of `schema.SELECTIONS`; None for each protocol's own.
        metric: a key of `schema.METRICS`.
        confidence: of the intervals, in (0, 1).
        others: names of methods to compare it with; None for all that compress. One that does
            not stands beside each compression with the same runs.
    """
    made = []
    for comparison in comparisons(records.frame, records.missing):
        compressed = comparison.compressed()
        asked = compressed if others is None else others
        there = [*comparison.uncompressed(), *compressed]
        compared = [method for method in there if method in asked and method != reference]
        if reference in compressed and compared:
            chosen = comparison.setting.selection(selection)
            blocks = _blocks(comparison, reference, compared, chosen, metric, confidence)
            made.append(
                Differences(
                    setting=comparison.setting,
                    selection=chosen,
                    metric=metric,
                    reference=reference,
                    label=comparison.describe(reference)[0],
                    confidence=confidence,
                    blocks=blocks,
                    notes=(
                        *_notes([row for _, rows in blocks for row in rows], confidence),
                        *_uncompressed_note(comparison, compared),
                        *gap_notes(comparison, records),
                    ),
                )
            )
    return tuple(made)


def accuracies(
    comparison: Comparison, selection: str, metric: str, compression: float
) -> pd.DataFrame:
    """Percent, a row a (task, seed) and a column a method; NaN where there is none.

    What compresses nothing has the same column whatever the compression.
    """
    uncompressed, frame = comparison.uncompressed(), comparison.frame
    runs = frame[(frame["compression"] == compression) | frame["method"].isin(uncompressed)]
    wide = runs.pivot(
        index=["task", "seed"], columns="method", values=accuracy_column(selection, metric)
    )
    return wide.astype(float).reindex(columns=[*uncompressed, *comparison.compressed()])


def _blocks(
    comparison: Comparison,
    reference: str,
    others: Sequence[str],
    selection: str,
    metric: str,
    confidence: float,
) -> tuple[tuple[float, tuple[Difference, ...]], ...]:
    """By compression: a row a method."""
    blocks = []
    for compression in comparison.compressions():
        if compression == 0:
            continue
        values = accuracies(comparison, selection, metric, compression)
        rows = []
        for method in others:
            both = values[[reference, method]].dropna().set_axis(["reference", "method"], axis=1)
            label, group = comparison.describe(method)
            rows.append(difference(both.reset_index(), method, label, group, confidence))
        corrected = holm([row.p for row in rows])
        found = tuple(replace(row, holm=p) for row, p in zip(rows, corrected, strict=True))
        blocks.append((compression, found))
    return tuple(blocks)


def _uncompressed_note(comparison: Comparison, compared: Collection[str]) -> list[str]:
    there = [method for method in comparison.uncompressed() if method in compared]
    if not there:
        return []
    labels = ", ".join(comparison.describe(method)[0] for method in there)
    return [f"Uncompressed, with the same runs beside each compression: {labels}."]


def _notes(rows: Sequence[Difference], confidence: float) -> list[str]:
    """How to read the figures, and why some are not there."""
    notes = [
        "Interval: bootstrap over the pairs (expanded percentiles); p: Wilcoxon's signed-rank "
        "test, two-sided; Holm: p corrected for the methods compared at the same compression. "
        "All hold for these tasks, not for others."
    ]
    notes += [
        f"With {pairs} pairs p is {least:g} at least, and no interval covers more than "
        f"{100 * (1 - least):g} %."
        for pairs in sorted({row.pairs for row in rows if row.pairs > 1})
        if (least := smallest_p(pairs)) > 1 - confidence
    ]
    missing = sum(row.pairs == 0 for row in rows)
    single = sum(row.pairs == 1 for row in rows)
    alike = sum(row.pairs > 1 and math.isnan(row.low) for row in rows)
    if missing:
        notes.append(f"{plural(missing, 'row')} without a pair in common with the reference.")
    if single:
        notes.append(f"{plural(single, 'row')} of n = 1 pair: no interval and no p.")
    if alike:
        notes.append(
            f"{plural(alike, 'row')} whose differences are all alike: no spread, so no interval."
        )
    return notes
