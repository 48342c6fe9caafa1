"""Local MMD against a loop over classes and pairs, written from DSAN's formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from itmc.losses.mmd import lmmd, mk_mmd

Rows = list[list[float]]
CLASSES = 3


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def bandwidth(rows: Rows) -> float:
    """The mean squared distance over all pairs of different rows."""
    pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    return sum(squared(rows[i], rows[j]) for i, j in pairs) / len(pairs)


def looped_lmmd(
    source: Rows, target: Rows, labels: list[int], probabilities: Rows, sigma: float | None = None
) -> float:
    sigma = sigma or bandwidth(source + target)

    def kernel(a: list[float], b: list[float]) -> float:
        return sum(math.exp(-squared(a, b) / (sigma * 2.0**power)) for power in range(-2, 3))

    found = []
    for c in range(len(probabilities[0])):
        if c not in labels or all(row.index(max(row)) != c for row in probabilities):
            continue
        own = [float(label == c) for label in labels]
        own = [w / sum(own) for w in own]
        other = [row[c] for row in probabilities]
        other = [w / sum(other) for w in other]
        within = sum(
            v * w * kernel(a, b)
            for rows, weights in ((source, own), (target, other))
            for v, a in zip(weights, rows, strict=True)
            for w, b in zip(weights, rows, strict=True)
        )
        across = sum(
            v * w * kernel(a, b)
            for v, a in zip(own, source, strict=True)
            for w, b in zip(other, target, strict=True)
        )
        found.append(within - 2 * across)
    return sum(found) / len(found) if found else 0.0


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=random, dtype=torch.float64) + shift


def predictions(count: int, seed: int) -> Tensor:
    return (2 * features(count, seed)[:, :CLASSES]).softmax(1)


def labels(count: int) -> Tensor:
    return torch.arange(count) % CLASSES


def looped(source: Tensor, target: Tensor, truth: Tensor, p: Tensor) -> float:
    parts = source.double().tolist(), target.double().tolist()
    return looped_lmmd(*parts, truth.tolist(), p.double().tolist())


@pytest.mark.parametrize(("sources", "targets"), [(6, 6), (4, 7), (7, 3), (3, 1)])
def test_lmmd_is_the_loop_over_classes_and_pairs(sources: int, targets: int) -> None:
    source, target = features(sources, 0), features(targets, 1, shift=0.5)
    truth, p = labels(sources), predictions(targets, 2)
    expected = looped(source, target, truth, p)
    assert expected > 0.1
    assert lmmd(source, target, truth, p).item() == pytest.approx(expected, rel=1e-12)


def test_one_image_a_domain_of_one_class() -> None:
    source, target, p = features(1, 0), features(1, 1), torch.tensor([[0.2, 0.7, 0.1]]).double()
    found = lmmd(source, target, torch.tensor([1]), p).item()
    assert found == pytest.approx(mk_mmd(source, target).item(), rel=1e-12)


@pytest.mark.parametrize("present", [(0, 1), (2,)])
def test_classes_without_a_source_image_do_not_count(present: tuple[int, ...]) -> None:
    source, target = features(4, 0), features(6, 1, shift=0.5)
    truth = torch.tensor([present[i % len(present)] for i in range(4)])
    p = torch.eye(CLASSES).double()[labels(6)] * 0.7 + 0.1  # each class is some image's likeliest
    expected = looped(source, target, truth, p)
    assert lmmd(source, target, truth, p).item() == pytest.approx(expected, rel=1e-12)
    source_of_all = lmmd(source, target, labels(4), p).item()
    assert source_of_all != pytest.approx(expected, rel=1e-3)


def test_classes_that_no_target_image_is_likeliest_to_be_do_not_count() -> None:
    source, target = features(6, 0), features(5, 1, shift=0.5)
    p = torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.7, 0.1]]).double()[[0, 1, 0, 0, 1]]
    expected = looped(source, target, labels(6), p)
    assert lmmd(source, target, labels(6), p).item() == pytest.approx(expected, rel=1e-12)
    moved = source.clone()
    moved[2::3] += 1  # class 2 moves the bandwidth alone
    expected = looped(moved, target, labels(6), p)
    assert lmmd(moved, target, labels(6), p).item() == pytest.approx(expected, rel=1e-12)


def test_without_a_common_class_it_is_zero_with_a_graph() -> None:
    source, target = features(3, 0).requires_grad_(), features(2, 1).requires_grad_()
    p = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.3, 0.6]]).double()
    loss = lmmd(source, target, torch.tensor([0, 1, 0]), p)
    loss.backward()
    assert loss.item() == 0
    for gradient in (source.grad, target.grad):
        assert gradient is not None and gradient.abs().max() == 0


def test_a_probability_of_zero_gives_no_nan() -> None:
    source, target = features(4, 0).requires_grad_(), features(4, 1)
    p = torch.tensor([[1.0, 0.0, 0.0]]).double().expand(4, 3)
    loss = lmmd(source, target, labels(4), p)
    loss.backward()
    assert loss.item() == pytest.approx(looped(source, target, labels(4), p), rel=1e-12)
    assert source.grad is not None and source.grad.isfinite().all()


def test_equal_domains_whose_predictions_are_the_labels_cost_nothing() -> None:
    same, one_hot = features(6, 0), torch.eye(CLASSES).double()[labels(6)]
    assert lmmd(same, same, labels(6), one_hot).item() == pytest.approx(0, abs=1e-12)
    assert lmmd(same, same, labels(6).roll(1), one_hot).item() > 0.1  # mk_mmd would see nothing


def test_one_class_is_the_mk_mmd() -> None:
    source, target = features(5, 0), features(3, 1, shift=0.5)
    p = torch.ones(3, 1).double()
    found = lmmd(source, target, torch.zeros(5, dtype=torch.int64), p).item()
    assert found == pytest.approx(mk_mmd(source, target).item(), rel=1e-12)


def test_domains_may_be_swapped_where_predictions_are_certain() -> None:
    source, target = features(4, 0), features(5, 1, shift=0.5)
    one_hot = torch.eye(CLASSES).double()
    there = lmmd(source, target, labels(4), one_hot[labels(5)]).item()
    back = lmmd(target, source, labels(5), one_hot[labels(4)]).item()
    assert there == pytest.approx(back, rel=1e-12)


@given(seed=st.integers(0, 10_000), sources=st.integers(1, 6), targets=st.integers(1, 6))
def test_it_is_not_negative_in_any_order(seed: int, sources: int, targets: int) -> None:
    random = torch.Generator().manual_seed(seed)
    source, target = features(sources, seed), features(targets, seed + 1)
    truth = torch.randint(CLASSES, (sources,), generator=random)
    p = predictions(targets, seed + 2)
    loss = lmmd(source, target, truth, p).item()
    assert loss > -1e-12
    images, classes = torch.randperm(sources, generator=random), torch.randperm(CLASSES)
    turned = lmmd(source[images], target.flip(0), truth[images], p.flip(0)).item()
    assert turned == pytest.approx(loss, rel=1e-9, abs=1e-12)
    renamed = lmmd(source, target, classes.argsort()[truth], p[:, classes]).item()
    assert renamed == pytest.approx(loss, rel=1e-9, abs=1e-12)


def test_gradient_treats_bandwidth_and_weights_as_constants() -> None:
    source, target = features(4, 0).requires_grad_(), features(3, 1, shift=0.5).requires_grad_()
    p = predictions(3, 2).requires_grad_()
    lmmd(source, target, labels(4), p).backward()
    assert p.grad is None
    rows = source.tolist(), target.tolist()
    sigma = bandwidth([*rows[0], *rows[1]])
    for part, tensor in enumerate((source, target)):
        assert tensor.grad is not None
        for row in range(len(tensor)):
            for column in range(4):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [[list(image) for image in images] for images in rows]
                    moved[part][row][column] += step
                    ends.append(looped_lmmd(*moved, labels(4).tolist(), p.tolist(), sigma))
                slope = (ends[0] - ends[1]) / 2e-5
                assert tensor.grad[row, column].item() == pytest.approx(slope, rel=1e-6, abs=1e-10)


def test_bfloat16_is_raised_before_distances_are_taken() -> None:
    source, target = features(6, 0).bfloat16(), features(6, 1, shift=0.5).bfloat16()
    p = predictions(6, 2).bfloat16()
    loss = lmmd(source, target, labels(6), p)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(looped(source, target, labels(6), p), rel=1e-5)
