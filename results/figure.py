"""What stands around the data of a figure: size, title, legend, names of references, file."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from results.plots.subject import Subject
from results.schema import METRICS
from results.statistics import mean

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Widths in inches: a column of a paper in two columns, and both with the gap between them.
SIZES = {"column": 3.35, "page": 6.9}
FORMATS = ("png", "pdf", "svg")
# Points.
TYPE = 7.0
# Of the white line around markers, which keeps them apart.
EDGE = 0.4
LINE = 1.1
_INCHES_A_LINE = 0.135
# A letter of the type, on average, is so much of its size wide.
_LETTER = 0.52
_HANDLE = 3.2
_OTHER_SCRIPTS = ("Noto Sans CJK", "Source Han Sans", "WenQuanYi", "IPAGothic", "Unifont")


def new_figure(subject: Subject, height: float, usual: str = "column") -> Figure:
    """A figure whose axes, with their names, are so high; `frame` and `add_legend` add theirs.

    Its width is the `usual` one of `SIZES`, unless the subject says another.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(SIZES[subject.size or usual], height), layout="constrained")


def panels(
    figure: Figure, count: int, columns: int, titles: Sequence[str], **shared: Any
) -> list[Axes]:
    """So many axes in rows, a title above each; empty places of the last row are removed."""
    columns = min(columns, count)
    grid = figure.subplots(-(-count // columns), columns, squeeze=False, **shared)
    for axes in grid.flat[count:]:
        axes.remove()
    made = list(grid.flat[:count])
    for place, (axes, title) in enumerate(zip(made, titles, strict=True)):
        axes.set_title(title)
        if place + columns >= count:
            # Shared axes hide what is not in the last row, also above an empty place.
            axes.tick_params(labelbottom=True)
    return made


def frame(figure: Figure, subject: Subject, what: Iterable[str], y: str | None = None) -> None:
    """The title, and the name of the y axis that all axes share.

    Args:
        figure: with its axes.
        subject: what it is drawn of.
        what: what is drawn, how the epoch was chosen, over how many seeds: parts of the title
            behind the setting, empty ones left out.
        y: the name; None for that of the accuracy, empty for none.
    """
    y = f"{METRICS[subject.metric]} (%)" if y is None else y
    if len(figure.axes) == 1:
        figure.axes[0].set_ylabel(y)
    elif y:
        figure.supylabel(y)
    room = int(figure.get_figwidth() * 72 / (_LETTER * TYPE))
    parts = "; ".join(part for part in what if part)
    lines = [line for text in (subject.setting(), parts) for line in textwrap.wrap(text, room)]
    figure.suptitle("\n".join(lines))
    grow(figure, len(lines))


def name_methods(axes: Axes, subject: Subject, methods: Sequence[str]) -> None:
    """Names of methods that stand side by side at 0, 1, …, upright below the axes."""
    labels = [subject.label(method) for method in methods]
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.tick_params(axis="x", length=0)
    # Upright, a letter takes about half a line of text.
    grow(axes.figure, max(map(len, labels), default=0) / 2.3)  # type: ignore[arg-type]


def name_references(axes: Axes, subject: Subject, points: pd.DataFrame) -> None:
    """Labels at the right end of the reference lines, moved apart where they would overlap."""
    references = points[points["compression"] == 0]
    heights = references.groupby("method")["accuracy"].agg(mean).sort_values()
    if heights.empty:
        return
    # The height of the axes, which the layout decides, tells how far apart labels must be.
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    line = (TYPE + 1.5) / 72 * axes.figure.dpi / axes.get_window_extent().height * (high - low)
    for method, accuracy, height in zip(
        heights.index, heights, _apart(list(heights), line, high), strict=True
    ):
        axes.annotate(
            f"{subject.label(method)} {accuracy:.1f}",
            xy=(1, accuracy),
            xytext=(1.05, height),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=subject.looks[method].colour,
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


def handle(subject: Subject, method: str, line: bool = True) -> Line2D:
    """A method's entry in a legend, with its line or as a point only."""
    from matplotlib.lines import Line2D

    look = subject.looks[method]
    made = Line2D([], [], color=look.colour, linewidth=LINE, label=subject.label(method))
    made.set(marker=look.marker, markeredgecolor="white", markeredgewidth=EDGE, markersize=5)
    if look.marker and not line:
        made.set_linestyle("none")
    elif look.dash:
        made.set_linestyle((0, look.dash))
    return made


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """The entries below the axes, where no data is, in as many columns as there is room for."""
    if not handles:
        return
    longest = max(len(str(made.get_label())) for made in handles)
    # Behind the handle, and between columns, is room for three letters together.
    column = TYPE * (_HANDLE + _LETTER * (longest + 3))
    columns = max(1, min(len(handles), int(figure.get_figwidth() * 72 / column)))
    grow(figure, -(-len(handles) // columns) + 0.5)
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=_HANDLE,
        columnspacing=1.0,
        labelspacing=0.3,
    )


def centre_names(figure: Figure) -> None:
    """Names that several axes share stand in the middle of these, not of the figure.

    To be called last: the middle depends on all that stands around the axes.
    """
    figure.draw_without_rendering()
    boxes = [axes.get_position() for axes in figure.axes]
    for name, move in ((figure.get_supxlabel(), "x"), (figure.get_supylabel(), "y")):
        if name:
            ends = [getattr(box, f"{move}{end}") for box in boxes for end in (0, 1)]
            middle = (min(ends) + max(ends)) / 2
            (figure.supxlabel if move == "x" else figure.supylabel)(name, **{move: middle})


def within_percent(axes: Axes) -> None:
    """Cut the y axis at 0 and 100: wide intervals go beyond, accuracies do not."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low), min(100.0, high))


def grow(figure: Figure, lines: float) -> None:
    """Make room for lines of text, so that the axes keep their height."""
    figure.set_figheight(figure.get_figheight() + _INCHES_A_LINE * lines)


def style() -> AbstractContextManager[None]:
    """Type of 7 points, a light grid, text that stays text, and the same file each time."""
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "font.size": TYPE,
            # A dollar sign in a name is one.
            "text.parse_math": False,
            "figure.titlesize": TYPE,
            "figure.labelsize": TYPE,
            "axes.titlesize": TYPE,
            "axes.labelsize": TYPE,
            "legend.fontsize": TYPE,
            "xtick.labelsize": TYPE,
            "ytick.labelsize": TYPE,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.edgecolor": "0.4",
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlepad": 3,
            "axes.labelpad": 2,
            "grid.color": "0.9",
            "grid.linewidth": 0.6,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "xtick.major.pad": 2,
            "ytick.major.pad": 2,
            "pdf.fonttype": 42,
            "svg.fonttype": "none",
            # Names of parts of an SVG are random without it.
            "svg.hashsalt": "results.plot",
            "font.family": ["DejaVu Sans", *_fonts_of_other_scripts()],
        }
    )


@cache
def _fonts_of_other_scripts() -> list[str]:
    """Installed fonts for names that the usual one has no letters for."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return sorted(name for name in installed if name.startswith(_OTHER_SCRIPTS))


def file_content(figure: Figure, form: str) -> bytes:
    """The figure in one of `FORMATS`; the same records give the same bytes."""
    content = io.BytesIO()
    # No time of day.
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form, {})
    with style(), warnings.catch_warnings():
        # Letters that no font here has are drawn as boxes; a line a letter says no more than they.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing", category=UserWarning)
        figure.savefig(content, format=form, dpi=300, metadata=metadata)
    return content.getvalue()
