"""Gradient reversal, the domain loss and CDAN's maps against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from itmc.losses.adversarial import (
    RandomMultilinear,
    discriminator,
    domain_loss,
    multilinear,
    reverse_gradient,
)


def values(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def looped_domain_loss(logits: list[float], sources: int, weights: list[float]) -> float:
    """Mean over both domains of the weighted mean of -log p(domain)."""
    total = 0.0
    for rows, is_source in (
        (range(sources), True),
        (range(sources, len(logits)), False),
    ):
        weighted = 0.0
        for row in rows:
            p = 1 / (1 + math.exp(-logits[row]))
            weighted += weights[row] * -math.log(p if is_source else 1 - p)
        total += weighted / sum(weights[row] for row in rows)
    return total / 2


def test_reversal_is_the_identity_forward() -> None:
    features = values(3, 4)
    assert torch.equal(reverse_gradient(features, 0.7), features)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_reversal_multiplies_the_gradient_by_minus_its_strength(strength: float) -> None:
    features, upstream = values(3, 4).requires_grad_(), values(3, 4, seed=1)
    (reverse_gradient(features, strength) * upstream).sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, -strength * upstream)


def test_reversals_that_cancel_have_the_gradient_of_the_identity() -> None:
    features, upstream = values(3, 4).requires_grad_(), values(3, 4, seed=1)

    def twice(x: Tensor) -> Tensor:
        return reverse_gradient(reverse_gradient(x, 0.5), 2.0) * upstream

    assert torch.autograd.gradcheck(twice, (features,))


@pytest.mark.parametrize(("sources", "targets"), [(4, 4), (2, 5), (1, 1)])
def test_domain_loss_is_the_loop(sources: int, targets: int) -> None:
    logits = 2 * values(sources + targets, 1)
    count = sources + targets
    expected = looped_domain_loss(logits.squeeze(1).tolist(), sources, [1.0] * count)
    assert domain_loss(logits, sources).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("sources", "targets"), [(4, 4), (2, 5), (1, 1)])
def test_weighted_domain_loss_is_the_loop(sources: int, targets: int) -> None:
    logits, weights = 2 * values(sources + targets, 1), 1 + values(sources + targets, seed=1).abs()
    expected = looped_domain_loss(logits.squeeze(1).tolist(), sources, weights.tolist())
    assert domain_loss(logits, sources, weights).item() == pytest.approx(expected, rel=1e-12)


def test_the_scale_of_a_domains_weights_does_not_matter() -> None:
    logits, weights = values(6, 1), 1 + values(6, seed=1).abs()
    scaled = torch.cat([3 * weights[:2], 7 * weights[2:]])
    assert domain_loss(logits, 2, scaled).item() == pytest.approx(
        domain_loss(logits, 2, weights).item(), rel=1e-12
    )


def test_domains_may_be_swapped_with_their_labels() -> None:
    logits, weights = values(5, 1), 1 + values(5, seed=1).abs()
    swapped = domain_loss(-logits.roll(3, 0), 3, weights.roll(3, 0))  # 2 + 3 rows become 3 + 2
    assert swapped.item() == pytest.approx(domain_loss(logits, 2, weights).item(), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_the_authors_where_domains_are_of_one_size(weighted: bool) -> None:
    # thuml/CDAN: each domain's weights over their sum, all losses' sum over the weights' sum.
    logits = values(6, 1)
    weights = 1 + values(6, seed=1).abs() if weighted else torch.ones(6, dtype=torch.float64)
    total, mass = 0.0, 0.0
    for rows, truth in ((range(3), 1), (range(3, 6), 0)):
        for row in rows:
            weight = weights[row].item() / sum(weights[r].item() for r in rows)
            p = 1 / (1 + math.exp(-logits[row].item()))
            total, mass = total - weight * math.log(p if truth else 1 - p), mass + weight
    found = domain_loss(logits, 3, weights if weighted else None)
    assert found.item() == pytest.approx(total / mass, rel=1e-12)


def test_an_undecided_discriminator_costs_log_two() -> None:
    assert domain_loss(torch.zeros(5, 1), 2).item() == pytest.approx(math.log(2))


def test_source_has_the_label_one() -> None:
    right, wrong = torch.tensor([[9.0], [-9.0]]), torch.tensor([[-9.0], [9.0]])
    assert domain_loss(right, 1).item() < 1e-3
    assert domain_loss(wrong, 1).item() > 8


def test_domain_loss_has_the_gradient_of_its_value() -> None:
    logits, weights = values(5, 1).requires_grad_(), 1 + values(5, seed=1).abs()
    assert torch.autograd.gradcheck(lambda z: domain_loss(z, 2), (logits,))
    assert torch.autograd.gradcheck(lambda z: domain_loss(z, 2, weights), (logits,))


def test_domain_loss_of_bfloat16_is_float32() -> None:
    logits = values(6, 1).bfloat16()
    loss = domain_loss(logits, 3)
    assert loss.dtype == torch.float32
    expected = looped_domain_loss(logits.squeeze(1).double().tolist(), 3, [1.0] * 6)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_multilinear_is_the_outer_product_of_each_row() -> None:
    features, probabilities = values(3, 4), values(3, 2, seed=1).softmax(1)
    found = multilinear(features, probabilities)
    assert found.shape == (3, 8)
    for row in range(3):
        products = [p * f for p in probabilities[row].tolist() for f in features[row].tolist()]
        assert found[row].tolist() == pytest.approx(products)


def test_multilinear_has_the_gradient_of_its_value() -> None:
    inputs = values(2, 3).requires_grad_(), values(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(multilinear, inputs)


def test_random_multilinear_is_the_loop() -> None:
    torch.manual_seed(0)
    random = RandomMultilinear(4, 3, 5).double()
    features, probabilities = values(2, 4), values(2, 3, seed=1).softmax(1)
    found = random(features, probabilities)
    assert found.shape == (2, 5)
    of_features, of_classes = random.of_features.tolist(), random.of_classes.tolist()
    for f, g, row in zip(features.tolist(), probabilities.tolist(), found.tolist(), strict=True):
        for d in range(5):
            first = sum(f[i] * of_features[i][d] for i in range(4))
            second = sum(g[c] * of_classes[c][d] for c in range(3))
            assert row[d] == pytest.approx(first * second / math.sqrt(5), rel=1e-10)


def test_random_multilinear_has_the_gradient_of_its_value() -> None:
    torch.manual_seed(0)
    random = RandomMultilinear(3, 4, 5).double()
    inputs = values(2, 3).requires_grad_(), values(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(random, inputs)


def test_random_multilinear_keeps_inner_products_on_average() -> None:
    torch.manual_seed(0)
    features, probabilities = values(2, 6), values(2, 3, seed=1).softmax(1)
    exact = multilinear(features, probabilities)
    wanted = (exact @ exact.T).flatten()
    maps = [RandomMultilinear(6, 3, 1024).double() for _ in range(100)]
    products = torch.stack(
        [(z @ z.T).flatten() for z in (m(features, probabilities) for m in maps)]
    )
    spread = products.std(0) / len(maps) ** 0.5
    assert ((products.mean(0) - wanted).abs() < 4 * spread).all()
    assert (spread < 0.05 * wanted.abs().max()).all()  # so the line above says something


def test_random_multilinear_is_fixed_and_saved_but_not_learnt() -> None:
    torch.manual_seed(0)
    first, second = RandomMultilinear(6, 3, 8), RandomMultilinear(6, 3, 8)
    inputs = values(2, 6).float(), values(2, 3).float()
    assert torch.equal(first(*inputs), first(*inputs))
    assert not torch.equal(first(*inputs), second(*inputs))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*inputs), second(*inputs))
    assert not list(first.parameters())


def test_discriminator_gives_one_logit_a_row() -> None:
    assert discriminator(6, 5)(torch.randn(4, 6)).shape == (4, 1)
