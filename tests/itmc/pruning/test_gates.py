"""Gates against explicit masks, gates and Taylor; ADMM by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.networks.build import Network, NetworkConfig, build
from itmc.pruning.gates import Gates
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import Taylor
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import prune_to
from itmc.pruning.verify import difference, masked
from itmc.training.masking import Masks, MasksConfig
from tests.itmc.helpers import KINDS, gated, images, small, stir
from tests.itmc.training import tiny

EQUAL = 1e-5
BACKBONES = ["resnet18", "timm/mobilenetv3_small_050"]  # the latter's norms activate as well


def backbone(name: str) -> tuple[Network, Tensor]:
    """A network whose norms have seen something, in eval mode, and images."""
    network = build(NetworkConfig(backbone=name, bottleneck=12, classes=4, image_size=32))
    inputs = images(4, 32)
    return stir(network, inputs), inputs


def traced(network: Network, inputs: Tensor) -> Dependencies:
    return Dependencies(network, inputs[:1], kept_layers(network))


def drawn(gates: Gates, low: float = 0.0) -> Gates:
    """``gates`` at random values."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in gates.values.values():
            value.copy_(low + (1 - low) * torch.rand(value.shape, generator=generator))
    return gates


def with_gates(network: Network, gates: Gates, inputs: Tensor) -> Tensor:
    with gates.applied(network), torch.no_grad():
        return torch.cat([outputs.flatten() for outputs in network(inputs)])


@pytest.mark.parametrize("name", BACKBONES)
def test_a_zero_is_an_explicit_mask(name: str) -> None:
    network, inputs = backbone(name)
    dependencies = traced(network, inputs)
    gates = Gates(network, dependencies.groups)
    units = {group.name: list(range(0, group.width, 3)) for group in dependencies.groups}
    with torch.no_grad():
        for group, value in gates.values.items():
            value[units[group]] = 0
    reference = masked(network, dependencies.positions(units), dependencies.parameters)
    assert difference(reference, network, inputs) > 0.01
    with gates.applied(network):
        assert difference(reference, network, inputs) < EQUAL


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_gates_multiply_what_the_judging_layers_put_out(kind: str, training: bool) -> None:
    network = small(kind).train(training)
    explicit = copy.deepcopy(network)
    gates = drawn(Gates(network, traced(network, images()).groups))
    by_layer = {n.removeprefix("backbone."): v.detach() for n, v in gates.values.items()}
    gated(explicit, kind, by_layer)
    with torch.no_grad():
        expected = torch.cat([outputs.flatten() for outputs in explicit(images(4))])
    found = with_gates(network, gates, images(4))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_gradient_at_one_is_what_taylor_computes(name: str) -> None:
    network, inputs = backbone(name)
    groups = traced(network, inputs).groups
    gates, taylor, labels = Gates(network, groups), Taylor(), torch.arange(4)
    with gates.applied(network):
        loss = F.cross_entropy(network(inputs).logits, labels)
    torch.autograd.backward(loss)
    taylor.observe(network, groups)
    for group, value in gates.values.items():
        assert value.grad is not None
        found, expected = value.grad.abs(), taylor.totals[group]
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


@pytest.mark.parametrize("name", BACKBONES)
def test_folding_keeps_the_outputs(name: str) -> None:
    network, inputs = backbone(name)
    gates = drawn(Gates(network, traced(network, inputs).groups), low=0.5)
    folded = copy.deepcopy(network)
    gates.fold(folded)
    assert difference(network, folded, inputs) > 0.01
    with gates.applied(network):
        assert difference(network, folded, inputs) < EQUAL


def test_nothing_stays_behind_not_even_after_an_error() -> None:
    network, before = small("residual"), dict(small("residual").named_parameters())
    own, names = dict(network.named_parameters()), list(network.state_dict())
    gates = drawn(Gates(network, traced(network, images()).groups))
    with pytest.raises(ZeroDivisionError), gates.applied(network):
        raise ZeroDivisionError
    assert all(parameter is own[name] for name, parameter in network.named_parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in own.items())
    assert names == list(network.state_dict())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_sets_of_gates_can_be_applied_in_turn() -> None:
    network = small("plain").eval()
    groups = traced(network, images()).groups
    ones, soft = Gates(network, groups), drawn(Gates(network, groups))
    plain = with_gates(network, ones, images(2))
    other = with_gates(network, soft, images(2))
    assert torch.equal(plain, with_gates(network, ones, images(2)))
    assert not torch.allclose(plain, other)


