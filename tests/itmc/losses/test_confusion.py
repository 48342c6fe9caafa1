"""Entropy and minimum class confusion against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from itmc.losses.confusion import entropy, minimum_class_confusion

Rows = list[list[float]]


def values(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=random, dtype=torch.float64)


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def looped_entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row)


def looped_mcc(logits: Rows, temperature: float, weights: list[float] | None = None) -> float:
    """Jin et al. 2020, eqs. 2 to 6; ``weights`` fixes eq. 4 to what it was elsewhere."""
    count, classes = len(logits), len(logits[0])
    probabilities = [softmax(row, temperature) for row in logits]
    weights = weights or looped_weights(logits, temperature)
    correlation = [
        [
            sum(weights[i] * probabilities[i][a] * probabilities[i][b] for i in range(count))
            for b in range(classes)
        ]
        for a in range(classes)
    ]
    total = 0.0
    for a in range(classes):
        for b in range(classes):
            if a != b:
                total += correlation[a][b] / sum(correlation[a])
    return total / classes


def looped_weights(logits: Rows, temperature: float) -> list[float]:
    certain = [1 + math.exp(-looped_entropy(softmax(row, temperature))) for row in logits]
    return [len(logits) * c / sum(certain) for c in certain]


def test_entropy_is_the_loop() -> None:
    logits = values(5, 4)
    expected = [looped_entropy(softmax(row)) for row in logits.tolist()]
    assert entropy(logits).tolist() == pytest.approx(expected, rel=1e-12)


def test_entropy_is_highest_for_equal_logits_and_zero_for_a_certain_row() -> None:
    found = entropy(torch.tensor([[1.0, 1.0, 1.0], [200.0, 0.0, 0.0]]))
    assert found.tolist() == pytest.approx([math.log(3), 0.0])


def test_entropy_has_the_gradient_of_its_value() -> None:
    assert torch.autograd.gradcheck(entropy, (values(3, 4).requires_grad_(),))


@pytest.mark.parametrize(("count", "temperature"), [(6, 2.5), (6, 1.0), (1, 2.5)])
def test_mcc_is_the_loop(count: int, temperature: float) -> None:
    logits = values(count, 4)
    expected = looped_mcc(logits.tolist(), temperature)
    assert minimum_class_confusion(logits, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_mcc_is_small_for_certain_predictions_and_largest_for_equal_ones() -> None:
    certain = 100 * torch.eye(4)
    assert minimum_class_confusion(certain).item() == pytest.approx(0, abs=1e-6)
    assert minimum_class_confusion(torch.zeros(5, 4)).item() == pytest.approx(3 / 4)


def test_mcc_does_not_depend_on_the_order_of_images_or_classes() -> None:
    logits = values(6, 4)
    expected = minimum_class_confusion(logits).item()
    assert minimum_class_confusion(logits.flip(0)).item() == pytest.approx(expected, rel=1e-12)
    assert minimum_class_confusion(logits.flip(1)).item() == pytest.approx(expected, rel=1e-12)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 6), classes=st.integers(2, 5))
def test_mcc_lies_between_none_and_equal_confusion(seed: int, count: int, classes: int) -> None:
    logits = values(count, classes, seed=seed)
    loss = minimum_class_confusion(logits).item()
    assert 0 <= loss <= (classes - 1) / classes + 1e-12
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    found = minimum_class_confusion(logits[:, order]).item()
    assert found == pytest.approx(loss, rel=1e-10)


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_entropy_lies_between_zero_and_the_uniform_ones(seed: int, classes: int) -> None:
    found = entropy(values(4, classes, seed=seed))
    assert (found >= 0).all() and (found <= math.log(classes) + 1e-12).all()


def test_a_class_that_no_image_is_likely_to_be_counts_like_any_other() -> None:
    logits = values(5, 4)
    logits[:, 2] -= 20
    found = minimum_class_confusion(logits, 2.5).item()
    assert found == pytest.approx(looped_mcc(logits.tolist(), 2.5), rel=1e-10)


def test_mcc_sends_no_gradient_through_its_weights() -> None:
    logits = values(3, 4).requires_grad_()
    minimum_class_confusion(logits).backward()
    fixed = looped_weights(logits.tolist(), 2.5)
    assert logits.grad is not None
    for row in range(3):
        for column in range(4):
            step = torch.zeros(3, 4, dtype=torch.float64)
            step[row, column] = 1e-5
            up, down = ((logits.detach() + s).tolist() for s in (step, -step))
            slope = (looped_mcc(up, 2.5, fixed) - looped_mcc(down, 2.5, fixed)) / 2e-5
            assert logits.grad[row, column].item() == pytest.approx(slope, rel=1e-6, abs=1e-10)


def test_mcc_stays_finite_where_a_class_has_no_probability_left() -> None:
    logits = torch.tensor([[1000.0, 0.0, 0.0], [1000.0, 900.0, 0.0]], requires_grad=True)
    loss = minimum_class_confusion(logits)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_bfloat16_is_raised_before_anything_is_computed() -> None:
    logits = values(6, 4).bfloat16()
    loss = minimum_class_confusion(logits)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(looped_mcc(logits.double().tolist(), 2.5), rel=1e-5)
    expected = [looped_entropy(softmax(row)) for row in logits.double().tolist()]
    assert entropy(logits).tolist() == pytest.approx(expected, rel=1e-4)
