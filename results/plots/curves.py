"""How the student's target accuracy went, epoch by epoch, and when it was pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from results.figure import (
    EDGE,
    add_legend,
    centre_names,
    frame,
    handle,
    new_figure,
    panels,
    style,
)
from results.plots.histories import damaged_in_words, few
from results.plots.lines import draw_lines, over_tasks
from results.plots.points import interval_in_words
from results.plots.subject import NoDataError, Subject
from results.records import plural

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Of the least and of the largest marker, in square points: that of all MACs.
_AREAS = (6.0, 90.0)
_KEYS = ["method", "compression"]


def curves(subject: Subject) -> Figure:
    """Target accuracy of the student after each epoch: a panel a compression, average over tasks.

    A line a method, the mean over the seeds that have all tasks, with its band; a point at each
    epoch that removed MACs in any of the runs, its area as the share removed, on average. Where
    runs of one method differ in their epochs there is no average: then a panel is a task, all at
    the highest compression.

    Raises:
        NoDataError: no run has a history with accuracies.
    """
    epochs = _epochs(subject)
    if epochs.empty:
        raise NoDataError("no run of these methods has a history with accuracies")
    tasks = plural(len(subject.comparison.tasks), "task")
    if _of_one_length(epochs):
        drawn, what = over_tasks(subject, epochs, ["accuracy", "step"]), f"average over {tasks}"
        facets = {f"compression {share:g}": runs for share, runs in drawn.groupby("compression")}
        columns = 1
    else:
        highest = epochs["compression"].max()
        drawn, what = epochs[epochs["compression"] == highest], f"compression {highest:g}"
        order = [task for task in subject.comparison.tasks if task in set(drawn["task"])]
        facets = {task.replace("->", " → "): drawn[drawn["task"] == task] for task in order}
        columns = 2
    if drawn.empty:
        raise NoDataError(f"no seed has histories of all {tasks}")
    methods = [method for method in few(subject) if method in set(drawn["method"])]
    with style():
        figure = new_figure(subject, max(1.45 * -(-len(facets) // columns), 1.8))
        made = panels(figure, len(facets), columns, list(facets), sharex=True)
        for axes, runs in zip(made, facets.values(), strict=True):
            _draw(axes, subject, runs, methods)
        for axes in made[-columns:]:
            axes.set_xlabel("epoch of the student, all its stages")
        first = drawn[drawn["epoch"] == 1]
        band = interval_in_words(subject, first, "band", all_have=True)
        looking = "target accuracy by epoch is for looking only"
        frame(figure, subject, (what, looking, band, damaged_in_words(subject)))
        add_legend(figure, _handles(subject, methods))
        centre_names(figure)
    return figure


def _epochs(subject: Subject) -> pd.DataFrame:
    """A row an epoch of a run: accuracy after it, and the share of MACs that it removed."""
    methods = few(subject)
    runs = subject.comparison.frame
    runs = runs[runs["method"].isin(methods) & (runs["compression"] > 0)]
    rows = []
    for run in runs.to_dict("records"):
        details = subject.details.get(run["path"])
        accuracies = () if details is None else details.accuracy[subject.metric]
        if details is None or not accuracies or None in accuracies:
            continue
        events = set(details.events())
        before = (0.0, *details.removed)
        rows += [
            {
                **{name: run[name] for name in ("run", *_KEYS, "task", "seed")},
                "epoch": epoch + 1,
                "accuracy": accuracy,
                "step": details.removed[epoch] - before[epoch] if epoch in events else 0.0,
            }
            for epoch, accuracy in enumerate(accuracies)
        ]
    return pd.DataFrame(rows)


def _of_one_length(epochs: pd.DataFrame) -> bool:
    """Whether the runs of each method at each compression have the same number of epochs."""
    lengths = epochs.groupby([*_KEYS, "run"])["epoch"].max()
    return bool((lengths.groupby(_KEYS).nunique() == 1).all())


def _draw(axes: Axes, subject: Subject, runs: pd.DataFrame, methods: Sequence[str]) -> None:
    """A panel: lines with their bands, and a point at each epoch that removed something."""
    there = draw_lines(axes, subject, runs, "accuracy", methods)
    looks = subject.looks
    means = runs.groupby(["method", "epoch"])[["accuracy", "step"]].mean().reset_index()
    for method in there:
        pruned = means[(means["method"] == method) & (means["step"] > 0)]
        axes.scatter(
            pruned["epoch"],
            pruned["accuracy"],
            s=_AREAS[0] + (_AREAS[1] - _AREAS[0]) * pruned["step"],
            color=looks[method].colour,
            marker=looks[method].marker,
            edgecolor="white",
            linewidth=EDGE,
            zorder=3,
        )


def _handles(subject: Subject, methods: Sequence[str]) -> list[Line2D]:
    """The lines, and what a point on one is."""
    from matplotlib.lines import Line2D

    event = Line2D([], [], label="pruned (area: share)", linestyle="none")
    event.set(marker="o", markersize=4, color="0.5", markeredgecolor="white")
    return [*(handle(subject, method) for method in methods), event]
