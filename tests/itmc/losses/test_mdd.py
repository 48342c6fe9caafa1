"""MDD's margin disparity, and one class against the others, against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from itmc.losses.adversarial import MDD_MARGIN, adversary, margin_disparity
from itmc.losses.binary import one_against_others, others


def values(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=random, dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(z) for z in row]
    return [power / sum(powers) for power in powers]


def looped_disparity(
    source: Tensor, of_source: Tensor, target: Tensor, of_target: Tensor, margin: float
) -> float:
    """margin * mean -log p at the source's class + mean -log(1 - p) at the target's."""
    agree = [-math.log(softmax(z)[c]) for z, c in zip(source.tolist(), of_source, strict=True)]
    part = [-math.log(1 - softmax(z)[c]) for z, c in zip(target.tolist(), of_target, strict=True)]
    return margin * sum(agree) / len(agree) + sum(part) / len(part)


@pytest.mark.parametrize("classes", [2, 4])
def test_others_are_the_row_without_its_class(classes: int) -> None:
    logits = values(classes, classes)
    found = others(logits, torch.arange(classes))
    for row in range(classes):
        expected = [z for c, z in enumerate(logits[row].tolist()) if c != row]
        assert found[row].tolist() == expected


def test_one_against_others_is_the_logarithm_of_both_probabilities() -> None:
    logits, classes = values(5, 4), torch.tensor([0, 3, 1, 2, 0])
    found = one_against_others(logits, classes)
    for row, c in enumerate(classes.tolist()):
        p = softmax(logits[row].tolist())[c]
        assert found[row].tolist() == pytest.approx([math.log(p), math.log(1 - p)], rel=1e-10)


def test_one_against_others_has_the_gradient_of_its_value() -> None:
    classes = torch.tensor([0, 3, 1])
    logits = values(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: one_against_others(z, classes), (logits,))


@pytest.mark.parametrize(("sources", "targets", "margin"), [(4, 4, 4.0), (2, 5, 2.0), (1, 1, 3.0)])
def test_margin_disparity_is_the_loop(sources: int, targets: int, margin: float) -> None:
    source, target = values(sources, 4), values(targets, 4, seed=1)
    of_source, of_target = torch.arange(sources) % 4, (torch.arange(targets) + 1) % 4
    found = margin_disparity(source, of_source, target, of_target, margin).item()
    expected = looped_disparity(source, of_source, target, of_target, margin)
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_margin_is_four_unless_said() -> None:
    inputs = values(3, 4), torch.tensor([1, 1, 2]), values(3, 4, seed=1), torch.tensor([0, 3, 0])
    assert MDD_MARGIN == 4
    expected = looped_disparity(*inputs, margin=4.0)
    assert margin_disparity(*inputs).item() == pytest.approx(expected, rel=1e-12)


def test_margin_disparity_has_the_gradient_of_its_value() -> None:
    of_source, of_target = torch.tensor([1, 0, 1]), torch.tensor([3, 2])

    def at(source: Tensor, target: Tensor) -> Tensor:
        return margin_disparity(source, of_source, target, of_target, 3.0)

    inputs = values(3, 4).requires_grad_(), values(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(at, inputs)


@pytest.mark.parametrize("margin", [2.0, 4.0])
def test_equal_domains_leave_the_adversary_at_a_confidence_set_by_the_margin(margin: float) -> None:
    # -g log p - log(1 - p) is least at p = g / (1 + g), where the paper's sigma(log g) is.
    logits = torch.tensor([[math.log(margin), 0.0]], dtype=torch.float64, requires_grad=True)
    none = torch.zeros(1, dtype=torch.int64)
    loss = margin_disparity(logits, none, logits, none, margin)
    loss.backward()
    p = margin / (1 + margin)
    assert loss.item() == pytest.approx(-margin * math.log(p) - math.log(1 - p), rel=1e-12)
    assert logits.grad is not None and logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_certain_adversary_gives_a_finite_loss_and_gradient(dtype: torch.dtype) -> None:
    target = torch.tensor([[200.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    none = torch.zeros(1, dtype=torch.int64)
    loss = margin_disparity(torch.zeros(1, 3), none, target, none, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3) + 200 - math.log(2), rel=1e-6)
    assert target.grad is not None
    assert target.grad.tolist() == [pytest.approx([1.0, -0.5, -0.5])]


@given(seed=st.integers(0, 10_000), count=st.integers(1, 5), classes=st.integers(2, 5))
def test_it_is_positive_in_any_order(seed: int, count: int, classes: int) -> None:
    random = torch.Generator().manual_seed(seed)
    source, target = values(count, classes, seed=seed), values(count, classes, seed=seed + 1)
    of = torch.randint(classes, (2, count), generator=random)
    loss = margin_disparity(source, of[0], target, of[1]).item()
    assert loss > 0
    turned = margin_disparity(source.flip(0), of[0].flip(0), target, of[1]).item()
    assert turned == pytest.approx(loss, rel=1e-10)
    names = torch.randperm(classes, generator=random)
    renamed = names.argsort()[of]
    found = margin_disparity(source[:, names], renamed[0], target[:, names], renamed[1]).item()
    assert found == pytest.approx(loss, rel=1e-10)


def test_bfloat16_is_raised_before_it_is_softened() -> None:
    source, target = values(5, 4).bfloat16(), values(5, 4, seed=1).bfloat16()
    of_source, of_target = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([2, 3, 2, 2, 2])
    loss = margin_disparity(source, of_source, target, of_target)
    assert loss.dtype == torch.float32
    expected = looped_disparity(source.double(), of_source, target.double(), of_target, 4.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_adversary_has_one_hidden_layer_of_the_width_asked_for() -> None:
    network = adversary(6, 8, 3)
    shapes = [tuple(weight.shape) for weight in network.parameters()]
    assert shapes == [(8, 6), (8,), (3, 8), (3,)]
    features = torch.full((2, 6), -50.0)
    assert (network[0](features) < 0).any() and (network[:2](features) >= 0).all()
