"""CORAL against loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from itmc.losses.coral import coral

Rows = list[list[float]]


def values(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def looped_covariance(rows: Rows, a: int, b: int) -> float:
    means = [sum(row[k] for row in rows) / len(rows) for k in (a, b)]
    total = sum((row[a] - means[0]) * (row[b] - means[1]) for row in rows)
    return total / max(1, len(rows) - 1)


def looped_coral(source: Rows, target: Rows) -> float:
    width = len(source[0])
    total = 0.0
    for a in range(width):
        for b in range(width):
            total += (looped_covariance(source, a, b) - looped_covariance(target, a, b)) ** 2
    return total / (4 * width**2)


@pytest.mark.parametrize(("sources", "targets"), [(5, 5), (3, 7), (1, 4), (1, 1)])
def test_it_is_the_loop(sources: int, targets: int) -> None:
    source, target = values(sources, 4), 2 * values(targets, 4, seed=1)
    expected = looped_coral(source.tolist(), target.tolist())
    assert coral(source, target).item() == pytest.approx(expected, rel=1e-12)
    assert coral(target, source).item() == pytest.approx(expected, rel=1e-12)


def test_a_shift_of_a_domain_does_not_matter_its_spread_does() -> None:
    source = values(6, 4)
    assert coral(source, source + 3).item() == pytest.approx(0, abs=1e-24)
    assert coral(source, 2 * source).item() > 0.01


def test_it_has_the_gradient_of_its_value() -> None:
    inputs = values(4, 3).requires_grad_(), values(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(coral, inputs)


def test_bfloat16_is_raised_before_anything_is_computed() -> None:
    source, target = values(6, 4).bfloat16(), (2 * values(6, 4, seed=1)).bfloat16()
    found = coral(source, target)
    assert found.dtype == torch.float32
    expected = looped_coral(source.double().tolist(), target.double().tolist())
    assert found.item() == pytest.approx(expected, rel=1e-4)
