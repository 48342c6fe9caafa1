"""What each part of ITMC is worth: its ablations, paired with it over tasks and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.differences import REFERENCE, Difference, differences
from results.figure import centre_names, frame, new_figure, style
from results.plots.subject import NoDataError, Subject
from results.records import plural
from results.schema import METRICS
from results.statistics import CONFIDENCE

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
_ROW = 0.15
_AXIS = 0.75


@dataclass(frozen=True)
class Change:
    """What an ablation changes, in points: the ablation minus ITMC, and the paired interval."""

    method: str
    mean: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, found: Difference) -> Change:
        """The other way round: a difference is ITMC minus the ablation."""
        return cls(found.method, -found.mean, -found.high, -found.low, found.pairs)


def ablations(subject: Subject) -> Figure:
    """Mean difference of each ablation from ITMC with its paired interval: a panel a compression.

    Bars to the left: without the part accuracy is lower. The ablation that loses most, on average
    over the panels, is on top in all of them.

    Raises:
        NoDataError: there are no ablations, or not ITMC to compare them with.
    """
    blocks = _blocks(subject)
    order = _order(blocks)
    usual = "column" if len(blocks) == 1 else "page"
    beside = (subject.size or usual) == "page"
    rows, columns = (1, len(blocks)) if beside else (len(blocks), 1)
    with style():
        figure = new_figure(subject, rows * (_ROW * len(order) + _AXIS), usual)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (compression, changes) in zip(grid.flat, blocks, strict=True):
            _draw(axes, subject, changes, order)
            axes.set_title(f"compression {compression:g}")
        # Below axes that names leave little room for.
        figure.supxlabel("points")
        counts = [change.pairs for _, changes in blocks for change in changes]
        low, high = min(counts), max(counts)
        n = f"n = {plural(high, 'pair')}" if low == high else f"n = {low} to {high} pairs"
        interval = f"lines: paired {100 * CONFIDENCE:g} % interval, {n} (task, seed)"
        hurts = "negative: changing the part hurts"
        differs = f"{METRICS[subject.metric]}, ablation minus ITMC"
        what = (differs, hurts, subject.selected(), interval)
        frame(figure, subject, what, "")
        centre_names(figure)
    return figure


def _blocks(subject: Subject) -> list[tuple[float, list[Change]]]:
    """The changes by compression, without ablations that have no pair there."""
    there = subject.whole.compressed()
    if REFERENCE not in there:
        raise NoDataError(f"no {REFERENCE} to compare ablations with")
    asked = set(subject.comparison.compressed())
    named = [name for name in there if name in asked and subject.group(name) == "ablations"]
    if not named:
        raise NoDataError("no ablations here")
    own = subject.own_records()
    found = differences(own, REFERENCE, subject.selection, subject.metric, others=named)
    blocks = [
        (compression, [Change.of(row) for row in rows if row.pairs])
        for of_setting in found
        for compression, rows in of_setting.blocks
    ]
    blocks = [(compression, changes) for compression, changes in blocks if changes]
    if not blocks:
        raise NoDataError(f"no ablation has a task and seed in common with {REFERENCE}")
    return blocks


def _order(blocks: Sequence[tuple[float, Sequence[Change]]]) -> list[str]:
    """The methods by their mean over the panels, that which loses most first."""
    means: dict[str, list[float]] = {}
    for _, changes in blocks:
        for change in changes:
            means.setdefault(change.method, []).append(change.mean)
    return sorted(means, key=lambda method: (sum(means[method]) / len(means[method]), method))


def _draw(axes: Axes, subject: Subject, changes: Sequence[Change], order: Sequence[str]) -> None:
    places = [order.index(change.method) for change in changes]
    axes.barh(
        places,
        [change.mean for change in changes],
        height=0.7,
        color=[subject.looks[change.method].colour for change in changes],
        alpha=0.55,
        linewidth=0,
    )
    for place, change in zip(places, changes, strict=True):
        # One pair, or all alike: no interval.
        if not math.isnan(change.low):
            axes.plot([change.low, change.high], [place, place], color="black", linewidth=1.0)
        axes.plot([change.mean], [place], color="black", marker="|", markersize=5)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(order)), [subject.label(method) for method in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
