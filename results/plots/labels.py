"""Names at points of a plot, moved until none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

# Between a point and its name, in points.
_AWAY = 3.0
# How often names are placed anew in higher axes; twice is enough for a dozen of them.
_ROUNDS = 5


def name_above_left(axes: Axes, named: Sequence[tuple[float, float, str]]) -> None:
    """Names of points that rise from left to right, each above and left of its own.

    A name that would cover one before it is moved up, with a line to its point. The axes are
    widened to the left and upwards until all names are within.

    Args:
        axes: with all its data and a layout.
        named: x, y and name of each point, by ascending x.
    """
    figure = axes.figure
    made = [_name(axes, x, y, text) for x, y, text in named]
    # The layout decides how long names are in relation to the axes.
    figure.draw_without_rendering()  # type: ignore[union-attr]
    _widen(axes, [x for x, _, _ in named], [_extent(label)[2] for label in made])
    figure.draw_without_rendering()  # type: ignore[union-attr]
    for _ in range(_ROUNDS):
        if not _heighten(axes, _stack(axes, made, named)):
            break
        # The points have moved closer together, and their names with them.
        figure.draw_without_rendering()  # type: ignore[union-attr]


def _stack(
    axes: Axes, made: Sequence[Annotation], named: Sequence[tuple[float, float, str]]
) -> float:
    """Move up what would cover a name before it; returns how high the names reach, in pixels."""
    pixel = 72 / axes.figure.dpi
    placed: list[tuple[float, float]] = []
    for label, (x, y, _) in zip(made, named, strict=True):
        label.set_position((-_AWAY, _AWAY))
        _, bottom, width, height = _extent(label)
        right = axes.transData.transform((x, y))[0]
        # Names rise as their points do: only those that reach this far to the right matter.
        floor = max((top for end, top in placed if end > right - width), default=bottom)
        moved = floor > bottom
        if moved:
            label.set_position((-_AWAY, _AWAY + (floor - bottom) * pixel))
        label.arrow_patch.set_visible(moved)  # type: ignore[union-attr]
        placed.append((right, max(floor, bottom) + height + 1))
    return max((top for _, top in placed), default=0.0)


def _name(axes: Axes, x: float, y: float, text: str) -> Annotation:
    from matplotlib.patheffects import withStroke

    label = axes.annotate(
        text,
        xy=(x, y),
        xytext=(-_AWAY, _AWAY),
        textcoords="offset points",
        ha="right",
        va="bottom",
        zorder=5,
        # Lines of the data may pass below.
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
        arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.5, "relpos": (1, 0)},
    )
    label.arrow_patch.set_visible(False)  # type: ignore[union-attr]
    return label


def _extent(label: Annotation) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the text alone, in pixels."""
    from matplotlib.text import Text

    left, bottom, width, height = Text.get_window_extent(label).bounds
    return left, bottom, width, height


def _widen(axes: Axes, xs: Sequence[float], widths: Sequence[float]) -> None:
    """Move the left limit so that what is so wide (pixels) fits left of each x."""
    scale = axes.xaxis.get_transform()
    left, right = scale.transform(list(axes.get_xlim()))
    room = axes.get_window_extent().width
    for x, width in zip(xs, widths, strict=True):
        share = (width + 2 * _AWAY * axes.figure.dpi / 72) / room
        if share < 1:
            at = scale.transform([x])[0]
            left = min(left, (at - share * right) / (1 - share))
    axes.set_xlim(left=scale.inverted().transform([left])[0])


def _heighten(axes: Axes, top: float) -> bool:
    """Move the upper limit so that what reaches up to `top` (pixels) now fits; whether it moved."""
    box = axes.get_window_extent()
    if top <= box.y1:
        return False
    low, high = axes.get_ylim()
    # Names keep their distance in pixels while the data below them shrink.
    axes.set_ylim(top=high + (high - low) * (top - box.y1) / box.height * 1.2)
    return True
