"""The choices of D: what each is made of, how gamma enters, where gradients go."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.losses import discrepancy
from itmc.losses.adversarial import domain_loss, margin_disparity
from itmc.losses.confusion import minimum_class_confusion
from itmc.losses.discrepancy import DiscrepancyName
from itmc.losses.mmd import jmmd, lmmd, mk_mmd
from itmc.networks.build import Outputs

NAMES = get_args(DiscrepancyName)
ADVERSARIAL = ("dann", "cdan", "cdan_e", "mdd")
LABELS = torch.tensor([0, 1, 2, 0])
SETTINGS = discrepancy.DiscrepancySettings(discriminator=8)


def outputs(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 6, generator=random, dtype=torch.float64).to(dtype)
    logits = 2 * torch.randn(count, 3, generator=random, dtype=torch.float64).to(dtype)
    return Outputs(features.requires_grad_(), logits.requires_grad_())


def create(name: str) -> discrepancy.Discrepancy:
    torch.manual_seed(0)
    return discrepancy.create(name, features=6, classes=3, settings=SETTINGS).double()


def discriminator_of(term: discrepancy.Discrepancy) -> nn.Module:
    found = term.get_submodule("discriminator")
    assert isinstance(found, nn.Sequential)
    return found


def gradient(term: discrepancy.Discrepancy, gamma: float) -> tuple[Tensor, list[Tensor]]:
    """With respect to the source's features, and to what the term itself learns."""
    source, target = outputs(4, 0), outputs(4, 1)
    term.zero_grad()
    term(source, target, LABELS, gamma).backward()
    assert source.features.grad is not None
    return source.features.grad, [p.grad.clone() for p in term.parameters() if p.grad is not None]


