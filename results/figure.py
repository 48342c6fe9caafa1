"""What stands around the data of a figure: size, title, legend, names of references, file."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from results.comparison import Comparison, method_order
from results.looks import Look, looks
from results.schema import METRICS

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
WIDTH = 4.8
_LINE = 0.16
# Points; of the white line around markers, which keeps them apart.
EDGE = 0.4
_LEGEND_COLUMNS = 3
_OTHER_SCRIPTS = ("Noto Sans CJK", "Source Han Sans", "WenQuanYi", "IPAGothic", "Unifont")


def looks_of(comparison: Comparison) -> dict[str, Look]:
    """How each method of a comparison is drawn, in all its figures."""
    return looks(method_order(comparison))


def single(points: pd.DataFrame) -> bool:
    """Whether there is only one compression: then there are points and bars, no lines and bands."""
    return bool(points.loc[points["compression"] > 0, "compression"].nunique() <= 1)


def name_methods(axes: Axes, comparison: Comparison, methods: Sequence[str]) -> None:
    """Names of methods that stand side by side at 0, 1, …, upright below the axes."""
    labels = [comparison.describe(method)[0] for method in methods]
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.tick_params(axis="x", length=0)
    # Small type is about a third of a line of text wide.
    grow(axes.figure, max(map(len, labels), default=0) / 3)  # type: ignore[arg-type]


def name_references(axes: Axes, comparison: Comparison, points: pd.DataFrame) -> None:
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
            f"{comparison.describe(method)[0]} {accuracy:.1f}",
            xy=(1, accuracy),
            xytext=(1.04, height),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=looks_of(comparison)[method].colour,
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


def frame(figure: Figure, comparison: Comparison, metric: str, what: str) -> None:
    """Axis names and the title: what was measured, on what, over how many seeds."""
    figure.supylabel(f"{METRICS[metric]} (%)")
    setting = f"{comparison.setting.suite}: {comparison.setting.describe()}"
    lines = [*textwrap.wrap(setting, 76), *textwrap.wrap(what, 76)]
    figure.suptitle("\n".join(lines))
    grow(figure, len(lines))


def add_legend(figure: Figure, comparison: Comparison, points: pd.DataFrame) -> None:
    """The methods that are drawn, below the axes, where no data is."""
    from matplotlib.lines import Line2D

    drawn = set(points["method"])
    handles = []
    for method in method_order(comparison):
        if method not in drawn:
            continue
        look, (label, _) = looks_of(comparison)[method], comparison.describe(method)
        line = Line2D([], [], color=look.colour, linewidth=1.2, label=label)
        line.set(marker=look.marker, markeredgecolor="white", markeredgewidth=EDGE, markersize=5)
        if look.marker and single(points):
            line.set_linestyle("none")
        elif look.dash:
            line.set_linestyle((0, look.dash))
        handles.append(line)
    if handles:
        grow(figure, -(-len(handles) // _LEGEND_COLUMNS))
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=_LEGEND_COLUMNS,
            frameon=False,
            handlelength=3.6,
        )


def new_figure(height: float) -> Figure:
    """A figure whose axes, with their names, are so high; `frame` and `add_legend` add theirs."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def grow(figure: Figure, lines: float) -> None:
    """Make room for lines of text, so that the axes keep their height."""
    figure.set_figheight(figure.get_figheight() + _LINE * lines)


def style() -> AbstractContextManager[None]:
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
            "font.family": ["DejaVu Sans", *_fonts_of_other_scripts()],
        }
    )


@cache
def _fonts_of_other_scripts() -> list[str]:
    """Installed fonts for names that the usual one has no letters for."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return sorted(name for name in installed if name.startswith(_OTHER_SCRIPTS))


def file_content(figure: Figure, kind: str) -> bytes:
    """The figure as a `png` or `pdf`; the same records give the same bytes."""
    content = io.BytesIO()
    # No time of day.
    metadata = {"CreationDate": None} if kind == "pdf" else {}
    with style(), warnings.catch_warnings():
        # Letters that no font here has are drawn as boxes; a line a letter says no more than they.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing", category=UserWarning)
        figure.savefig(content, format=kind, dpi=200, metadata=metadata)
    return content.getvalue()
