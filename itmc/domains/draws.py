"""What is random in a training batch: drawn on the CPU, for the whole batch at once.

Every batch draws the same numbers in the same order, ``COLUMNS`` an image, whatever comes of them
and whatever is switched on: two batches of one key differ in what their settings say, no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Augment = Literal["resized_crop", "centre_crop", "shift", "none"]
Strengths = tuple[float, float, float, float]

# torchvision's RandomResizedCrop: share of the area, aspect (width by height), tries.
_SCALE = (0.08, 1.0)
_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))
_TRIES = 10
_SHIFT = 16
COLUMNS = 2 * _TRIES + 2 + 1 + 4 + 4
"""Uniform numbers an image: areas, aspects, position, mirror, jitter's factors and their order."""


@dataclass(frozen=True)
class Draws:
    """The parameters of a batch of N images."""

    boxes: np.ndarray
    """``(N, 4)`` int64, pixels: top, left, height, width of what is kept of the image (for
    ``shift``: of the image with its border repeated ``reach`` times on each side)."""
    mirrored: np.ndarray
    """``(N,)`` bool: whether left and right are exchanged."""
    factors: np.ndarray
    """``(N, 4)`` float64: of brightness, contrast, saturation (1 changes nothing), hue (0 does)."""
    orders: np.ndarray
    """``(N, A)`` int64: the A jitters of some strength, as columns of ``factors``, in order."""


def draw(
    random: np.random.Generator,
    count: int,
    side: int,
    augment: Augment,
    flip: bool,
    jitter: Strengths,
) -> Draws:
    """The parameters of ``count`` square images of ``side`` pixels.

    ``jitter``: strengths of brightness, contrast, saturation and hue, as of torchvision's
    ColorJitter.
    """
    uniform = random.random((count, COLUMNS))
    areas, aspects, place, mirror, factors, keys = np.split(
        uniform, np.cumsum([_TRIES, _TRIES, 2, 1, 4]), axis=1
    )
    if augment == "resized_crop":
        boxes = _crops(areas, aspects, place, side)
    elif augment == "shift":
        boxes = _shifts(place, side)
    else:
        boxes = np.tile([0, 0, side, side], (count, 1))
    active = np.flatnonzero(jitter)
    return Draws(
        boxes=boxes,
        mirrored=(mirror[:, 0] < 0.5) & flip,
        factors=_factors(factors, jitter),
        orders=active[keys[:, active].argsort(axis=1)],
    )


def reach(side: int) -> int:
    """How far an image of ``side`` pixels is shifted at most, in pixels."""
    return side // _SHIFT


def _crops(areas: np.ndarray, aspects: np.ndarray, place: np.ndarray, side: int) -> np.ndarray:
    """Inception's crops with torchvision's parameters: the first of ten tries that fits.

    Where none does torchvision takes the middle at the nearest aspect allowed, which of a square
    image is all of it.
    """
    area = side * side * _between(areas, *_SCALE)
    aspect = np.exp(_between(aspects, *_LOG_ASPECT))
    sizes = np.rint(np.sqrt(np.stack([area / aspect, area * aspect], axis=2))).astype(np.int64)
    fits = ((sizes > 0) & (sizes <= side)).all(axis=2)
    rows = np.arange(len(areas))
    chosen = np.where(fits.any(axis=1)[:, None], sizes[rows, fits.argmax(axis=1)], side)
    return np.concatenate([_whole(place, side - chosen + 1), chosen], axis=1)


def _shifts(place: np.ndarray, side: int) -> np.ndarray:
    starts = _whole(place, np.int64(2 * reach(side) + 1))
    return np.concatenate([starts, np.full_like(starts, side)], axis=1)


def _factors(uniform: np.ndarray, jitter: Strengths) -> np.ndarray:
    strength = np.array(jitter)
    centre = np.array([1.0, 1.0, 1.0, 0.0])
    lowest = np.array([0.0, 0.0, 0.0, -np.inf])
    return _between(uniform, np.maximum(centre - strength, lowest), centre + strength)


def _between(uniform: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    return low + uniform * (high - low)


def _whole(uniform: np.ndarray, count: np.ndarray | np.int64) -> np.ndarray:
    """Whole numbers from 0 to below ``count``; a product just below it may be rounded up to it."""
    return np.minimum((uniform * count).astype(np.int64), count - 1)
