"""Critical-difference diagram: average ranks on a line, and bars over what cannot be told apart."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.figure import EDGE, LINE, TYPE, frame, grow, new_figure, style
from results.plots.subject import Subject
from results.ranks import MethodRank, Ranks, friedman_in_words
from results.records import plural
from results.render import block_title

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Shares of the width: where the line of ranks begins, and where what is left of it begins.
_LEFT = 0.33
_GAP = 0.015
# In lines of text from the top: the ends of what stands above the names.
_CRITICAL, _AXIS = 1.3, 3.2
# Between bars, in lines of text.
_BAR = 0.55
_GREY = "0.4"
# More methods than these need the width of a page.
_MANY = 20
# Letters of a name that have room in a line, by the size of the figure.
_LETTERS = {"column": 18, "page": 36}
# What each line of a name after its first adds to its height.
_NEXT = 0.85


@dataclass(frozen=True)
class _Name:
    """A method beside the line of ranks: its text, and its place from the top, in lines."""

    method: MethodRank
    text: str
    height: float
    left: bool


def critical_difference(ranks: Ranks, subject: Subject) -> Figure:
    """The diagram of Demšar (2006, section 3.2.4), the best at the left.

    Methods joined by a bar have ranks that differ by less than Nemenyi's critical difference CD,
    whose length stands above.

    Args:
        ranks: what is drawn.
        subject: of the same setting: how methods are drawn, and how large.
    """
    usual = "page" if len(ranks.methods) > _MANY else "column"
    size = subject.size or usual
    first = _AXIS + _BAR * len(ranks.cliques) + 1.2
    names, height = _names(ranks, _LETTERS[size], first)
    with style():
        figure = new_figure(subject, 0.1, usual)
        grow(figure, height)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(height, 0))
        scale = _Scale.of(ranks)
        _draw_line(axes, ranks, scale)
        for name in names:
            _draw_name(axes, name, scale, subject)
        for number, clique in enumerate(ranks.cliques, start=1):
            ends = [ranks.methods[place].rank for place in (clique[0], clique[-1])]
            # A little longer, so that a bar over equal ranks is seen.
            left, right = scale.x(ends[0]) - 0.008, scale.x(ends[1]) + 0.008
            at = _AXIS + _BAR * number
            axes.plot([left, right], [at, at], color="0.15", linewidth=2.2, solid_capstyle="butt")
        blocks = f"{plural(ranks.tasks, 'task')} and {plural(ranks.seeds, 'seed')}"
        what = (
            f"average ranks over {plural(ranks.blocks, 'block')} of {blocks}",
            block_title(ranks.compression),
            subject.selected(),
            friedman_in_words(ranks),
            f"level {1 - ranks.confidence:.3g}",
            f"without {', '.join(ranks.left_out)}" if ranks.left_out else "",
        )
        frame(figure, subject, what, y="")
    return figure


@dataclass(frozen=True)
class _Scale:
    """Where a rank stands on the line, whose ends are ranks that are in use."""

    low: float
    high: float
    length: float

    @classmethod
    def of(cls, ranks: Ranks) -> _Scale:
        """The scale on which the ranks, and the critical difference, have room."""
        low = math.floor(ranks.methods[0].rank)
        high = max(math.ceil(ranks.methods[-1].rank), low + 1)
        return cls(low, high, max(high - low, ranks.critical))

    def x(self, rank: float) -> float:
        """As a share of the width."""
        return _LEFT + (rank - self.low) / self.length * (1 - 2 * _LEFT)


def _names(ranks: Ranks, letters: int, first: float) -> tuple[list[_Name], float]:
    """The better half at the left, the best on top; the others at the right, the worst on top.

    In this order no two of their lines cross. Also returned: where they end, in lines of text.
    """
    half = -(-len(ranks.methods) // 2)
    names, lowest = [], 0.0
    for left, methods in ((True, ranks.methods[:half]), (False, ranks.methods[half:][::-1])):
        height = first
        for method in methods:
            # Values of hyper-parameters may stand in another line than their names.
            spaced = textwrap.wrap(method.label.replace("=", "= "), letters)
            lines = [line.replace("= ", "=") for line in spaced]
            more = _NEXT * (len(lines) - 1)
            names.append(_Name(method, "\n".join(lines), height + more / 2, left))
            height += more + 1.15
        lowest = max(lowest, height)
    return names, lowest - 0.3


def _draw_line(axes: Axes, ranks: Ranks, scale: _Scale) -> None:
    """The line of ranks with its ticks, and above it the critical difference."""
    axes.plot([scale.x(scale.low), scale.x(scale.high)], [_AXIS] * 2, color=_GREY, linewidth=0.8)
    span = int(scale.high - scale.low)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if span / step <= 6)
    for rank in range(int(scale.low), int(scale.high) + 1):
        named = rank % step == 0
        x, top = scale.x(rank), _AXIS - (0.35 if named else 0.2)
        axes.plot([x, x], [_AXIS, top], color=_GREY, linewidth=0.8)
        if named:
            axes.text(x, top - 0.1, str(rank), ha="center", va="bottom")
    ends = [scale.x(scale.low), scale.x(scale.low + ranks.critical)]
    axes.plot(ends, [_CRITICAL] * 2, color="0.15", linewidth=LINE)
    for end in ends:
        axes.plot([end, end], [_CRITICAL - 0.2, _CRITICAL + 0.2], color="0.15", linewidth=LINE)
    words = f"CD = {ranks.critical:.2f}"
    axes.text(sum(ends) / 2, _CRITICAL - 0.25, words, ha="center", va="bottom")


def _draw_name(axes: Axes, name: _Name, scale: _Scale, subject: Subject) -> None:
    """A method's point on the line, and the way from it to its name."""
    look, x = subject.looks[name.method.method], scale.x(name.method.rank)
    side = _LEFT - 0.04 if name.left else 1 - _LEFT + 0.04
    axes.plot([x, x, side], [_AXIS, name.height, name.height], color=look.colour, linewidth=0.8)
    axes.plot(
        *([x], [_AXIS]),
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=EDGE,
        zorder=4,
        clip_on=False,
    )
    axes.text(
        side + (-_GAP if name.left else _GAP),
        name.height,
        name.text,
        ha="right" if name.left else "left",
        va="center",
        fontsize=TYPE,
        linespacing=1.0,
    )
