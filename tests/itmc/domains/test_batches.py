"""Batches: a function of seed and step, fair to every image, without target labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Batch, Batches, Labelled, Unlabelled, split_source
from itmc.domains.store import Domain

SIDE = 8
DATA = DataConfig(image_size=SIDE, augment="none", flip=False, normalise="half")


def numbered(count: int, first: int = 0) -> np.ndarray:
    """Images of one colour each, which says which image it is."""
    colours = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(colours[:, None, None, None], (count, SIDE, SIDE, 3)).copy()


def numbers(images: torch.Tensor) -> list[int]:
    return [round(value) for value in ((images[:, 0, 0, 0] / 2 + 0.5) * 255).tolist()]


def batches(
    sources: int = 20, targets: int = 13, size: int = 4, seed: int = 0, data: DataConfig = DATA
) -> Batches:
    labels = np.arange(100, 100 + 2 * sources, dtype=np.int64)
    rows = np.arange(0, 2 * sources, 2)  # only the even ones are for training
    source = Labelled(numbered(2 * sources), labels, rows)
    target = Unlabelled(numbered(targets, first=150))
    return Batches(source, target, data, size, seed, torch.device("cpu"))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


@pytest.mark.parametrize("augment", ["resized_crop", "shift"])
def test_a_batch_depends_on_seed_and_step_only(augment: str) -> None:
    data = DATA.model_copy(update={"augment": augment, "flip": True, "image_size": 16})
    rng = np.random.default_rng(0)
    source = Labelled(
        rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8), np.arange(20), np.arange(20)
    )
    target = Unlabelled(rng.integers(0, 256, (13, 16, 16, 3), dtype=np.uint8))

    def fresh(seed: int) -> Batches:
        return Batches(source, target, data, 4, seed, torch.device("cpu"))

    in_order = fresh(1)
    expected = [in_order.at(step) for step in range(12)]
    torch.manual_seed(7)
    np.random.seed(7)
    for step in (11, 3, 7, 3):
        assert same(fresh(1).at(step), expected[step])
    assert not same(fresh(2).at(3), expected[3])
    assert not same(expected[2], expected[3])


def test_augmentation_differs_between_seeds_sides_and_steps() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    data = DATA.model_copy(update={"augment": "resized_crop", "image_size": 32})
    source, target = Labelled(image, np.zeros(1), np.arange(1)), Unlabelled(image)
    seeds = [Batches(source, target, data, 2, seed, torch.device("cpu")) for seed in (0, 1)]
    crops = [
        crop
        for batches in seeds
        for step in (0, 1)
        for side in (batches.at(step).source, batches.at(step).target)
        for crop in side
    ]
    assert len({crop.numpy().tobytes() for crop in crops}) == len(crops) == 16


def test_labels_go_with_their_images() -> None:
    found = batches()
    for step in range(10):
        batch = found.at(step)
        assert batch.labels.tolist() == [100 + number for number in numbers(batch.source)]
        assert batch.labels.dtype == torch.int64


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 15), st.integers(2, 15), st.integers(2, 9), st.integers(0, 3))
def test_each_image_is_used_equally_often(sources: int, targets: int, size: int, seed: int) -> None:
    found = batches(sources, targets, size, seed)
    source, target = Counter[int](), Counter[int]()
    for step in range(12):
        batch = found.at(step)
        source.update(numbers(batch.source))
        target.update(numbers(batch.target))
        for counts, length in ((source, sources), (target, targets)):
            often = [*counts.values(), *[0] * (length - len(counts))]
            assert max(often) - min(often) <= 1
    assert set(source) <= set(range(0, 2 * sources, 2))  # nothing that was held out
    assert set(target) <= set(range(150, 150 + targets))


def test_the_order_changes_from_round_to_round() -> None:
    found = batches(sources=12, size=12)
    first, second = numbers(found.at(0).source), numbers(found.at(1).source)
    assert sorted(first) == sorted(second) and first != second


def test_source_and_target_are_ordered_independently() -> None:
    found = batches(sources=12, targets=12, size=12)
    batch = found.at(0)
    positions = [number // 2 for number in numbers(batch.source)]
    assert positions != [number - 150 for number in numbers(batch.target)]


def test_the_first_batches_are_those_of_the_first_steps() -> None:
    found = batches()
    firsts = list(found.first(3))
    assert len(firsts) == 3
    assert all(same(batch, found.at(step)) for step, batch in enumerate(firsts))


def test_training_sees_no_target_label() -> None:
    assert [f.name for f in fields(Unlabelled)] == ["images"]
    assert [f.name for f in fields(Batch)] == ["source", "labels", "target"]


def domain(counts: list[int]) -> Domain:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Domain("d", numbered(len(labels)), labels, "digest")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.sampled_from([0.0, 0.1, 0.3, 0.49]))
def test_the_holdout_takes_its_share_of_each_class_and_leaves_one(
    counts: list[int], holdout: float
) -> None:
    training, validation = split_source(domain(counts), holdout, seed=0)
    together = np.sort(np.concatenate([training.indices, validation.indices]))
    assert np.array_equal(together, np.arange(sum(counts)))
    for label, count in enumerate(counts):
        kept_out = int((validation.labels[validation.indices] == label).sum())
        assert kept_out == min(round(holdout * count), count - 1)
    assert len(training) == len(training.indices)


def test_the_holdout_depends_on_the_seed_alone() -> None:
    first, again, other = (split_source(domain([30, 30]), 0.2, s)[1].indices for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