def test_norms_without_weights_have_no_place_for_a_gate() -> None:
    network = small("plain")
    network.backbone.norm1 = nn.BatchNorm2d(8, affine=False)  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"'backbone.conv1' cannot be masked"):
        Gates(network, traced(network, images()).groups)


def test_no_groups_are_told_in_one_line() -> None:
    with pytest.raises(UsageError, match="no channels of this network can be masked"):
        Gates(small("plain"), ())


def masks(rho: float = 0.1, mask_lr: float = 1.0) -> Masks:
    """Of the tiny task, the soft one drawn at random."""
    task = tiny.context()
    config = MasksConfig(rho=rho, mask_lr=mask_lr)
    found = Masks(config, 0.5, task, task.fresh_network())
    drawn(found.soft)
    return found


def values(scores: dict[str, Tensor]) -> Tensor:
    return torch.cat(list(scores.values())).detach().clone()


def test_z_is_what_pruning_by_the_scores_keeps_and_u_the_gap() -> None:
    found, task = masks(), tiny.context()
    m = values(found.soft.values)
    assert found.project() == pytest.approx(float((m - values(found.hard)).abs().mean()))
    network = task.fresh_network()
    scores = {name: value.detach() for name, value in found.soft.values.items()}
    removed = prune_to(
        network, traced(network, task.example), scores,
        task.example, 0.5 * task.unpruned_macs, task.unpruned_macs, found._limits,
    )  # fmt: skip
    assert 1 - count_macs(network, task.example) / task.unpruned_macs == pytest.approx(
        0.5, abs=0.01
    )
    for name, z in found.hard.items():
        assert (z == 0).nonzero().flatten().tolist() == removed.get(name, [])
    assert not values(found.dual).any()  # the first projection is the start
    z = values(found.hard)
    found.project()
    assert torch.equal(values(found.hard), z) and torch.equal(values(found.dual), m - z)


def test_the_dual_adds_up_and_enters_the_projection() -> None:
    found = masks()
    found.project()
    found.project()
    u, m = values(found.dual), values(found.soft.values)
    assert torch.equal(values(found._scores()), m + u)
    gone = values(found.hard) == 0
    found.project()
    assert torch.allclose(values(found.dual), u + m - values(found.hard))
    highest = int(torch.where(gone, m + u, torch.zeros(())).argmax())
    assert values(found.hard)[highest] == 1  # brought back, since m did not follow z


def test_the_soft_mask_descends_the_penalty() -> None:
    found = masks(rho=0.2, mask_lr=0.5)
    found.project()
    found.project()
    m, z, u = values(found.soft.values), values(found.hard), values(found.dual)
    assert found.penalty().item() == pytest.approx(
        0.1 * float((m - z + u).square().sum()), rel=1e-5
    )
    torch.autograd.backward(found.penalty())
    found.step()
    expected = (m - 0.5 * 0.2 * (m - z + u)).clamp(0, 1)
    assert torch.allclose(values(found.soft.values), expected, atol=1e-6)
    assert all(value.grad is None for value in found.soft.values.values())


def test_the_soft_mask_comes_nearer_the_hard_one_as_rho_grows() -> None:
    gaps = []
    for rho in (0.0, 0.05, 0.5):
        found = masks(rho=rho)
        found.project()
        for _ in range(10):
            torch.autograd.backward(found.penalty())
            found.step()
        gaps.append(float((values(found.soft.values) - values(found.hard)).abs().mean()))
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.01


def test_what_is_opposed_is_ascended_beside_the_rest() -> None:
    found, task = masks(), tiny.context()
    network, batch = found._network, task.batches.at(0)
    parameters = [network.head.weight, *found.soft.values.values()]

    def two_losses() -> tuple[Tensor, Tensor]:
        with found.applied():
            logits = network(torch.cat([batch.source, batch.target])).logits
        return logits[:8].square().mean(), logits[8:].sigmoid().mean()

    rest, opposed = (
        torch.autograd.grad(loss, parameters, retain_graph=True) for loss in two_losses()
    )
    first, second = two_losses()
    found.oppose(second)
    torch.autograd.backward(first + second)
    signs = [1, *[-1] * len(found.soft.values)]
    for parameter, one, two, sign in zip(parameters, rest, opposed, signs, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, one + sign * two, rtol=1e-3, atol=1e-6)
