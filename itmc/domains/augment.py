"""From stored uint8 images to normalised float batches: random for training, fixed for testing.

A batch is worked on as a whole, on the device that it lies on; what is random about it is drawn
on the CPU (``draws``), so that one key means the same crops, flips and colours on every device.

On a CPU with two threads, from 256 to 112 pixels, crop, mirroring and normalisation take 0.12 ms
an image, and all four colour jitters 0.3 ms more. torchvision's transforms, image by image, take
1.4 ms for all of it; a training step of MobileNetV2 takes 9 ms an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from itmc.config import Frozen
from itmc.domains.draws import Augment, draw, reach
from itmc.domains.jitter import jittered
from itmc.domains.resample import resized

_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_HueStrength = Annotated[float, Field(ge=0, le=0.5)]


class DataConfig(Frozen):
    """How images become inputs."""

    image_size: int = Field(224, ge=8)
    """Side of the network's input in pixels."""
    augment: Augment = "resized_crop"
    """``resized_crop``: a random 8-100% of the area, aspect 3/4 to 4/3. ``centre_crop``: that of
    testing. ``shift``: up to 1/16."""
    flip: bool = True
    """Whether training images are mirrored at random."""
    color_jitter: tuple[_Strength, _Strength, _Strength, _HueStrength] = (0.0, 0.0, 0.0, 0.0)
    """How far brightness, contrast, saturation and hue (to 0.5) vary, as ColorJitter has it."""
    test_crop: float = Field(0.875, gt=0, le=1)
    """Side of the centre crop for testing, as a share of the stored image (224 of 256)."""
    test_crops: Literal[1, 10] = 1
    """Views that each test image is judged by: the centre, or the four corners and it, mirrored
    too."""
    normalise: Literal["imagenet", "half"] = "imagenet"
    """Mean and deviation of the channels: ImageNet's, or 0.5."""
    source_holdout: float = Field(0.1, ge=0, lt=0.5)
    """Share of the labelled source kept out of training, to validate on."""

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel (red, green, blue) of images from 0 to 1."""
        return _STATISTICS[self.normalise]


def augmented(images: Tensor, config: DataConfig, random: np.random.Generator) -> Tensor:
    """A training batch: ``(N, S, S, 3)`` uint8 to normalised float32 ``(N, 3, size, size)``.

    The result is on the device of ``images``, in channels-last layout. ``random`` gives the same
    count of numbers whatever ``config`` says.
    """
    if config.augment == "centre_crop":
        side = _crop_side(images.shape[1], config)
        start = _middle(images.shape[1], side)
        images = images[:, start : start + side, start : start + side]
    draws = draw(
        random, len(images), images.shape[1], config.augment, config.flip, config.color_jitter
    )
    if config.augment == "shift":
        images = _bordered(images, reach(images.shape[1]))
    batch = resized(images, draws.boxes, draws.mirrored, config.image_size)
    if any(config.color_jitter):
        return normalised(jittered(batch, draws.factors, draws.orders), config)
    return normalised(batch.permute(0, 3, 1, 2), config)


def plain(images: Tensor, config: DataConfig) -> Tensor:
    """A test batch: centre crop, resize, normalise; shapes as in ``augmented``."""
    side = _crop_side(images.shape[1], config)
    middle = _middle(images.shape[1], side)
    return _view(images, (middle, middle), side, False, config)


def ten_crops(images: Tensor, config: DataConfig) -> Iterator[Tensor]:
    """Test batches of the four corners and the centre, mirrored too where training images are."""
    stored = images.shape[1]
    side = _crop_side(stored, config)
    last, middle = stored - side, _middle(stored, side)
    corners = [(0, 0), (0, last), (last, 0), (last, last), (middle, middle)]
    for corner in corners:
        yield _view(images, corner, side, False, config)
    if config.flip:
        # The corners of the mirrored image: its left is the image's right.
        for top, left in corners:
            yield _view(images, (top, last - left), side, True, config)


def in_words(config: DataConfig, stored_size: int) -> str:
    """What becomes of an image file in a test batch, for those who use the network elsewhere.

    ``stored_size``: side of the stored images, in pixels.
    """
    side = _crop_side(stored_size, config)
    steps = [f"RGB resized to {stored_size}x{stored_size} (bilinear)"]
    if side != stored_size:
        steps.append(f"centre crop of {side}x{side}")
    if side != config.image_size:
        steps.append(f"resized to {config.image_size}x{config.image_size}")
    return ", ".join([*steps, "divided by 255, minus mean, divided by std"])


def normalised(batch: Tensor, config: DataConfig) -> Tensor:
    """Levels 0-255 ``(N, 3, S, S)`` to float32 with the configured mean and deviation.

    ``batch`` may be uint8 or float, in either layout; the result is in channels-last layout.
    """
    count, _, height, width = batch.shape
    scaled = torch.empty(count, height, width, 3, device=batch.device)
    scaled.copy_(batch.permute(0, 2, 3, 1))
    # By lines, not by pixels: of loops over three numbers most of the time is overhead.
    mean, scale = _line(config.statistics, width, batch.device)
    scaled.view(count * height, width * 3).sub_(mean).mul_(scale)
    return scaled.permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _line(
    statistics: tuple[tuple[float, ...], tuple[float, ...]], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a line of ``width`` pixels is lessened by, and then multiplied by."""
    mean, deviation = (torch.tensor(values, device=device) for values in statistics)
    return (mean * 255).repeat(width), (1 / (deviation * 255)).repeat(width)


def _crop_side(stored_size: int, config: DataConfig) -> int:
    return round(stored_size * config.test_crop)


def _middle(stored_size: int, side: int) -> int:
    return round((stored_size - side) / 2)


def _view(
    images: Tensor, corner: tuple[int, int], side: int, mirrored: bool, config: DataConfig
) -> Tensor:
    """The square of ``side`` pixels at ``corner`` (top, left) of each image, for the network."""
    boxes = np.tile([*corner, side, side], (len(images), 1))
    batch = resized(images, boxes, np.full(len(images), mirrored), config.image_size)
    return normalised(batch.permute(0, 3, 1, 2), config)


def _bordered(images: Tensor, width: int) -> Tensor:
    """``(N, S, S, 3)`` with the outermost pixels repeated ``width`` times on each side."""
    for dim in (1, 2):
        first, last = images.narrow(dim, 0, 1), images.narrow(dim, -1, 1)
        images = torch.cat([*[first] * width, images, *[last] * width], dim)
    return images
