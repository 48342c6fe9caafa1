"""MK-MMD and joint MMD against loops over pairs, written from the papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from itmc.losses.mmd import jmmd, mk_mmd

Rows = list[list[float]]


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def bandwidth(rows: Rows) -> float:
    """The mean squared distance over all pairs of different rows."""
    pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    return sum(squared(rows[i], rows[j]) for i, j in pairs) / len(pairs)


def multi_kernel(a: list[float], b: list[float], sigma: float) -> float:
    return sum(math.exp(-squared(a, b) / (sigma * 2.0**power)) for power in range(-2, 3))


def looped_mk_mmd(source: Rows, target: Rows, sigma: float | None = None) -> float:
    sigma = sigma or bandwidth(source + target)

    def mean(first: Rows, second: Rows) -> float:
        values = [multi_kernel(a, b, sigma) for a in first for b in second]
        return sum(values) / len(values)

    return mean(source, source) + mean(target, target) - 2 * mean(source, target)


def looped_jmmd(
    source: tuple[Rows, Rows], target: tuple[Rows, Rows], sigma: float | None = None
) -> float:
    sigma = sigma or bandwidth(source[0] + target[0])

    def mean(first: tuple[Rows, Rows], second: tuple[Rows, Rows]) -> float:
        values = [
            multi_kernel(first[0][i], second[0][j], sigma)
            * math.exp(-squared(first[1][i], second[1][j]) / 1.68)
            for i in range(len(first[0]))
            for j in range(len(second[0]))
        ]
        return sum(values) / len(values)

    return mean(source, source) + mean(target, target) - 2 * mean(source, target)


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=random, dtype=torch.float64) + shift


def probabilities(count: int, seed: int) -> Tensor:
    return (3 * features(count, seed)).softmax(1)


@pytest.mark.parametrize(("sources", "targets"), [(5, 5), (3, 7), (1, 1), (1, 4)])
def test_mk_mmd_is_the_loop_over_pairs(sources: int, targets: int) -> None:
    source, target = features(sources, 0), features(targets, 1, shift=0.5)
    expected = looped_mk_mmd(source.tolist(), target.tolist())
    assert mk_mmd(source, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("sources", "targets"), [(5, 5), (3, 7), (1, 1), (1, 4)])
def test_jmmd_is_the_loop_over_pairs(sources: int, targets: int) -> None:
    source = features(sources, 0), probabilities(sources, 2)
    target = features(targets, 1, shift=0.5), probabilities(targets, 3)
    expected = looped_jmmd(
        (source[0].tolist(), source[1].tolist()), (target[0].tolist(), target[1].tolist())
    )
    assert jmmd(source, target).item() == pytest.approx(expected, rel=1e-12)


def test_mk_mmd_is_zero_between_equal_samples_and_grows_with_the_shift() -> None:
    same = features(8, 0)
    assert mk_mmd(same, same.flip(0)).item() == pytest.approx(0, abs=1e-12)
    near, far = (mk_mmd(same, features(8, 1, shift=s)).item() for s in (0.3, 2.0))
    assert 0 < near < far


def test_mk_mmd_is_symmetric() -> None:
    source, target = features(3, 0), features(6, 1, shift=1)
    assert mk_mmd(source, target).item() == pytest.approx(mk_mmd(target, source).item(), rel=1e-12)


def test_jmmd_is_symmetric() -> None:
    source = features(3, 0), probabilities(3, 2)
    target = features(6, 1, shift=1), probabilities(6, 3)
    assert jmmd(source, target).item() == pytest.approx(jmmd(target, source).item(), rel=1e-12)


@given(seed=st.integers(0, 10_000), sources=st.integers(1, 6), targets=st.integers(1, 6))
def test_both_are_not_negative_in_any_order(seed: int, sources: int, targets: int) -> None:
    source = features(sources, seed), probabilities(sources, seed + 2)
    target = features(targets, seed + 1), probabilities(targets, seed + 3)
    single, joint = mk_mmd(source[0], target[0]).item(), jmmd(source, target).item()
    assert single > -1e-12 and joint > -1e-12
    turned = source[0].flip(0), source[1].flip(0)
    assert mk_mmd(turned[0], target[0]).item() == pytest.approx(single, rel=1e-9, abs=1e-12)
    assert jmmd(turned, target).item() == pytest.approx(joint, rel=1e-9, abs=1e-12)


def test_jmmd_sees_a_change_of_predictions_alone() -> None:
    same = features(6, 0)
    assert jmmd((same, probabilities(6, 1)), (same, probabilities(6, 1))).item() == pytest.approx(
        0, abs=1e-12
    )
    assert jmmd((same, probabilities(6, 1)), (same, probabilities(6, 2))).item() > 1e-3


def test_alike_samples_give_zero_and_no_nan_gradient() -> None:
    source = torch.ones(3, 4, requires_grad=True)
    loss = mk_mmd(source, torch.ones(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert source.grad is not None and source.grad.abs().max() == 0


def test_gradient_treats_the_bandwidth_as_a_constant() -> None:
    source, target = features(3, 0).requires_grad_(), features(4, 1, shift=0.5)
    mk_mmd(source, target).backward()
    sigma = bandwidth([*source.tolist(), *target.tolist()])  # of the unmoved samples

    def at(moved: Tensor) -> float:
        return looped_mk_mmd(moved.tolist(), target.tolist(), sigma)

    assert source.grad is not None
    for row in range(3):
        for column in range(4):
            step = torch.zeros(3, 4, dtype=torch.float64)
            step[row, column] = 1e-5
            slope = (at(source.detach() + step) - at(source.detach() - step)) / 2e-5
            assert source.grad[row, column].item() == pytest.approx(slope, rel=1e-6, abs=1e-10)


def test_gradient_of_jmmd_treats_the_bandwidth_as_a_constant() -> None:
    source = features(3, 0).requires_grad_(), probabilities(3, 2).requires_grad_()
    target = features(4, 1, shift=0.5), probabilities(4, 3)
    jmmd(source, target).backward()
    others = target[0].tolist(), target[1].tolist()
    sigma = bandwidth(source[0].tolist() + others[0])
    for part in (0, 1):
        gradient = source[part].grad
        assert gradient is not None
        for row in range(3):
            for column in range(4):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [s.tolist() for s in source]
                    moved[part][row][column] += step
                    ends.append(looped_jmmd((moved[0], moved[1]), others, sigma))
                slope = (ends[0] - ends[1]) / 2e-5
                assert gradient[row, column].item() == pytest.approx(slope, rel=1e-6, abs=1e-10)


def test_bfloat16_is_raised_before_distances_are_taken() -> None:
    source, target = features(6, 0).bfloat16(), features(6, 1, shift=0.5).bfloat16()
    loss = mk_mmd(source, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        looped_mk_mmd(source.double().tolist(), target.double().tolist()), rel=1e-5
    )
    pairs = (source, probabilities(6, 2).bfloat16()), (target, probabilities(6, 3).bfloat16())
    joint = jmmd(*pairs)
    assert joint.dtype == torch.float32
    rows = [(f.double().tolist(), p.double().tolist()) for f, p in pairs]
    assert joint.item() == pytest.approx(looped_jmmd(rows[0], rows[1]), rel=1e-5)
