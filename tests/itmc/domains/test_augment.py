"""Augmentation against torchvision's functions and against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as transforms
from torch import Tensor

from itmc.domains.augment import DataConfig, augmented, in_words, normalised, plain
from itmc.seeding import generator


def stored(count: int = 4, side: int = 32) -> np.ndarray:
    return generator("test images", side).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def config(**values: object) -> DataConfig:
    chosen = {"image_size": 32, "flip": False, "augment": "none"} | values
    return DataConfig.model_validate(chosen)


def pixels(batch: Tensor, means: tuple[float, ...], deviations: tuple[float, ...]) -> Tensor:
    """Undo the normalisation: values from 0 to 255."""
    return torch.stack(
        [255 * (batch[:, c] * deviations[c] + means[c]) for c in range(3)], 1
    ).round()  # fmt: skip


HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(("name", "statistics"), [("half", HALF), ("imagenet", IMAGENET)])
def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation(
    name: str, statistics: tuple[tuple[float, ...], ...]
) -> None:
    images = stored(2, 8)
    batch = normalised(torch.from_numpy(images).permute(0, 3, 1, 2), config(normalise=name))
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        value = images[1, 5, 2, channel] / 255
        expected = (value - statistics[0][channel]) / statistics[1][channel]
        assert batch[1, channel, 5, 2].item() == pytest.approx(expected, abs=1e-6)


def test_without_augmentation_the_images_come_as_they_are() -> None:
    images = stored()
    batch = augmented(images, config(normalise="half"), generator("x"))
    assert np.array_equal(pixels(batch, *HALF).permute(0, 2, 3, 1).numpy(), images)


def test_resized_crop_is_torchvisions_on_inceptions_parameters() -> None:
    images, chosen = stored(6, 48), config(augment="resized_crop", image_size=24)
    batch = augmented(images, chosen, generator("crop"))
    random = generator("crop")
    for image, found in zip(images, batch, strict=True):
        while True:
            area = 48 * 48 * random.uniform(0.08, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if width <= 48 and height <= 48:
                break
        top, left = (int(random.integers(48 - side + 1)) for side in (height, width))
        cut = torch.from_numpy(image).permute(2, 0, 1)[:, top : top + height, left : left + width]
        expected = transforms.resize(cut, [24, 24], antialias=True)
        assert torch.equal(found, normalised(expected.unsqueeze(0), chosen)[0])


def test_resized_crops_vary_in_size_within_bounds() -> None:
    # A ramp from left to right: the range that is left tells the width of the crop.
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    images = np.stack([ramp] * 200)
    batch = augmented(images, config(augment="resized_crop", image_size=64, normalise="half"),
                      generator("sizes"))  # fmt: skip
    row = pixels(batch, *HALF)[:, 0, 0]
    shares = (row[:, -1] - row[:, 0] + 4) / 256
    assert shares.min() >= math.sqrt(0.08 * 3 / 4) - 0.05 and shares.max() <= 1
    assert shares.min() < 0.45 and shares.max() > 0.9


@pytest.mark.parametrize("side", [32, 48])
def test_a_shift_stays_in_reach_and_repeats_the_border(side: int) -> None:
    images = stored(40, side)
    batch = augmented(
        images, config(augment="shift", image_size=side, normalise="half"), generator("shift")
    )
    found = pixels(batch, *HALF).permute(0, 2, 3, 1).numpy()
    reach = side // 16
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    offsets = set()
    for before, after in zip(padded, found, strict=True):
        fits = [
            (top, left)
            for top in range(2 * reach + 1)
            for left in range(2 * reach + 1)
            if np.array_equal(before[top : top + side, left : left + side], after)
        ]
        assert len(fits) == 1
        offsets.add(fits[0])
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(2 * reach + 1))


def test_about_half_of_the_images_are_mirrored() -> None:
    images = stored(200, 16)
    batch = augmented(images, config(flip=True, image_size=16, normalise="half"), generator("f"))
    found = pixels(batch, *HALF).permute(0, 2, 3, 1).numpy()
    mirrored = 0
    for before, after in zip(images, found, strict=True):
        is_mirrored = np.array_equal(before[:, ::-1], after)
        assert is_mirrored or np.array_equal(before, after)
        mirrored += is_mirrored
    assert 70 <= mirrored <= 130


def test_the_same_generator_gives_the_same_batch() -> None:
    chosen = config(augment="resized_crop", flip=True)
    first, second, other = (augmented(stored(), chosen, generator(k)) for k in ("a", "a", "b"))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_a_test_batch_is_the_centre_crop_resized() -> None:
    images, chosen = stored(3, 40), config(test_crop=0.8, image_size=24)
    middle = torch.from_numpy(images[:, 4:36, 4:36]).permute(0, 3, 1, 2)
    expected = normalised(transforms.resize(middle, [24, 24], antialias=True), chosen)
    assert torch.equal(plain(images, chosen), expected)


def test_a_test_batch_at_full_size_is_not_resampled() -> None:
    images = stored()
    batch = plain(images, config(test_crop=1.0, normalise="half"))
    assert np.array_equal(pixels(batch, *HALF).permute(0, 2, 3, 1).numpy(), images)


def test_a_test_batch_in_words_names_the_steps_that_do_something() -> None:
    assert in_words(config(image_size=224, test_crop=0.875), 256) == (
        "RGB resized to 256x256 (bilinear), centre crop of 224x224, divided by 255, minus mean, "
        "divided by std"
    )
    assert in_words(config(image_size=24, test_crop=1.0), 32) == (
        "RGB resized to 32x32 (bilinear), resized to 24x24, divided by 255, minus mean, "
        "divided by std"
    )


@pytest.mark.parametrize("augment", ["resized_crop", "shift", "none"])
def test_the_stored_images_are_not_written_to(augment: str) -> None:
    images = stored()
    before = images.copy()
    augmented(images, config(augment=augment, flip=True), generator("x"))
    plain(images, config())
    assert np.array_equal(images, before)
