"""Digit outlines from matplotlib's own fonts, and a small polygon rasteriser.

The pictures must be the same to the byte everywhere, so nothing here leaves the shape of a pixel
to a library: outlines are the whole numbers in the font files, read with fontTools (which comes
with matplotlib, whose own FreeType scales them, and not alike in 3.10 and 3.11), curves are
flattened here, and the fill is plain element-wise float64 arithmetic (no BLAS, whose order of
summation differs between processors).
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOOK_FONTS: tuple[str, ...] = (
    "DejaVuSans.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmtt10.ttf",
)
"""Faces for running text: files of matplotlib's `mpl-data/fonts/ttf`, the same since 3.10."""

SIGN_FONTS: tuple[str, ...] = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif-Bold.ttf",
    "STIXGeneralBol.ttf",
    "cmb10.ttf",
    "cmss10.ttf",
)
"""Faces for signs, mostly bold or without serifs; from the same folder."""

_OVERSAMPLING = 4
_STEPS_PER_CURVE = 5

Edges = NDArray[np.float64]
"""Outline as edges (E, 4), each x0, y0, x1, y1."""


class Affine(NamedTuple):
    """Map x' = a x + b y + c, y' = d x + e y + f from outline units to pixels (y down)."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float


@functools.cache
def outline(font: str, digit: int) -> Edges:
    """Outline of a digit, centred on its bounding box; unit: the height of the font's zero, y up.

    Args:
        font: a file of `BOOK_FONTS` or `SIGN_FONTS`.
        digit: 0 to 9.

    Returns:
        Edges of all contours, (E, 4) float64. Filled by the even-odd rule, so holes are kept.
    """
    contours = _contours(font, digit)
    heights = np.concatenate([points[:, 1] for points in _contours(font, 0)])
    points = np.concatenate(contours)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    loops = [np.hstack([points, np.roll(points, -1, axis=0)]) for points in contours]
    edges: Edges = np.concatenate(loops)
    edges = (edges - np.tile(centre, 2)) / (heights.max() - heights.min())
    edges.setflags(write=False)  # it is cached, and shared
    return edges


def rasterise(edges: Edges, affine: Affine, weight: int, size: int) -> NDArray[np.float64]:
    """Coverage of a filled outline on a square picture.

    Args:
        edges: outline, (E, 4).
        affine: from outline units to pixels.
        weight: stroke weight, in quarter pixels added on each side of a stroke; not negative,
            for many of these fonts have hairlines that would vanish.
        size: side of the picture, in pixels.

    Returns:
        Share of each pixel that is covered, (size, size), multiples of 1/16 in [0, 1].
    """
    fine = size * _OVERSAMPLING
    # Vertices on a grid of 1/256 sub-pixel: a last bit of sine or cosine cannot move an edge.
    x0, y0, x1, y1 = (
        np.rint(value * (256 * _OVERSAMPLING)) / 256
        for start in (0, 2)
        for value in (
            affine.a * edges[:, start] + affine.b * edges[:, start + 1] + affine.c,
            affine.d * edges[:, start] + affine.e * edges[:, start + 1] + affine.f,
        )
    )
    centres = np.arange(fine)[:, None] + 0.5
    rows, crossed = np.nonzero((y0 <= centres) != (y1 <= centres))
    along = (rows + 0.5 - y0[crossed]) / (y1[crossed] - y0[crossed])
    crossings = x0[crossed] + along * (x1[crossed] - x0[crossed])
    columns = np.clip(np.ceil(crossings - 0.5), 0, fine).astype(np.int64)
    counts = np.bincount(rows * (fine + 1) + columns, minlength=fine * (fine + 1))
    inside = np.cumsum(counts.reshape(fine, fine + 1), axis=1)[:, :fine] % 2 == 1
    blocks = _dilate(inside, weight).reshape(size, _OVERSAMPLING, size, _OVERSAMPLING)
    covered: NDArray[np.float64] = blocks.sum(axis=(1, 3)) / _OVERSAMPLING**2
    return covered


def _dilate(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Grow a mask by `steps` sub-pixels, in each step by the four neighbours."""
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


@functools.cache
def _contours(font: str, digit: int) -> list[NDArray[np.float64]]:
    """Closed contours of a digit in font units, curves flattened, each (V, 2)."""
    # Imported here, for they are slow, and who has the pictures in a store needs no fonts.
    import matplotlib
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    # The dates in Computer Modern's files are odd; fontTools says so each time it opens one.
    logging.getLogger("fontTools.ttLib.tables._h_e_a_d").setLevel(logging.ERROR)
    with TTFont(Path(matplotlib.get_data_path(), "fonts", "ttf", font), lazy=True) as face:
        table = face["glyf"]
        glyph = table[face.getBestCmap()[ord(str(digit))]]
        coordinates, ends, flags = glyph.getCoordinates(table)
        points, on_curve = np.array(coordinates, dtype=np.float64), np.array(flags) & 1 == 1
    return [
        _flatten(contour, on)
        for contour, on in zip(
            np.split(points, np.array(ends[:-1]) + 1),
            np.split(on_curve, np.array(ends[:-1]) + 1),
            strict=True,
        )
    ]


def _flatten(points: NDArray[np.float64], on_curve: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A closed TrueType contour as a polygon (V, 2).

    Each control point (`on_curve` false) bends the way between its neighbours into a quadratic
    Bezier curve; between two control points in a row, their middle is on the curve.
    """
    polygon: list[NDArray[np.float64]] = []
    for here, point in enumerate(points):
        if on_curve[here]:
            polygon.append(point)
            continue
        before, after = here - 1, (here + 1) % len(points)
        start = points[before] if on_curve[before] else (points[before] + point) / 2
        end = points[after] if on_curve[after] else (point + points[after]) / 2
        # The start ended what came before. An end that is a point itself is added in its turn.
        for step in range(1, _STEPS_PER_CURVE + (not on_curve[after])):
            t = step / _STEPS_PER_CURVE
            polygon.append((1 - t) ** 2 * start + 2 * t * (1 - t) * point + t**2 * end)
    return np.stack(polygon)
