"""The random parameters of a batch against torchvision's own draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import chi2_contingency, ks_2samp, spearmanr
from torchvision.transforms import ColorJitter, RandomResizedCrop

from itmc.domains.draws import COLUMNS, Augment, Draws, Strengths, draw, reach
from itmc.seeding import generator

MANY = 4000
SIDE = 256
NONE = (0.0, 0.0, 0.0, 0.0)
STRENGTHS = (0.4, 0.3, 1.5, 0.1)
UNLIKELY = 0.01


def drawn(
    count: int = MANY,
    side: int = SIDE,
    augment: Augment = "resized_crop",
    flip: bool = True,
    jitter: Strengths = STRENGTHS,
) -> Draws:
    return draw(generator("draws", side), count, side, augment, flip, jitter)


@pytest.fixture(scope="module")
def theirs() -> np.ndarray:
    """Boxes that torchvision draws: top, left, height, width."""
    torch.manual_seed(0)
    image = torch.empty(3, SIDE, SIDE)
    get = RandomResizedCrop.get_params
    boxes = [get(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(MANY)]
    return np.array(boxes)


def area(boxes: np.ndarray) -> np.ndarray:
    shares: np.ndarray = boxes[:, 2] * boxes[:, 3] / SIDE**2
    return shares


def log_aspect(boxes: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = np.log(boxes[:, 3] / boxes[:, 2])
    return logarithms


def position(boxes: np.ndarray, axis: int) -> np.ndarray:
    """The share of its room that a box is moved by; of a box without room nothing."""
    room = SIDE - boxes[:, 2 + axis]
    shares: np.ndarray = boxes[room > 0, axis] / room[room > 0]
    return shares


@pytest.mark.parametrize("measure", [area, log_aspect])
def test_sizes_of_crops_are_distributed_as_torchvisions(
    theirs: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> None:
    assert ks_2samp(measure(drawn().boxes), measure(theirs)).pvalue > UNLIKELY


@pytest.mark.parametrize("axis", [0, 1])
def test_positions_of_crops_are_distributed_as_torchvisions(theirs: np.ndarray, axis: int) -> None:
    assert ks_2samp(position(drawn().boxes, axis), position(theirs, axis)).pvalue > UNLIKELY


def test_a_position_does_not_hang_together_with_the_other_nor_with_the_size() -> None:
    boxes = drawn().boxes
    boxes = boxes[(boxes[:, 2:] < SIDE).all(axis=1)]
    columns = [position(boxes, 0), position(boxes, 1), area(boxes), log_aspect(boxes)]
    for first, second in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3)):
        assert spearmanr(columns[first], columns[second]).pvalue > UNLIKELY


class Given(np.random.Generator):
    """Gives one number for the areas of all tries, and one for the aspects."""

    def __init__(self, area: float, aspect: float) -> None:
        super().__init__(np.random.Philox(0))
        self._given = area, aspect

    def random(self, size: tuple[int, int]) -> np.ndarray:  # type: ignore[override]
        uniform = np.full(size, 0.5)
        uniform[:, :10], uniform[:, 10:20] = self._given
        return uniform


def test_where_no_try_fits_all_of_the_image_is_kept() -> None:
    found = draw(Given(1 - 1e-9, 0.0), 3, SIDE, "resized_crop", False, NONE)
    assert found.boxes.tolist() == [[0, 0, SIDE, SIDE]] * 3


def test_a_size_is_rounded_as_torchvision_rounds_it() -> None:
    found = draw(Given(0.25, 0.75), 1, SIDE, "resized_crop", False, NONE)
    area, aspect = SIDE**2 * (0.08 + 0.25 * 0.92), (4 / 3) ** 0.5
    height, width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
    assert found.boxes[0, 2:].tolist() == [height, width]
    assert found.boxes[0, :2].tolist() == [(SIDE - height + 1) // 2, (SIDE - width + 1) // 2]


@given(side=st.integers(8, 300), augment=st.sampled_from(["resized_crop", "shift", "none"]))
def test_no_box_leaves_the_image(side: int, augment: Augment) -> None:
    boxes = drawn(50, side, augment).boxes
    whole = side + 2 * reach(side) * (augment == "shift")
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= whole).all()


def test_half_of_the_images_are_mirrored_as_torchvision_has_it() -> None:
    torch.manual_seed(0)
    mirrored = int((torch.rand(MANY) < 0.5).sum()), int(drawn().mirrored.sum())
    assert chi2_contingency([(n, MANY - n) for n in mirrored]).pvalue > UNLIKELY
    assert not drawn(flip=False).mirrored.any()


@pytest.fixture(scope="module")
def jitters() -> list[tuple[torch.Tensor, float, float, float, float]]:
    torch.manual_seed(0)
    of = ColorJitter(*STRENGTHS)
    bounds = (of.brightness, of.contrast, of.saturation, of.hue)
    return [ColorJitter.get_params(*bounds) for _ in range(MANY)]


@pytest.mark.parametrize("column", range(4))
def test_factors_are_distributed_as_torchvisions(
    jitters: list[tuple[torch.Tensor, float, float, float, float]], column: int
) -> None:
    expected = [found[1 + column] for found in jitters]
    assert ks_2samp(drawn().factors[:, column], expected).pvalue > UNLIKELY


def test_orders_are_distributed_as_torchvisions(
    jitters: list[tuple[torch.Tensor, float, float, float, float]],
) -> None:
    expected = Counter(tuple(found[0].tolist()) for found in jitters)
    found = Counter(tuple(order) for order in drawn().orders.tolist())
    assert len(found) == len(expected) == 24
    table = [(found[order], expected[order]) for order in expected]
    assert chi2_contingency(table).pvalue > UNLIKELY


def test_only_jitters_of_some_strength_are_in_the_order() -> None:
    orders = drawn(jitter=(0.0, 0.2, 0.0, 0.1)).orders
    assert Counter(map(tuple, orders.tolist())).keys() == {(1, 3), (3, 1)}
    assert drawn(jitter=NONE).orders.shape == (MANY, 0)


@given(
    augment=st.sampled_from(["resized_crop", "shift", "none"]),
    flip=st.booleans(),
    jitter=st.sampled_from([NONE, STRENGTHS, (0.0, 0.0, 0.0, 0.5)]),
    seed=st.integers(0, 100),
)
def test_always_as_many_numbers_are_drawn(
    augment: Augment, flip: bool, jitter: Strengths, seed: int
) -> None:
    used, expected = generator(seed), generator(seed)
    draw(used, 5, 32, augment, flip, jitter)
    expected.random((5, COLUMNS))
    assert used.random() == expected.random()


def test_what_is_switched_off_changes_nothing_else() -> None:
    alone, all_ = drawn(flip=False, jitter=NONE), drawn()
    assert np.array_equal(alone.boxes, all_.boxes)
    assert np.array_equal(drawn(augment="none").mirrored, all_.mirrored)
