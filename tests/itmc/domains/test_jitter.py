"""Colour jitter against torchvision's functions, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as transforms
from hypothesis import given, settings, strategies as st
from torch import Tensor

from itmc.domains.draws import Draws, draw
from itmc.domains.jitter import jittered
from itmc.seeding import generator
from tests.itmc.domains.samples import KINDS, apart, images

LEVELS = 2
OPERATIONS = (
    transforms.adjust_brightness,
    transforms.adjust_contrast,
    transforms.adjust_saturation,
    transforms.adjust_hue,
)
FACTORS = st.tuples(*[st.floats(0, 2)] * 3, st.floats(-0.5, 0.5))


def torchvisions(stored: Tensor, factors: np.ndarray, orders: np.ndarray) -> Tensor:
    found = []
    for image, by, order in zip(stored.permute(0, 3, 1, 2), factors, orders, strict=True):
        for column in order:
            image = OPERATIONS[column](image, float(by[column]))
        found.append(image)
    return torch.stack(found)


def drawn(count: int) -> Draws:
    return draw(generator("jitter"), count, 64, "none", False, (0.8, 0.8, 0.8, 0.5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", range(4))
def test_each_operation_is_torchvisions(kind: str, column: int) -> None:
    stored, factors = images(kind, 12, 64), drawn(12).factors
    order = np.full((12, 1), column)
    assert apart(jittered(stored, factors, order), torchvisions(stored, factors, order)) <= LEVELS


@pytest.mark.parametrize("kind", KINDS)
def test_all_four_in_an_order_of_each_images_own_are_torchvisions(kind: str) -> None:
    stored, draws = images(kind, 48, 64), drawn(48)
    assert len(np.unique(draws.orders, axis=0)) > 10
    expected = torchvisions(stored, draws.factors, draws.orders)
    assert apart(jittered(stored, draws.factors, draws.orders), expected) <= LEVELS


@settings(max_examples=60, deadline=None)
@given(factors=FACTORS, order=st.permutations(range(4)), count=st.integers(1, 4))
def test_whatever_the_factors_they_are_torchvisions(
    factors: tuple[float, ...], order: list[int], count: int
) -> None:
    stored = images("noise", 1, 17)
    by, orders = np.array([factors]), np.array([order[:count]])
    assert apart(jittered(stored, by, orders), torchvisions(stored, by, orders)) <= LEVELS


def test_every_hue_of_every_shade_is_torchvisions() -> None:
    # All colours of 16 levels a channel, greys and primaries among them.
    levels = torch.arange(0, 256, 17, dtype=torch.uint8)
    colours = torch.cartesian_prod(levels, levels, levels).view(1, 64, 64, 3)
    for hue in (-0.5, -1 / 3, -1 / 6, 0.0, 0.1, 1 / 6, 1 / 3, 0.5):
        factors, order = np.array([[1, 1, 1, hue]]), np.array([[3]])
        expected = torchvisions(colours, factors, order)
        assert apart(jittered(colours, factors, order), expected) <= 1


def test_levels_stay_whole_and_in_range() -> None:
    draws = drawn(24)
    found = jittered(images("noise", 24, 32), draws.factors, draws.orders)
    assert found.dtype == torch.float32 and torch.equal(found, found.floor())
    assert found.min() >= 0 and found.max() <= 255


def test_without_an_order_nothing_changes() -> None:
    stored = images("noise", 3, 16)
    found = jittered(stored, drawn(3).factors, np.empty((3, 0), dtype=np.int64))
    assert torch.equal(found, stored.permute(0, 3, 1, 2).float())


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    stored, draws = images("noise", 12, 24), drawn(12)
    whole = jittered(stored, draws.factors, draws.orders)
    alone = jittered(stored[5:6], draws.factors[5:6], draws.orders[5:6])
    assert torch.equal(whole[5:6], alone)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_jitters_as_the_cpu_within_two_levels() -> None:
    stored, draws = images("photographs", 24, 112), drawn(24)
    found = jittered(stored.cuda(), draws.factors, draws.orders)
    assert found.is_cuda
    assert apart(found.cpu(), jittered(stored, draws.factors, draws.orders)) <= LEVELS
