"""Accuracy against cost, MACs or measured latency, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from results.comparison import averaged_runs
from results.figure import EDGE, add_legend, frame, handle, new_figure, style
from results.plots.labels import name_above_left
from results.plots.points import (
    averages,
    interval_in_words,
    left_out_in_words,
    t_interval,
    with_interval,
)
from results.plots.subject import NoDataError, Subject
from results.records import plural

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_UNCOMPRESSED: dict[str, Any] = {
    "color": "#666666",
    "marker": "x",
    "markersize": 3.5,
    "linestyle": "none",
}
_FRONT: dict[str, Any] = {"color": "#555555", "linewidth": 1.2, "zorder": 1.5}
_LATENCY = ("device", "machine", "student_latency_threads")
# Parts of a decade for the ticks of a logarithmic axis: the first that give three ticks.
_PARTS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))


@dataclass(frozen=True)
class Point:
    """A method at one compression: cost, mean accuracy, and the ends of its interval."""

    method: str
    compression: float
    cost: float
    accuracy: float
    low: float
    high: float


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Places of the points that no other dominates, by ascending cost.

    A point dominates another if it costs at most as much and is at least as accurate, and is
    better in one of the two; so of points alike in both all are on the front.
    """
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -accuracies[place]))
    found: list[int] = []
    for place in order:
        if found:
            last = found[-1]
            alike = (costs[place], accuracies[place]) == (costs[last], accuracies[last])
            if accuracies[place] <= accuracies[last] and not alike:
                continue
        found.append(place)
    return found


def accuracy_vs_macs(subject: Subject) -> Figure:
    """Average over tasks against the MACs of the student, with the front.

    Raises:
        NoDataError: no method has both.
    """
    runs = subject.comparison.frame.dropna(subset=["student_macs"])
    if runs.empty:
        raise NoDataError("no run says the MACs of its student")
    points, seeds = _points(subject, runs, "student_macs", "mean")
    with style():
        figure = new_figure(subject, 2.5)
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.margins(x=0.1)
        _draw(axes, subject, points)
        axes.set_xlabel("MACs of the student")
        frame(figure, subject, _what(subject, seeds, ""))
        add_legend(figure, _handles(subject, points))
        name_above_left(axes, _named(subject, points))
        _ticks_of_macs(axes)
    return figure


def accuracy_vs_latency(subject: Subject) -> Figure:
    """Average over tasks against measured latency of one image, with the front.

    Latencies of several devices, processors or numbers of threads are not comparable: those most
    runs have are drawn, and the title says how many other runs are left out.

    Raises:
        NoDataError: no method has both.
    """
    runs = subject.comparison.frame.dropna(subset=["student_latency_1"])
    if runs.empty:
        raise NoDataError("no run has a measured latency")
    where = runs[list(_LATENCY)].fillna({"student_latency_threads": 0})
    kinds = where.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    device, machine, threads = kinds.index[0]
    same = (where == [device, machine, threads]).all(axis="columns")
    measured = f"{device} ({machine})" if machine else str(device)
    measured += f", {plural(int(threads), 'thread')}" if threads else ""
    if others := int((~same).sum()):
        measured += f", without {plural(others, 'run')} measured elsewhere"
    # One run that was measured while the machine did something else should not move a point.
    points, seeds = _points(subject, runs[same], "student_latency_1", "median")
    with style():
        figure = new_figure(subject, 2.5)
        axes = figure.subplots()
        axes.margins(x=0.1)
        _draw(axes, subject, points)
        axes.set_xlabel("latency of the student, batch 1 (ms, median over runs)")
        frame(figure, subject, _what(subject, seeds, f"measured on {measured}"))
        add_legend(figure, _handles(subject, points))
        name_above_left(axes, _named(subject, points))
    return figure


