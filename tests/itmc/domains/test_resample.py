"""Crops resized by both ways, against torchvision and against each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as transforms
from hypothesis import given, settings, strategies as st
from torch import Tensor

from itmc.domains import resample
from itmc.domains.draws import Augment, draw
from itmc.domains.resample import by_kernel, by_products, resized
from itmc.seeding import generator
from tests.itmc.domains.samples import KINDS, apart, images

LEVELS = 2


def parameters(count: int, side: int, augment: Augment = "resized_crop") -> tuple[np.ndarray, ...]:
    draws = draw(generator("boxes", side), count, side, augment, True, (0.0, 0.0, 0.0, 0.0))
    return draws.boxes, draws.mirrored


def torchvisions(stored: Tensor, boxes: np.ndarray, mirrored: np.ndarray, size: int) -> Tensor:
    """Image by image, as ``(N, size, size, 3)``."""
    found = []
    for image, (top, left, height, width), mirror in zip(
        stored, boxes.tolist(), mirrored, strict=True
    ):
        crop = transforms.resized_crop(
            image.permute(2, 0, 1), top, left, height, width, [size, size], antialias=True
        )
        found.append((transforms.horizontal_flip(crop) if mirror else crop).permute(1, 2, 0))
    return torch.stack(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [by_kernel, by_products])
@pytest.mark.parametrize(("side", "size"), [(256, 112), (96, 112), (64, 64)])
def test_both_ways_are_torchvisions_within_two_levels(
    kind: str, way: Callable[..., Tensor], side: int, size: int
) -> None:
    stored = images(kind, 16, side)
    boxes, mirrored = parameters(16, side)
    assert mirrored.any() and not mirrored.all()
    expected = torchvisions(stored, boxes, mirrored, size)
    assert apart(way(stored, boxes, mirrored, size), expected) <= LEVELS


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_both_ways_are_within_two_levels_of_each_other(data: st.DataObject) -> None:
    side, size = data.draw(st.integers(2, 70)), data.draw(st.integers(2, 50))
    height, width = (data.draw(st.integers(1, side)) for _ in range(2))
    top, left = (data.draw(st.integers(0, side - length)) for length in (height, width))
    boxes, mirrored = np.array([[top, left, height, width]]), np.array([data.draw(st.booleans())])
    stored = images("noise", 1, side)
    pair = [way(stored, boxes, mirrored, size) for way in (by_kernel, by_products)]
    assert apart(*pair) <= LEVELS


@pytest.mark.parametrize("way", [by_kernel, by_products])
def test_an_image_of_the_size_asked_for_is_not_resampled(way: Callable[..., Tensor]) -> None:
    stored = images("noise", 3, 24)
    boxes, _ = parameters(3, 24, "none")
    found = way(stored, boxes, np.array([False, True, False]), 24)
    assert torch.equal(found[::2], stored[::2]) and torch.equal(found[1], stored[1].flip(1))


@pytest.mark.parametrize("way", [by_kernel, by_products])
def test_nothing_outside_a_box_shows(way: Callable[..., Tensor]) -> None:
    stored = torch.full((1, 40, 40, 3), 255, dtype=torch.uint8)
    stored[:, 10:20, 5:35] = 7
    found = way(stored, np.array([[10, 5, 10, 30]]), np.array([False]), 12)
    assert (found == 7).all()


def test_the_way_is_chosen_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("by_kernel", "by_products"):
        monkeypatch.setattr(resample, way, lambda *_, way=way: way)
    boxes, mirrored = parameters(2, 16)
    stored = images("noise", 2, 16)
    assert resized(stored, boxes, mirrored, 8) == "by_kernel"
    assert resized(stored.to("meta"), boxes, mirrored, 8) == "by_products"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_resizes_as_the_cpu_within_two_levels() -> None:
    stored, (boxes, mirrored) = images("noise", 16, 256), parameters(16, 256)
    found = resized(stored.cuda(), boxes, mirrored, 112)
    assert found.is_cuda and apart(found.cpu(), resized(stored, boxes, mirrored, 112)) <= LEVELS
