"""`python -m results.plot RUNS`: accuracy against compression, over all tasks and task by task."""

from __future__ import annotations

import argparse
import io
import sys
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from results.aggregate import Comparison, comparisons, method_order, seed_averages
from results.command import parser, run, write_whole
from results.looks import look
from results.records import METRICS, SELECTIONS, Records, accuracy_column, plural

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
WIDTH = 4.8
_LINE = 0.16
_LEGEND_COLUMNS = 3
_MACS = "MACs removed (%)"


def accuracy_vs_compression(comparison: Comparison, selection: str, metric: str) -> Figure:
    """One line a method: average over tasks against the share of MACs removed, ± sd over seeds."""
    averages = seed_averages(comparison, accuracy_column(selection, metric))
    points = _points(comparison, averages)
    with _style():
        figure = _figure(2.6)
        axes = figure.subplots()
        _draw(axes, points, points)
        tasks = len(comparison.tasks)
        if points.empty:
            message = f"No seed has all {tasks} tasks:\nthere is no average yet."
            axes.text(0.5, 0.5, message, ha="center", va="center", transform=axes.transAxes)
        axes.set_xlabel(_MACS)
        what = f"average over {plural(tasks, 'task')}, {SELECTIONS[selection]}; {_spread(points)}"
        _frame(figure, comparison, metric, what)
        _legend(figure, comparison, points[points["compression"] > 0])
        _name_references(axes, comparison, points)
    return figure


