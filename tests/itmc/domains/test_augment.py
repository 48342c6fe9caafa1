"""Augmentation against torchvision's functions and against loops."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as transforms
from pydantic import ValidationError
from torch import Tensor

from itmc.domains.augment import DataConfig, augmented, in_words, normalised, plain, ten_crops
from itmc.domains.draws import draw
from itmc.seeding import generator
from tests.itmc.domains.samples import KINDS, apart, images

JITTER = (0.4, 0.4, 0.4, 0.1)
OPERATIONS = (
    transforms.adjust_brightness,
    transforms.adjust_contrast,
    transforms.adjust_saturation,
    transforms.adjust_hue,
)


def stored(count: int = 4, side: int = 32) -> Tensor:
    return images("noise", count, side)


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
    levels = stored(2, 8)
    batch = normalised(levels.permute(0, 3, 1, 2), config(normalise=name))
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        value = levels[1, 5, 2, channel].item() / 255
        expected = (value - statistics[0][channel]) / statistics[1][channel]
        assert batch[1, channel, 5, 2].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("side", "size"), [(32, 28), (33, 28), (32, 16)])
def test_the_centre_crop_of_training_is_that_of_testing(side: int, size: int) -> None:
    levels = stored(3, side)
    chosen = config(augment="centre_crop", test_crop=0.875, image_size=size)
    trained = augmented(levels, chosen, generator("centre"))
    assert torch.equal(trained, plain(levels, chosen))
    mirrored = augmented(
        levels, config(**chosen.model_dump() | {"flip": True}), generator("centre")
    )
    both = torch.stack([trained, trained.flip(3)])
    rows = [[torch.equal(one, way) for way in both[:, k]] for k, one in enumerate(mirrored)]
    assert all(any(row) for row in rows)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_layout_of_the_levels_makes_no_difference(dtype: torch.dtype) -> None:
    levels = stored(3, 12).to(dtype).permute(0, 3, 1, 2)
    by_channel = levels.contiguous()
    assert torch.equal(normalised(levels, config()), normalised(by_channel, config()))
    assert torch.equal(by_channel, levels)  # neither was written to


def as_stored(batch: Tensor) -> Tensor:
    """A batch normalised with 0.5, undone, in the shape of stored images."""
    return pixels(batch, *HALF).permute(0, 2, 3, 1).to(torch.uint8)


def test_without_augmentation_the_images_come_as_they_are() -> None:
    batch = augmented(stored(), config(normalise="half"), generator("x"))
    assert torch.equal(as_stored(batch), stored())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("jitter", [(0, 0, 0, 0), JITTER])
def test_a_training_batch_is_torchvisions_within_two_levels(
    kind: str, jitter: tuple[float, ...]
) -> None:
    given = images(kind, 24, 96)
    chosen = config(
        augment="resized_crop", flip=True, image_size=48, color_jitter=jitter, normalise="half"
    )
    found = augmented(given, chosen, generator("train"))
    assert found.shape == (24, 3, 48, 48) and found.is_contiguous(memory_format=torch.channels_last)
    draws = draw(generator("train"), 24, 96, "resized_crop", True, chosen.color_jitter)
    expected = []
    for row, image in enumerate(given.permute(0, 3, 1, 2)):
        top, left, height, width = draws.boxes[row].tolist()
        one = transforms.resized_crop(image, top, left, height, width, [48, 48], antialias=True)
        if draws.mirrored[row]:
            one = transforms.horizontal_flip(one)
        for column in draws.orders[row]:
            one = OPERATIONS[column](one, float(draws.factors[row, column]))
        expected.append(one)
    assert apart(pixels(found, *HALF), torch.stack(expected)) <= 2


def test_resized_crops_vary_in_size_within_bounds() -> None:
    # A ramp from left to right: the range that is left tells the width of the crop.
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8)[None, None, :, None]
    given = ramp.expand(200, 64, 64, 3).contiguous()
    batch = augmented(given, config(augment="resized_crop", image_size=64, normalise="half"),
                      generator("sizes"))  # fmt: skip
    row = pixels(batch, *HALF)[:, 0, 0]
    shares = (row[:, -1] - row[:, 0] + 4) / 256
    assert shares.min() >= math.sqrt(0.08 * 3 / 4) - 0.05 and shares.max() <= 1
    assert shares.min() < 0.45 and shares.max() > 0.9


@pytest.mark.parametrize("side", [32, 48])
def test_a_shift_stays_in_reach_and_repeats_the_border(side: int) -> None:
    given = stored(40, side).numpy()
    batch = augmented(
        torch.from_numpy(given),
        config(augment="shift", image_size=side, normalise="half"),
        generator("shift"),
    )
    found = as_stored(batch).numpy()
    reach = side // 16
    padded = np.pad(given, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
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
    given = stored(200, 16)
    batch = augmented(given, config(flip=True, image_size=16, normalise="half"), generator("f"))
    mirrored = 0
    for before, after in zip(given, as_stored(batch), strict=True):
        is_mirrored = torch.equal(before.flip(1), after)
        assert is_mirrored or torch.equal(before, after)
        mirrored += is_mirrored
    assert 70 <= mirrored <= 130


def test_the_same_generator_gives_the_same_batch() -> None:
    chosen = config(augment="resized_crop", flip=True, color_jitter=JITTER)
    first, second, other = (augmented(stored(), chosen, generator(k)) for k in ("a", "a", "b"))
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_batch_has_the_same_bits_with_any_number_of_threads() -> None:
    # Odd sizes, so that the threads' shares end where no vector does.
    given = images("photographs", 24, 131)
    chosen = config(augment="resized_crop", flip=True, image_size=111, color_jitter=JITTER)
    batches = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        batches.append(augmented(given, chosen, generator("threads")))
    assert torch.equal(batches[0], batches[1]) and torch.equal(batches[0], batches[2])


@pytest.mark.parametrize("side", [40, 41])
def test_a_test_batch_is_the_centre_crop_resized(side: int) -> None:
    given, chosen = stored(3, side), config(test_crop=0.8, image_size=24)
    middle = transforms.center_crop(given.permute(0, 3, 1, 2), [round(0.8 * side)] * 2)
    expected = normalised(transforms.resize(middle, [24, 24], antialias=True), chosen)
    assert torch.equal(plain(given, chosen), expected)


@pytest.mark.parametrize("side", [40, 41])
def test_ten_crops_are_torchvisions(side: int) -> None:
    given, chosen = stored(3, side), config(test_crop=0.8, image_size=24, flip=True, test_crops=10)
    crops = transforms.ten_crop(given.permute(0, 3, 1, 2), [round(0.8 * side)] * 2)
    views = list(ten_crops(given, chosen))
    for view, crop in zip(views, crops, strict=True):
        expected = transforms.resize(crop, [24, 24], antialias=True)
        assert apart(pixels(view, *IMAGENET), expected) <= 1


def test_a_test_batch_at_full_size_is_not_resampled() -> None:
    batch = plain(stored(), config(test_crop=1.0, normalise="half"))
    assert torch.equal(as_stored(batch), stored())


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
    given = stored()
    augmented(given, config(augment=augment, flip=True, color_jitter=JITTER), generator("x"))
    plain(given, config())
    assert torch.equal(given, stored())


@pytest.mark.parametrize("jitter", [(-0.1, 0, 0, 0), (0, 0, math.inf, 0), (0, 0, 0, 0.6), (0.4,)])
def test_strengths_that_torchvision_refuses_are_refused(jitter: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="color_jitter"):
        config(color_jitter=jitter)


def test_an_image_is_tested_by_one_view_or_ten() -> None:
    assert DataConfig().test_crops == 1 and config(test_crops=10).test_crops == 10
    with pytest.raises(ValidationError, match="test_crops"):
        config(test_crops=5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_of_a_gpu_stays_there_and_is_the_cpus_within_two_levels() -> None:
    given, chosen = images("photographs", 8, 96), config(augment="resized_crop", flip=True)
    batch = augmented(given.cuda(), chosen, generator("gpu"))
    assert batch.is_cuda and batch.is_contiguous(memory_format=torch.channels_last)
    expected = augmented(given, chosen, generator("gpu"))
    assert apart(pixels(batch.cpu(), *IMAGENET), pixels(expected, *IMAGENET)) <= 2
