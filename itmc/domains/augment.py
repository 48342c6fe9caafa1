"""From stored uint8 images to normalised float batches: random for training, fixed for testing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torchvision.transforms.v2.functional as transforms
from pydantic import Field
from torch import Tensor

from itmc.config import Frozen

_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class DataConfig(Frozen):
    """How images become inputs."""

    image_size: int = Field(224, ge=8)
    """Side of the network's input in pixels."""
    augment: Literal["resized_crop", "shift", "none"] = "resized_crop"
    """``resized_crop``: a random 8-100% of the area, aspect 3/4 to 4/3. ``shift``: up to 1/16."""
    flip: bool = True
    """Whether training images are mirrored at random."""
    test_crop: float = Field(0.875, gt=0, le=1)
    """Side of the centre crop for testing, as a share of the stored image (224 of 256)."""
    normalise: Literal["imagenet", "half"] = "imagenet"
    """Mean and deviation of the channels: ImageNet's, or 0.5."""
    source_holdout: float = Field(0.1, ge=0, lt=0.5)
    """Share of the labelled source kept out of training, to validate on."""

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel (red, green, blue) of images from 0 to 1."""
        return _STATISTICS[self.normalise]


def augmented(images: np.ndarray, config: DataConfig, random: np.random.Generator) -> Tensor:
    """A training batch: ``(N, S, S, 3)`` uint8 to normalised float ``(N, 3, size, size)``."""
    if config.augment == "shift":
        images = _shifted(images, random)
    stored = _channels_first(images)
    if config.augment == "resized_crop":
        batch = torch.stack([_resized_crop(image, config.image_size, random) for image in stored])
    else:
        batch = _resize(stored, config.image_size)
    if config.flip:
        mirrored = torch.from_numpy(random.random(len(batch)) < 0.5)
        batch = torch.where(mirrored.view(-1, 1, 1, 1), batch.flip(3), batch)
    return normalised(batch, config)


def plain(images: np.ndarray, config: DataConfig) -> Tensor:
    """A test batch: centre crop, resize, normalise; shapes as in ``augmented``."""
    stored = _channels_first(images)
    side = _crop_side(stored.shape[-1], config)
    return normalised(_resize(transforms.center_crop(stored, [side]), config.image_size), config)


def ten_crops(images: np.ndarray, config: DataConfig) -> Iterator[Tensor]:
    """Test batches of the four corners and the centre, mirrored too where training images are."""
    stored = _channels_first(images)
    side = _crop_side(stored.shape[-1], config)
    crop = transforms.ten_crop if config.flip else transforms.five_crop
    for view in crop(stored, [side, side]):
        yield normalised(_resize(view, config.image_size), config)


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
    """Uint8 ``(N, 3, S, S)`` to float with the configured mean and deviation, channels last."""
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in config.statistics)
    scaled = (batch.float() / 255 - mean) / deviation
    return scaled.contiguous(memory_format=torch.channels_last)


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def _crop_side(stored_size: int, config: DataConfig) -> int:
    return round(stored_size * config.test_crop)


def _resize(batch: Tensor, size: int) -> Tensor:
    if batch.shape[-1] == size:
        return batch
    resized: Tensor = transforms.resize(batch, [size, size], antialias=True)
    return resized


def _resized_crop(image: Tensor, size: int, random: np.random.Generator) -> Tensor:
    """Inception's crop with torchvision's parameters: ten tries, then the whole image."""
    side = image.shape[-1]
    for _ in range(10):
        area = side * side * random.uniform(0.08, 1.0)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= side and 0 < height <= side:
            top = int(random.integers(side - height + 1))
            left = int(random.integers(side - width + 1))
            break
    else:
        top, left, height, width = 0, 0, side, side
    crop: Tensor = transforms.resized_crop(
        image, top, left, height, width, [size, size], antialias=True
    )
    return crop


def _shifted(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each image moved by up to 1/16 of its side; what comes in repeats the border."""
    side = images.shape[1]
    reach = side // 16
    top, left = random.integers(-reach, reach + 1, size=(2, len(images), 1))
    line = np.arange(side)
    rows, columns = (line + top).clip(0, side - 1), (line + left).clip(0, side - 1)
    shifted: np.ndarray = images[
        np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return shifted
