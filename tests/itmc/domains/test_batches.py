"""Batches: a function of seed and step, fair to every image, without target labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from itmc.domains.augment import DataConfig
from itmc.domains.batches import (
    Batch,
    Batches,
    Fetched,
    Labelled,
    Resident,
    Unlabelled,
    fits,
    on_device,
    split_source,
    trained_rows,
)
from itmc.domains.images import Mapped
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
    target = Unlabelled(numbered(targets, first=150), np.arange(targets))
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
    target = Unlabelled(rng.integers(0, 256, (13, 16, 16, 3), dtype=np.uint8), np.arange(13))

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
    source = Labelled(image, np.zeros(1), np.arange(1))
    target = Unlabelled(image, np.arange(1))
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
    assert [f.name for f in fields(Unlabelled)] == ["images", "indices"]
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


def parted(counts: list[int], tested: list[int]) -> Domain:
    """A domain with an official test part."""
    whole = domain(counts)
    trained = np.setdiff1d(np.arange(sum(counts)), tested)
    return replace(whole, trained=trained, tested=np.array(tested))


def test_all_rows_are_trained_on_unless_there_is_a_test_part() -> None:
    assert trained_rows(domain([2, 3])).tolist() == [0, 1, 2, 3, 4]
    assert trained_rows(parted([2, 3], tested=[0, 4])).tolist() == [1, 2, 3]


@given(st.sets(st.sampled_from([n for n in range(40) if n not in (0, 20)])), st.integers(0, 3))
def test_the_official_test_part_is_neither_trained_on_nor_held_out(
    tested: set[int], seed: int
) -> None:
    found = parted([20, 20], sorted(tested))
    training, validation = split_source(found, 0.2, seed)
    together = sorted([*training.indices, *validation.indices])
    assert together == trained_rows(found).tolist()
    assert not tested & set(together)


def test_no_batch_has_an_image_of_an_official_test_part() -> None:
    found = parted([10, 10], tested=[3, 4, 15])
    training, _ = split_source(found, 0.0, seed=0)
    target = Unlabelled(numbered(20, first=150), trained_rows(found))
    batches = Batches(training, target, DATA, 6, 0, torch.device("cpu"))
    sources, targets = Counter[int](), Counter[int]()
    for step in range(17):  # six times each of 17 images
        batch = batches.at(step)
        sources.update(numbers(batch.source))
        targets.update(number - 150 for number in numbers(batch.target))
    expected = dict.fromkeys(trained_rows(found).tolist(), 6)
    assert sources == expected and targets == expected


def stored(tmp_path: Path, images: np.ndarray) -> Mapped:
    """``images`` in files of 50."""
    files = [tmp_path / f"{start}.npy" for start in range(0, len(images), 50)]
    for index, path in enumerate(files):
        np.save(path, images[50 * index : 50 * (index + 1)])
    return Mapped(files, 50, len(images), images.shape[1])


def test_images_on_the_device_are_those_that_are_fetched(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1100, 4, 4, 3), dtype=np.uint8)  # more than go over at once
    device = torch.device("cpu")
    fetched = Fetched(stored(tmp_path, images), device)
    resident = Resident(stored(tmp_path, images), device)
    for rows in (np.arange(1100), random.integers(0, 1100, 64), np.array([], np.int64)):
        expected = torch.from_numpy(images[rows])
        for found in (fetched(rows), resident(rows)):
            assert found.dtype == torch.uint8 and torch.equal(found, expected)


def test_batches_are_the_same_of_stored_images_and_of_arrays(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    both = []
    for kind in (images, stored(tmp_path, images)):
        source = Labelled(kind, np.arange(60), np.arange(60))
        target = Unlabelled(kind, np.arange(60))
        both.append(Batches(source, target, DATA, 16, 0, torch.device("cpu")))
    assert all(same(both[0].at(step), both[1].at(step)) for step in range(5))


def test_images_stay_in_the_store_where_the_device_is_no_gpu() -> None:
    assert isinstance(on_device(numbered(2), torch.device("cpu")), Fetched)


@pytest.mark.parametrize(("free", "expected"), [(480, True), (479, False), (0, False)])
def test_a_domain_takes_two_fifths_of_the_free_memory_at_most(free: int, expected: bool) -> None:
    assert fits(np.zeros((1, 8, 8, 3), np.uint8), free) is expected