def test_distances_are_gamma_times_their_losses() -> None:
    source, target = outputs(4, 0), outputs(5, 1)
    expected = {
        "dan": mk_mmd(source.features, target.features),
        "jan": jmmd(
            (source.features, source.logits.softmax(1)), (target.features, target.logits.softmax(1))
        ),
        "lmmd": lmmd(source.features, target.features, LABELS, target.logits.softmax(1)),
        "mcc": minimum_class_confusion(target.logits),
    }
    for name, value in expected.items():
        assert create(name)(source, target, LABELS, 0.3).item() == pytest.approx(0.3 * value.item())
        assert create(name)(source, target, LABELS, 0.0).item() == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_term_is_a_finite_scalar_that_moves_the_network(name: str) -> None:
    source, target = outputs(4, 0), outputs(4, 1)
    loss = create(name)(source, target, LABELS, 1.0)
    loss.backward()
    assert loss.shape == () and loss.isfinite()
    reached = [g.grad for g in (*source, *target) if g.grad is not None]
    assert reached and all(g.isfinite().all() for g in reached)
    assert max(g.abs().max().item() for g in reached) > 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_gamma_scales_the_reversed_gradient_but_not_the_discriminators(name: str) -> None:
    term = create(name)
    full, learnt = gradient(term, 1.0)
    half, same = gradient(term, 0.5)
    none, still = gradient(term, 0.0)
    assert torch.allclose(half, full / 2) and none.abs().max() == 0
    for a, b, c in zip(learnt, same, still, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_network_climbs_what_the_discriminator_descends(name: str) -> None:
    term = create(name)
    source, target = outputs(4, 0), outputs(4, 1)
    before = term(source, target, LABELS, 1.0)
    before.backward()
    assert source.features.grad is not None and target.features.grad is not None
    step = 1e-3
    moved = [
        Outputs(o.features.detach() - step * o.features.grad, o.logits) for o in (source, target)
    ]
    assert term(*moved, LABELS, 1.0).item() > before.item()


def test_dann_looks_at_features_only() -> None:
    term = create("dann")
    source, target = outputs(4, 0), outputs(4, 1)
    logits = discriminator_of(term)(torch.cat([source.features, target.features]))
    assert term(source, target, LABELS, 1.0).item() == pytest.approx(domain_loss(logits, 4).item())


@pytest.mark.parametrize("name", ["cdan", "cdan_e"])
def test_cdan_conditions_on_predictions_without_moving_them(name: str) -> None:
    term = create(name)
    source, target = outputs(4, 0), outputs(4, 1)
    rows = []
    weights = []
    for features, logits in zip([*source[0], *target[0]], [*source[1], *target[1]], strict=True):
        probabilities = logits.softmax(0)
        rows.append(torch.cat([p * features for p in probabilities]))
        weights.append(1 + (probabilities * probabilities.log()).sum().exp())
    joint = discriminator_of(term)(torch.stack(rows))
    expected = domain_loss(joint, 4, torch.stack(weights) if name == "cdan_e" else None)
    found = term(source, target, LABELS, 1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    found.backward()
    assert source.logits.grad is None and target.logits.grad is None


def test_mdd_is_the_margin_disparity_of_its_own_classifier() -> None:
    term = create("mdd")
    source, target = outputs(4, 0), outputs(5, 1)
    adversary = term.get_submodule("adversary")
    expected = margin_disparity(
        adversary(source.features),
        torch.tensor([row.index(max(row)) for row in source.logits.tolist()]),
        adversary(target.features),
        torch.tensor([row.index(max(row)) for row in target.logits.tolist()]),
        4.0,
    )
    found = term(source, target, LABELS, 1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    found.backward()
    assert source.logits.grad is None and target.logits.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_labels_matter_to_lmmd_alone(name: str) -> None:
    source, target = outputs(4, 0), outputs(4, 1)
    terms = [create(name)(source, target, y, 1.0).item() for y in (LABELS, LABELS.roll(1))]
    assert (terms[0] != terms[1]) == (name == "lmmd")


def test_lmmd_sends_no_gradient_through_predictions() -> None:
    source, target = outputs(4, 0), outputs(4, 1)
    create("lmmd")(source, target, LABELS, 1.0).backward()
    assert target.features.grad is not None and target.features.grad.abs().max() > 0
    assert source.logits.grad is None and target.logits.grad is None


def test_every_name_of_the_type_can_be_created() -> None:
    kinds = {name: type(create(name)).__name__ for name in NAMES}
    assert kinds == {
        "dan": "DAN",
        "dann": "DANN",
        "cdan": "CDAN",
        "cdan_e": "CDAN",
        "jan": "JAN",
        "mcc": "MCC",
        "mdd": "MDD",
        "lmmd": "DSAN",
        "coral": "CORAL",
    }


def test_cdan_projects_at_random_only_where_the_product_is_large() -> None:
    exact, large = (discrepancy.create("cdan", 256, classes, SETTINGS) for classes in (16, 17))
    assert discriminator_of(exact)[0].in_features == 4096
    assert discriminator_of(large)[0].in_features == 1024
    assert set(large.get_submodule("projection").state_dict()) == {"of_features", "of_classes"}


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_outputs_are_compared_in_float32(name: str) -> None:
    half = outputs(4, 0, torch.bfloat16), outputs(4, 1, torch.bfloat16)
    raised = [Outputs(o.features.double(), o.logits.double()) for o in half]
    torch.manual_seed(0)
    term = discrepancy.create(name, features=6, classes=3, settings=SETTINGS)
    loss = term(*half, LABELS, 1.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(term.double()(*raised, LABELS, 1.0).item(), rel=1e-4)


def test_jan_softens_bfloat16_logits_in_float32() -> None:
    features = torch.zeros(4, 6)  # so that only predictions tell the domains apart
    logits = [outputs(4, seed, torch.bfloat16).logits for seed in (0, 1)]
    found = create("jan")(*(Outputs(features, rows) for rows in logits), LABELS, 1.0)
    exact = create("jan")(
        *(Outputs(features.double(), rows.double()) for rows in logits), LABELS, 1.0
    )
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


def test_lmmd_softens_bfloat16_logits_in_float32() -> None:
    rows = outputs(4, 1, torch.bfloat16).logits
    source, target = outputs(4, 0), Outputs(outputs(4, 2).features, rows)
    exact = create("lmmd")(source, Outputs(target.features, rows.double()), LABELS, 1.0)
    found = create("lmmd")(source, target, LABELS, 1.0)
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"'moral'.*dan, jan, lmmd, coral, mcc, dann, cdan, cdan_e, mdd"
    ):
        discrepancy.create("moral", 6, 3, SETTINGS)
