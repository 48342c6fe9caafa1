"""Accuracy against compression, over all tasks and task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from results.figure import (
    EDGE,
    LINE,
    add_legend,
    centre_names,
    frame,
    handle,
    name_methods,
    name_references,
    new_figure,
    panels,
    style,
    within_percent,
)
from results.plots.points import (
    BANDS,
    averages,
    interval_in_words,
    left_out_in_words,
    ordered,
    single,
    t_interval,
    with_interval,
)
from results.plots.subject import NoDataError, Subject
from results.records import plural

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MACS = "MACs removed (%)"
# More panels than these are too many for a column.
_IN_COLUMN = 6
# More names side by side than these need the width of a page.
_NAMES = 16


def accuracy_vs_compression(subject: Subject) -> Figure:
    """One line a method: average over tasks against the share of MACs removed, with its interval.

    References are grey lines with their name. Of more than six methods only ITMC and its variants
    keep their bands. At a single compression methods stand side by side, named below; there all
    have bars.

    Raises:
        NoDataError: no seed has all tasks.
    """
    points = _placed(subject, averages(subject))
    compressed = points[points["compression"] > 0]
    side_by_side = single(points) and compressed["method"].nunique() > _NAMES
    with style():
        usual = "page" if side_by_side else "column"
        figure = new_figure(subject, 2.7 if _crowded(points) else 2.0, usual)
        axes = figure.subplots()
        _draw(axes, subject, points, points)
        tasks = plural(len(subject.comparison.tasks), "task")
        frame(figure, subject, (f"average over {tasks}", *_what(subject, points)))
        axes.set_xlabel(_MACS)
        if single(points) and not compressed.empty:
            name_methods(axes, subject, list(compressed["method"].unique()))
            axes.set_xlabel(f"{_MACS}: {_reached(compressed)}")
        else:
            add_legend(figure, [handle(subject, name) for name in compressed["method"].unique()])
        name_references(axes, subject, points)
    return figure


def per_task(subject: Subject) -> Figure:
    """The same, a panel a task, references in the legend.

    Raises:
        NoDataError: no run has this accuracy.
    """
    keys = ["method", "compression", "task", "seed"]
    accuracy = subject.comparison.frame[subject.accuracy].rename("accuracy")
    runs = subject.comparison.frame[keys].join(accuracy).dropna()
    points = _placed(subject, ordered(subject, runs))
    if points.empty:
        raise NoDataError("no run has this accuracy")
    tasks = subject.comparison.tasks
    usual = "column" if len(tasks) <= _IN_COLUMN else "page"
    columns = 2 if (subject.size or usual) == "column" else min(4, -(-len(tasks) // 2))
    with style():
        height = 1.35 if _crowded(points) else 1.15
        figure = new_figure(subject, max(height * -(-len(tasks) // columns), 1.8), usual)
        titles = [task.replace("->", " → ") for task in tasks]
        # Tasks differ in how hard they are; an axis of its own shows how methods differ in each.
        made = panels(figure, len(tasks), columns, titles, sharex=True)
        for place, (axes, task) in enumerate(zip(made, tasks, strict=True)):
            _draw(axes, subject, points[points["task"] == task], points, 3.4)
            if place + columns >= len(tasks):
                axes.set_xlabel(_MACS)
        frame(figure, subject, _what(subject, points))
        line = not single(points)
        add_legend(figure, [handle(subject, name, line) for name in points["method"].unique()])
        centre_names(figure)
    return figure


def _placed(subject: Subject, values: pd.DataFrame) -> pd.DataFrame:
    """`values` with `removed`: a method's mean share of MACs removed at a compression, in percent.

    The mean over tasks and seeds, because those of one method and compression belong to one point,
    though each reaches the budget a little differently.
    """
    runs = subject.comparison.frame
    # Where the suite could not tell what was reached, what was asked is the best there is.
    reached = runs["reached"].fillna(runs["compression"]).where(runs["compression"] > 0, 0.0)
    means = (100 * reached).groupby([runs["method"], runs["compression"]]).mean().rename("removed")
    return values.merge(means.reset_index(), on=["method", "compression"], how="left")


def _draw(
    axes: Axes,
    subject: Subject,
    panel: pd.DataFrame,
    points: pd.DataFrame,
    markersize: float = 4.5,
) -> None:
    """Draw a panel's points; all `points` of the figure decide what its panels share."""
    import seaborn as sns

    compressed = points[points["compression"] > 0]
    methods = list(compressed["method"].unique())
    bars = single(points)
    if bars:
        _side_by_side(axes, compressed)
        panel = panel.assign(
            removed=panel["method"].map({name: place for place, name in enumerate(methods)})
        )
    having = set(methods) if bars else with_interval(subject, methods)
    # Two sets of lines, the one that keeps its bands on top.
    for has_interval in (False, True):
        drawn = panel[(panel["compression"] > 0) & (panel["method"].isin(having) == has_interval)]
        names = [method for method in methods if method in set(drawn["method"])]
        if drawn.empty:
            continue
        sns.lineplot(
            drawn,
            x="removed",
            y="accuracy",
            hue="method",
            style="method",
            hue_order=names,
            style_order=names,
            palette={method: subject.looks[method].colour for method in names},
            markers={method: subject.looks[method].marker for method in names},
            dashes={method: subject.looks[method].dash or "" for method in names},
            errorbar=t_interval if has_interval else None,
            err_style="bars" if bars else "band",
            err_kws={"capsize": 2, "elinewidth": 0.9} if bars else {"alpha": 0.15, "linewidth": 0},
            markersize=markersize,
            markeredgewidth=EDGE,
            linewidth=LINE,
            legend=False,
            ax=axes,
        )
    for method, runs in panel[panel["compression"] == 0].groupby("method", sort=False):
        look = subject.looks[str(method)]
        axes.axhline(
            runs["accuracy"].mean(), color=look.colour, dashes=look.dash, linewidth=0.8, zorder=1
        )
    axes.set(xlabel="", ylabel="")
    within_percent(axes)


def _side_by_side(axes: Axes, compressed: pd.DataFrame) -> None:
    """One tick for the one compression: methods that reach the same MACs would hide each other."""
    if compressed.empty:
        axes.set_xticks([])
        return
    methods = compressed["method"].nunique()
    axes.set_xticks([(methods - 1) / 2], [_reached(compressed)])
    axes.set_xlim(-1, methods)


def _reached(compressed: pd.DataFrame) -> str:
    """The share of MACs removed, from that of the first to that of the last."""
    low, high = (f"{value:.1f}" for value in compressed["removed"].agg(["min", "max"]))
    return low if low == high else f"{low} to {high}"


def _crowded(points: pd.DataFrame) -> bool:
    """Whether there are more methods than bands can be told apart."""
    return bool(points.loc[points["compression"] > 0, "method"].nunique() > BANDS)


def _what(subject: Subject, points: pd.DataFrame) -> tuple[str, ...]:
    """How the epoch is chosen, what the bands show, and what is not drawn."""
    bars = single(points)
    interval = interval_in_words(subject, points, "bar" if bars else "band", all_have=bars)
    return subject.selected(), interval, left_out_in_words(subject)