def _points(
    subject: Subject, runs: pd.DataFrame, cost: str, over_runs: str
) -> tuple[list[Point], pd.DataFrame]:
    """A point a method and compression, and the averages over tasks, a row a seed, behind them.

    Args:
        subject: where the accuracies are from.
        runs: where the costs are from.
        cost: its column.
        over_runs: how the cost of a point comes from those of its runs: `mean` or `median`.
    """
    keys = ["method", "compression"]
    behind = averaged_runs(subject.comparison, subject.accuracy).index
    runs = runs[runs.index.isin(behind)]
    costs = runs.groupby(keys)[cost].agg(over_runs).rename("cost").reset_index()
    seeds = averages(subject).merge(costs, on=keys)
    if seeds.empty:
        raise NoDataError("what has this cost has no seed with the accuracies of all tasks")
    points = []
    for (method, _), values in seeds.groupby(keys, sort=False):
        low, high = t_interval(list(values["accuracy"]))
        points.append(
            Point(
                method=str(method),
                compression=float(values["compression"].iloc[0]),
                cost=float(values["cost"].iloc[0]),
                accuracy=float(values["accuracy"].mean()),
                low=low,
                high=high,
            )
        )
    return points, seeds


def _what(subject: Subject, seeds: pd.DataFrame, measured: str) -> tuple[str, ...]:
    tasks = plural(len(subject.comparison.tasks), "task")
    interval = interval_in_words(subject, seeds, "bar", all_have=False)
    return (
        f"average over {tasks}",
        subject.selected(),
        interval,
        measured,
        left_out_in_words(subject),
    )


def _draw(axes: Axes, subject: Subject, points: Sequence[Point]) -> None:
    """The points of each method, joined in the order of compression, and the front."""
    compressed = [point for point in points if point.compression > 0]
    methods = list(dict.fromkeys(point.method for point in compressed))
    having = with_interval(subject, methods)
    for method in methods:
        own = sorted(
            (point for point in compressed if point.method == method),
            key=lambda point: point.compression,
        )
        look = subject.looks[method]
        # NaN, the ends of the interval of one seed, is not drawn.
        spread = [
            [point.accuracy - point.low for point in own],
            [point.high - point.accuracy for point in own],
        ]
        axes.errorbar(
            [point.cost for point in own],
            [point.accuracy for point in own],
            yerr=spread if method in having else None,
            color=look.colour,
            marker=look.marker,
            linestyle=(0, look.dash) if look.dash else "-",
            linewidth=0.6,
            elinewidth=0.8,
            capsize=1.5,
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=EDGE,
            zorder=3 if method in having else 2,
        )
    whole = [point for point in points if point.compression == 0]
    axes.plot(
        [point.cost for point in whole],
        [point.accuracy for point in whole],
        **_UNCOMPRESSED,
    )
    best = _front(points)
    # Right of the last, what it reaches is reached at any cost.
    right = axes.get_xlim()[1]
    axes.step(
        [*(point.cost for point in best), right],
        [*(point.accuracy for point in best), best[-1].accuracy],
        where="post",
        scalex=False,
        **_FRONT,
    )


def _front(points: Sequence[Point]) -> list[Point]:
    places = front([point.cost for point in points], [point.accuracy for point in points])
    return [points[place] for place in places]


def _named(subject: Subject, points: Sequence[Point]) -> list[tuple[float, float, str]]:
    """The points of the front with the names of their methods."""
    found = _front(points)
    return [(point.cost, point.accuracy, subject.label(point.method)) for point in found]


def _handles(subject: Subject, points: Sequence[Point]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    compressed = [point.method for point in points if point.compression > 0]
    made = [handle(subject, method) for method in dict.fromkeys(compressed)]
    if len(compressed) < len(points):
        made.append(Line2D([], [], label="not compressed", **_UNCOMPRESSED))
    return [*made, Line2D([], [], label="Pareto front", **_FRONT)]


def _ticks_of_macs(axes: Axes) -> None:
    """At least three ticks on a logarithmic axis of MACs, where its range allows."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_xlim()
    for parts in _PARTS:
        ticks = [at for at in LogLocator(subs=parts).tick_values(low, high) if low < at < high]
        if len(ticks) >= 3:
            break
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda macs, _: macs_in_words(macs)))


def macs_in_words(macs: float) -> str:
    """`640 k`, `1.3 M`, `4.1 G`: the number as it stands on an axis."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if macs >= unit:
            return f"{macs / unit:g} {name}"
    return f"{macs:g}"
