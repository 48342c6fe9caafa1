"""Average ranks of methods over tasks and seeds, and which of them cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from results import statistics
from results.comparison import Comparison, Setting, comparisons
from results.differences import DIGITS, accuracies
from results.records import Records
from results.schema import METRICS, SELECTIONS
from results.statistics import CONFIDENCE


@dataclass(frozen=True)
class MethodRank:
    """A method's mean rank over the blocks; 1 is the best."""

    method: str
    label: str
    group: str
    rank: float


@dataclass(frozen=True)
class Ranks:
    """The ranks of the methods of one setting at one compression, as Demšar (2006) has them.

    A block is a task with a seed, as a pair is for differences; Demšar's are data sets, each once.
    So, as there, what is tested holds for these tasks: whether methods differ by more than seeds
    do.

    Attributes:
        methods: the best first.
        left_out: labels of methods that lack more than half of the blocks.
        blocks: those in which all of `methods` have an accuracy, of so many `tasks` and `seeds`.
        p: of Friedman's test, by Iman and Davenport; NaN for two methods, which need none.
        critical: Nemenyi's difference: ranks that differ by less cannot be told apart.
        cliques: largest sets of neighbours in `methods`, by place, that cannot be told apart.
    """

    setting: Setting
    selection: str
    metric: str
    confidence: float
    compression: float
    methods: tuple[MethodRank, ...]
    left_out: tuple[str, ...]
    blocks: int
    tasks: int
    seeds: int
    p: float
    critical: float
    cliques: tuple[range, ...]

    def caption(self) -> str:
        """Suite, metric, network, protocol and selection; without the compression."""
        return (
            f"{self.setting.suite}: average ranks (1 is best) by {METRICS[self.metric]}, "
            f"{self.setting.describe()}, selection: {SELECTIONS[self.selection]}"
        )


def ranks(
    records: Records,
    selection: str | None = None,
    metric: str = "overall",
    confidence: float = CONFIDENCE,
    methods: Collection[str] | None = None,
) -> tuple[Ranks, ...]:
    """The ranks of each setting and compression where two methods share two blocks or more.

    Args:
        records: the runs.
        selection: a key of `schema.SELECTIONS`; None for each protocol's own.
        metric: a key of `schema.METRICS`.
        confidence: 1 minus the level of Nemenyi's test.
        methods: names of compressed methods to rank; None for all. Others are not ranked.
    """
    made = []
    for comparison in comparisons(records.frame, records.missing):
        chosen = comparison.setting.selection(selection)
        for compression in comparison.compressions():
            if compression == 0:
                continue
            asked = [m for m in comparison.compressed() if methods is None or m in methods]
            values = accuracies(comparison, chosen, metric, compression)[asked].round(DIGITS)
            values = values.dropna(how="all")
            enough = values.notna().sum() >= len(values) / 2
            shared = values.loc[:, enough].dropna()
            if len(shared) < 2 or shared.shape[1] < 2:
                continue
            left_out = tuple(comparison.describe(str(m))[0] for m in values.columns[~enough])
            made.append(
                _ranks(comparison, chosen, metric, confidence, compression, shared, left_out)
            )
    return tuple(made)


def friedman_in_words(of: Ranks) -> str:
    """`Friedman p = 0.012`; empty where there is no test."""
    if math.isnan(of.p):
        return ""
    return "Friedman p < 0.001" if of.p < 0.001 else f"Friedman p = {of.p:.3f}"


def _ranks(
    comparison: Comparison,
    selection: str,
    metric: str,
    confidence: float,
    compression: float,
    shared: pd.DataFrame,
    left_out: tuple[str, ...],
) -> Ranks:
    """The ranks over these blocks, a row each; a column a method."""
    values = shared.to_numpy()
    blocks, count = values.shape
    found = [
        MethodRank(str(method), *comparison.describe(str(method)), float(rank))
        for method, rank in zip(shared.columns, statistics.average_ranks(values), strict=True)
    ]
    found.sort(key=lambda method: method.rank)
    critical = statistics.critical_difference(count, blocks, 1 - confidence)
    return Ranks(
        setting=comparison.setting,
        selection=selection,
        metric=metric,
        confidence=confidence,
        compression=compression,
        methods=tuple(found),
        left_out=left_out,
        blocks=blocks,
        tasks=shared.index.unique("task").size,
        seeds=shared.index.unique("seed").size,
        p=statistics.friedman(values).p if count > 2 else math.nan,
        critical=critical,
        cliques=statistics.cliques([method.rank for method in found], critical),
    )
