"""`python -m results.plot RUNS`: accuracy against compression, over all tasks and task by task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from results.command import parser, run, write_whole
from results.comparison import Comparison, comparisons, method_order, seed_averages
from results.figure import (
    EDGE,
    add_legend,
    file_content,
    frame,
    looks_of,
    name_methods,
    name_references,
    new_figure,
    single,
    style,
)
from results.looks import Look
from results.records import Records, plural
from results.schema import SELECTIONS, accuracy_column

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MACS = "MACs removed (%)"
# More bands than these would cover one another.
_BANDS = 6


def accuracy_vs_compression(comparison: Comparison, selection: str, metric: str) -> Figure:
    """One line a method: average over tasks against the share of MACs removed, ± sd over seeds.

    Ablations, of which there are many and all near ITMC, are drawn only where no baseline is:
    beside baselines they would hide them, and the table of differences tells more of them. The
    title says how many are left out. Of more than six methods only ITMC and its variants keep
    their bands. At a single compression methods stand side by side, named below.
    """
    averages = seed_averages(comparison, accuracy_column(selection, metric))
    points = _points(comparison, averages)
    with style():
        figure = new_figure(3.6 if _crowded(points) else 2.6)
        axes = figure.subplots()
        _draw(axes, points, points, looks_of(comparison))
        tasks = len(comparison.tasks)
        if points.empty:
            message = f"No seed has all {tasks} tasks:\nthere is no average yet."
            axes.text(0.5, 0.5, message, ha="center", va="center", transform=axes.transAxes)
        compressed = points[points["compression"] > 0]
        axes.set_xlabel(_MACS)
        what = f"average over {plural(tasks, 'task')}, {_what(comparison, selection, points)}"
        frame(figure, comparison, metric, what)
        if single(points) and not compressed.empty:
            name_methods(axes, comparison, list(compressed["method"].unique()))
            axes.set_xlabel(f"{_MACS}: {_reached(compressed)}")
        else:
            add_legend(figure, comparison, compressed)
        name_references(axes, comparison, points)
    return figure


def per_task(comparison: Comparison, selection: str, metric: str) -> Figure:
    """The same, a panel a task; ablations as there."""
    keys = ["method", "compression", "task", "seed"]
    accuracy = comparison.frame[accuracy_column(selection, metric)].rename("accuracy")
    points = _points(comparison, comparison.frame[keys].join(accuracy).dropna())
    columns = min(3, len(comparison.tasks))
    rows = -(-len(comparison.tasks) // columns)
    with style():
        figure = new_figure((2.1 if _crowded(points) else 1.55) * rows)
        # Tasks differ in how hard they are; an axis of its own shows how methods differ in each.
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, task in zip(panels.flat, comparison.tasks, strict=False):
            _draw(axes, points[points["task"] == task], points, looks_of(comparison), 3.5)
            axes.set_title(task.replace("->", " → "))
        for axes in panels.flat[len(comparison.tasks) :]:
            axes.remove()
        for column in range(columns):
            lowest = panels[(len(comparison.tasks) - 1 - column) // columns, column]
            lowest.set_xlabel(_MACS)
            # Shared axes hide what is not in the last row, also above an empty place.
            lowest.xaxis.label.set_visible(True)
            lowest.tick_params(labelbottom=True)
        frame(figure, comparison, metric, _what(comparison, selection, points))
        add_legend(figure, comparison, points)
    return figure


def write(
    records: Records, out: Path, selection: str | None = None, metric: str = "overall"
) -> tuple[Path, ...]:
    """Both figures of each setting as PNG and PDF in `out`; returns their paths.

    With one setting they are `accuracy_vs_compression` and `per_task`; with several each has a
    number behind its name, in the order of the tables. Without a `selection` the epoch is chosen
    as each setting's protocol does.

    Raises:
        ResultsError: `out` cannot be written.
    """
    paths = []
    found = comparisons(records.frame)
    for number, comparison in enumerate(found, start=1):
        suffix = f"_{number}" if len(found) > 1 else ""
        for draw in (accuracy_vs_compression, per_task):
            figure = draw(comparison, comparison.setting.selection(selection), metric)
            for kind in ("png", "pdf"):
                path = out / f"{draw.__name__}{suffix}.{kind}"
                write_whole(path, file_content(figure, kind))
                paths.append(path)
    return tuple(paths)


def _points(comparison: Comparison, values: pd.DataFrame) -> pd.DataFrame:
    """`values` with `removed`: a method's mean share of MACs removed at a compression, in percent.

    The mean over tasks and seeds, because those of one method and compression belong to one point,
    though each reaches the budget a little differently. Methods that are not drawn are left out.
    """
    runs = comparison.frame
    # Where the suite could not tell what was reached, what was asked is the best there is.
    reached = runs["reached"].fillna(runs["compression"]).where(runs["compression"] > 0, 0.0)
    means = (100 * reached).groupby([runs["method"], runs["compression"]]).mean().rename("removed")
    values = values[~values["method"].isin(_left_out(comparison))]
    groups = runs.drop_duplicates("method")[["method", "group"]]
    values = values.merge(groups, on="method")
    points = values.merge(means.reset_index(), on=["method", "compression"])
    order = {method: position for position, method in enumerate(method_order(comparison))}
    return points.sort_values(
        ["method", "removed", "seed"], key=lambda v: v.map(order) if v.name == "method" else v
    )


def _draw(
    axes: Axes,
    panel: pd.DataFrame,
    points: pd.DataFrame,
    looks: dict[str, Look],
    markersize: float = 5.0,
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
    # Two sets of lines, the one that keeps its bands on top.
    for with_sd in (False, True):
        drawn = panel[(panel["compression"] > 0) & (_has_sd(panel, points) == with_sd)]
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
            palette={method: looks[method].colour for method in names},
            markers={method: looks[method].marker for method in names},
            dashes={method: looks[method].dash or "" for method in names},
            # Standard deviation with ddof 1: none, so no band, for a single seed.
            errorbar="sd" if with_sd else None,
            err_style="bars" if bars else "band",
            err_kws={"capsize": 2, "elinewidth": 0.9} if bars else {"alpha": 0.15, "linewidth": 0},
            markersize=markersize,
            markeredgewidth=EDGE,
            linewidth=1.2,
            legend=False,
            ax=axes,
        )
    for method, runs in panel[panel["compression"] == 0].groupby("method", sort=False):
        look = looks[str(method)]
        axes.axhline(
            runs["accuracy"].mean(), color=look.colour, dashes=look.dash, linewidth=0.9, zorder=1
        )
    axes.set(xlabel="", ylabel="")


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
    return bool(points.loc[points["compression"] > 0, "method"].nunique() > _BANDS)


def _has_sd(panel: pd.DataFrame, points: pd.DataFrame) -> pd.Series[bool]:
    """For each row of a panel, whether its method has a band or bars."""
    if single(points) or not _crowded(points):
        return panel["method"].notna()
    return panel["group"] == "itmc"


def _left_out(comparison: Comparison) -> set[str]:
    """The ablations where there are baselines."""
    runs = comparison.frame[comparison.frame["compression"] > 0]
    if "baselines" not in set(runs["group"]):
        return set()
    return set(runs.loc[runs["group"] == "ablations", "method"])


def _what(comparison: Comparison, selection: str, points: pd.DataFrame) -> str:
    """How the epoch is chosen, what the bands show, and what is not drawn."""
    left_out = len(_left_out(comparison))
    # Hard spaces, so that no line breaks within it.
    rest = f"without {plural(left_out, 'ablation')}".replace(" ", "\N{NO-BREAK SPACE}")
    ends = [SELECTIONS[selection], _spread(points), *([rest] if left_out else [])]
    return "; ".join(ends)


def _spread(points: pd.DataFrame) -> str:
    """What the bands or bars show, and n; with one seed there are none."""
    keys = [key for key in ("method", "compression", "task") if key in points]
    counts = points.groupby(keys).size()
    low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
    if high <= 1:
        return f"n = {high}, no sd"
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    compressed = points[points["compression"] > 0]
    with_sd = _has_sd(compressed, points)
    if not with_sd.any():
        return f"sd over seeds: see the table, {n}"
    bands = "bars" if single(points) else "bands" if with_sd.all() else "band (ITMC only)"
    return f"{bands}: ± sd over seeds, {n}"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw both figures; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.plot",
        "Plots of run records: target accuracy against the share of MACs removed, averaged over "
        "tasks and task by task, with the standard deviation over seeds; PNG and PDF.",
    )
    built.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="folder for the figures (default: the current one)",
    )
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    records.require_accuracies()
    for path in write(records, arguments.out, arguments.select, arguments.metric):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