def per_task(comparison: Comparison, selection: str, metric: str) -> Figure:
    """The same, a panel a task."""
    keys = ["method", "compression", "task", "seed"]
    accuracy = comparison.frame[accuracy_column(selection, metric)].rename("accuracy")
    points = _points(comparison, comparison.frame[keys].join(accuracy).dropna())
    columns = min(3, len(comparison.tasks))
    rows = -(-len(comparison.tasks) // columns)
    with _style():
        figure = _figure(1.55 * rows)
        # Tasks differ in how hard they are; an axis of its own shows how methods differ in each.
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, task in zip(panels.flat, comparison.tasks, strict=False):
            _draw(axes, points[points["task"] == task], points, markersize=3.5)
            axes.set_title(task.replace("->", " → "))
        for axes in panels.flat[len(comparison.tasks) :]:
            axes.remove()
        for column in range(columns):
            lowest = panels[(len(comparison.tasks) - 1 - column) // columns, column]
            lowest.set_xlabel(_MACS)
            # Shared axes hide what is not in the last row, also above an empty place.
            lowest.xaxis.label.set_visible(True)
            lowest.tick_params(labelbottom=True)
        _frame(figure, comparison, metric, f"{SELECTIONS[selection]}; {_spread(points)}")
        _legend(figure, comparison, points)
    return figure


def write(
    records: Records, out: Path, selection: str = "last", metric: str = "overall"
) -> tuple[Path, ...]:
    """Both figures of each setting as PNG and PDF in `out`; returns their paths.

    With one setting they are `accuracy_vs_compression` and `per_task`; with several each has a
    number behind its name, in the order of the tables.

    Raises:
        ResultsError: `out` cannot be written.
    """
    paths = []
    found = comparisons(records.frame)
    for number, comparison in enumerate(found, start=1):
        suffix = f"_{number}" if len(found) > 1 else ""
        for draw in (accuracy_vs_compression, per_task):
            figure = draw(comparison, selection, metric)
            for kind in ("png", "pdf"):
                path = out / f"{draw.__name__}{suffix}.{kind}"
                write_whole(path, _file(figure, kind))
                paths.append(path)
    return tuple(paths)


def _points(comparison: Comparison, values: pd.DataFrame) -> pd.DataFrame:
    """`values` with `removed`: a method's mean share of MACs removed at a compression, in percent.

    The mean over tasks and seeds, because those of one method and compression belong to one point,
    though each reaches the budget a little differently.
    """
    runs = comparison.frame
    # Where the suite could not tell what was reached, what was asked is the best there is.
    reached = runs["reached"].fillna(runs["compression"]).where(runs["compression"] > 0, 0.0)
    means = (100 * reached).groupby([runs["method"], runs["compression"]]).mean().rename("removed")
    points = values.merge(means.reset_index(), on=["method", "compression"])
    order = {method: position for position, method in enumerate(method_order(comparison))}
    return points.sort_values(
        ["method", "removed", "seed"], key=lambda v: v.map(order) if v.name == "method" else v
    )


def _draw(axes: Axes, panel: pd.DataFrame, points: pd.DataFrame, markersize: float = 5.0) -> None:
    """Draw a panel's points; all `points` of the figure decide what its panels share."""
    import seaborn as sns

    compressed = points[points["compression"] > 0]
    methods = list(compressed["method"].unique())
    bars = _single(points)
    if bars:
        _side_by_side(axes, compressed)
        panel = panel.assign(
            removed=panel["method"].map({name: place for place, name in enumerate(methods)})
        )
    if not panel[panel["compression"] > 0].empty:
        sns.lineplot(
            panel[panel["compression"] > 0],
            x="removed",
            y="accuracy",
            hue="method",
            style="method",
            hue_order=methods,
            style_order=methods,
            palette={method: look(method).colour for method in methods},
            markers={method: look(method).marker for method in methods},
            dashes={method: look(method).dash or "" for method in methods},
            # Standard deviation with ddof 1: none, so no band, for a single seed.
            errorbar="sd",
            err_style="bars" if bars else "band",
            err_kws={"capsize": 2, "elinewidth": 0.9} if bars else {"alpha": 0.15, "linewidth": 0},
            markersize=markersize,
            markeredgewidth=0.5,
            linewidth=1.2,
            legend=False,
            ax=axes,
        )
    for method, runs in panel[panel["compression"] == 0].groupby("method", sort=False):
        style = look(str(method))
        axes.axhline(
            runs["accuracy"].mean(), color=style.colour, dashes=style.dash, linewidth=0.9, zorder=1
        )
    axes.set(xlabel="", ylabel="")


def _single(points: pd.DataFrame) -> bool:
    """Whether there is only one compression: then there are points and bars, no lines and bands."""
    return points.loc[points["compression"] > 0, "compression"].nunique() <= 1


def _side_by_side(axes: Axes, compressed: pd.DataFrame) -> None:
    """One tick for the one compression: methods that reach the same MACs would hide each other."""
    if compressed.empty:
        axes.set_xticks([])
        return
    methods = compressed["method"].nunique()
    low, high = (f"{value:.1f}" for value in compressed["removed"].agg(["min", "max"]))
    axes.set_xticks([(methods - 1) / 2], [low if low == high else f"{low} to {high}"])
    axes.set_xlim(-1, methods)


def _name_references(axes: Axes, comparison: Comparison, points: pd.DataFrame) -> None:
    """Labels at the right end of the reference lines, moved apart where they would overlap."""
    references = points[points["compression"] == 0]
    heights = references.groupby("method")["accuracy"].mean().sort_values()
    if heights.empty:
        return
    # The height of the axes, which the layout decides, tells how far apart labels must be.
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    line = 9 / 72 * axes.figure.dpi / axes.get_window_extent().height * (high - low)
    for method, accuracy, height in zip(
        heights.index, heights, _apart(list(heights), line, high), strict=True
    ):
        axes.annotate(
            f"{_label(comparison, method)} {accuracy:.1f}",
            xy=(1, accuracy),
            xytext=(1.04, height),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=look(method).colour,
            fontsize=7,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "relpos": (0, 0.5)},
        )


def _apart(heights: list[float], gap: float, top: float) -> list[float]:
    """Ascending heights, moved so as to stand at least `gap` apart and none above `top`."""
    clusters: list[list[float]] = []
    for height in heights:
        clusters.append([height])
        # Stacks that would touch become one, centred where its members belong.
        while len(clusters) > 1 and _top(clusters[-2], gap) + gap > _bottom(clusters[-1], gap):
            last = clusters.pop()
            clusters[-1] += last
    moved = [
        _bottom(cluster, gap) + place * gap for cluster in clusters for place in range(len(cluster))
    ]
    return [min(height, top - place * gap) for place, height in enumerate(moved[::-1])][::-1]


def _bottom(cluster: list[float], gap: float) -> float:
    return sum(cluster) / len(cluster) - (len(cluster) - 1) / 2 * gap


def _top(cluster: list[float], gap: float) -> float:
    return _bottom(cluster, gap) + (len(cluster) - 1) * gap


def _label(comparison: Comparison, method: str) -> str:
    frame = comparison.frame
    return str(frame.loc[frame["method"] == method, "label"].iloc[0])


def _spread(points: pd.DataFrame) -> str:
    """What the bands or bars show, and n; with one seed there are none."""
    keys = [key for key in ("method", "compression", "task") if key in points]
    counts = points.groupby(keys).size()
    low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
    if high <= 1:
        return f"n = {high}, no sd"
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    return f"{'bars' if _single(points) else 'bands'}: ± sd over seeds, {n}"


def _frame(figure: Figure, comparison: Comparison, metric: str, what: str) -> None:
    """Axis names and the title: what was measured, on what, over how many seeds."""
    figure.supylabel(f"{METRICS[metric]} (%)")
    setting = f"{comparison.setting.suite}: {comparison.setting.describe()}"
    lines = [*textwrap.wrap(setting, 76), *textwrap.wrap(what, 76)]
    figure.suptitle("\n".join(lines))
    _grow(figure, len(lines))


def _legend(figure: Figure, comparison: Comparison, points: pd.DataFrame) -> None:
    """The methods that are drawn, below the axes, where no data is."""
    from matplotlib.lines import Line2D

    drawn = set(points["method"])
    handles = []
    for method in method_order(comparison):
        if method not in drawn:
            continue
        style = look(method)
        line = Line2D([], [], color=style.colour, linewidth=1.2, label=_label(comparison, method))
        line.set(marker=style.marker, markeredgecolor="white", markeredgewidth=0.5, markersize=5)
        if style.marker and _single(points):
            line.set_linestyle("none")
        elif style.dash:
            line.set_linestyle((0, style.dash))
        handles.append(line)
    if handles:
        _grow(figure, -(-len(handles) // _LEGEND_COLUMNS))
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=_LEGEND_COLUMNS,
            frameon=False,
            handlelength=3.6,
        )


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    # The height of the axes with their names; `_frame` and `_legend` add what they take.
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _grow(figure: Figure, lines: int) -> None:
    """Make room for lines of text, so that the axes keep their height."""
    figure.set_figheight(figure.get_figheight() + _LINE * lines)


def _style() -> AbstractContextManager[None]:
    """Small type for a paper's column, a light grid, fonts that stay text in a PDF."""
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "font.size": 8,
            "figure.titlesize": 8,
            "figure.labelsize": 8,
            "axes.titlesize": 8,
            "legend.fontsize": 7.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.edgecolor": "0.4",
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "0.9",
            "grid.linewidth": 0.6,
            "pdf.fonttype": 42,
        }
    )


def _file(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    # Without the time of day, the same records give the same file.
    metadata = {"CreationDate": None} if kind == "pdf" else {}
    with _style():
        figure.savefig(content, format=kind, dpi=200, metadata=metadata)
    return content.getvalue()


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
    for path in write(records, arguments.out, arguments.select, arguments.metric):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
