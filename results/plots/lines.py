"""Lines over epochs, as curves and guidance draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from results.figure import LINE, within_percent
from results.plots.points import t_interval
from results.plots.subject import Subject

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes


def over_tasks(subject: Subject, epochs: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of a run and an epoch averaged over the tasks, of the seeds that have all of these."""
    groups = epochs.groupby(["method", "compression", "seed", "epoch"])
    complete = groups["task"].nunique() == len(subject.comparison.tasks)
    return groups[list(columns)].mean()[complete].reset_index()


def draw_lines(
    axes: Axes, subject: Subject, runs: pd.DataFrame, column: str, methods: Sequence[str]
) -> list[str]:
    """A line a method, the mean over seeds of ``column`` (percent) by epoch, with its band.

    Returns those of ``methods`` that have one.
    """
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    there = [method for method in methods if method in set(runs["method"])]
    looks = subject.looks
    sns.lineplot(
        runs,
        x="epoch",
        y=column,
        hue="method",
        style="method",
        hue_order=there,
        style_order=there,
        palette={method: looks[method].colour for method in there},
        markers=False,
        dashes={method: looks[method].dash or "" for method in there},
        errorbar=t_interval,
        err_kws={"alpha": 0.12, "linewidth": 0},
        linewidth=LINE,
        legend=False,
        ax=axes,
    )
    axes.set(xlabel="", ylabel="")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    within_percent(axes)
    return there
