"""Importance against explicit gates and against norms taken by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from itmc.errors import UsageError
from itmc.networks.build import Network
from itmc.pruning.groups import Dependencies, Group
from itmc.pruning.importance import Taylor, create, normalised
from itmc.pruning.shrink import kept_layers
from tests.itmc.helpers import GATES, KINDS, gated, images, small

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def like(network: Network, count: int = 1, seed: int = 0) -> Tensor:
    return images(count, seed=seed).to(network.head.weight.dtype)


def groups_of(network: Network) -> tuple[Group, ...]:
    return Dependencies(network, like(network), kept_layers(network)).groups


def loss_of(network: Network, seed: int) -> Tensor:
    """Of six images; ReLUs and batch statistics are at work."""
    outputs = network(like(network, 6, seed))
    return F.cross_entropy(outputs.logits, LABELS) + outputs.features.square().mean()


def observed(network: Network, *seeds: int) -> Taylor:
    network = copy.deepcopy(network)
    groups, criterion = groups_of(network), Taylor()
    for seed in seeds:
        network.zero_grad()
        loss_of(network, seed).backward()
        criterion.observe(network, groups)
    return criterion


def gate_gradients(network: Network, kind: str, seed: int) -> dict[str, Tensor]:
    """dL/dg of one explicit gate g = 1 for each group of channels, in float64."""
    network = copy.deepcopy(network).double()
    widths = {g: len(network.backbone.get_submodule(g).weight) for g in GATES[kind]}
    gates = {g: torch.ones(w, dtype=torch.float64, requires_grad=True) for g, w in widths.items()}
    gated(network, kind, gates)
    gradients = torch.autograd.grad(loss_of(network, seed), list(gates.values()))
    return dict(zip(gates, gradients, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_taylor_is_the_gradient_of_explicit_gates(kind: str) -> None:
    network = small(kind).double()
    criterion = observed(network, 1)
    scores = criterion.scores(network, groups_of(network))
    for name, gradient in gate_gradients(network, kind, 1).items():
        assert criterion.totals[f"backbone.{name}"].double().tolist() == pytest.approx(
            gradient.abs().tolist(), rel=1e-5, abs=1e-9
        )
        shares = gradient.abs() / gradient.square().sum().sqrt()
        assert scores[f"backbone.{name}"].double().tolist() == pytest.approx(
            shares.tolist(), rel=1e-5, abs=1e-7
        )


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_taylor_in_float32_is_the_gradient_of_explicit_gates(kind: str) -> None:
    network = small(kind)
    totals = observed(network, 1).totals
    for name, gradient in gate_gradients(network, kind, 1).items():
        assert totals[f"backbone.{name}"].tolist() == pytest.approx(
            gradient.abs().tolist(), rel=1e-3, abs=1e-5
        )


def test_coupled_members_are_summed_before_the_absolute_value() -> None:
    network = small("residual").double()
    network.zero_grad()
    loss_of(network, 1).backward()
    parts = []
    for layer in ("norm0", "norm2"):
        norm = network.backbone.get_submodule(layer)
        parts.append(norm.weight * norm.weight.grad + norm.bias * norm.bias.grad)
    opposed = parts[0].sign() != parts[1].sign()
    assert opposed.any()  # else the order could not be told
    found = observed(network, 1).totals["backbone.stem"].double()
    assert torch.allclose(found, (parts[0] + parts[1]).abs(), rtol=1e-5, atol=1e-9)


def test_two_batches_count_as_the_mean_of_both() -> None:
    network = small("residual")
    groups = groups_of(network)
    first, second, both = (observed(network, *seeds) for seeds in ((1,), (2,), (1, 2)))
    found = both.scores(network, groups)
    for group in groups:
        mean = (first.totals[group.name] + second.totals[group.name]) / 2
        assert torch.allclose(both.totals[group.name] / both.batches, mean, rtol=1e-4, atol=1e-7)
        assert torch.allclose(found[group.name], mean / mean.norm(), rtol=1e-4, atol=1e-6)


def test_the_last_batch_alone_does_not_rank() -> None:
    network = small("plain")
    groups = groups_of(network)
    both, last = (observed(network, *s).scores(network, groups) for s in ((1, 2), (2,)))
    assert not torch.allclose(both["backbone.conv1"], last["backbone.conv1"], rtol=1e-2)


def test_scores_of_a_layer_do_not_depend_on_the_scale_of_the_loss() -> None:
    network = small("plain")
    groups, scaled = groups_of(network), Taylor()
    (100 * loss_of(network, 1)).backward()
    scaled.observe(network, groups)
    expected = observed(network, 1).scores(network, groups)
    for name, scores in scaled.scores(network, groups).items():
        assert torch.allclose(scores, expected[name], rtol=1e-4, atol=1e-6)


def test_taylor_without_gradients_is_an_error() -> None:
    network = small("plain")
    with pytest.raises(RuntimeError, match="backward"):
        Taylor().observe(network, groups_of(network))
    with pytest.raises(RuntimeError, match="before any batch"):
        Taylor().scores(network, groups_of(network))


def test_magnitude_is_the_norm_over_all_layers_that_make_the_channel() -> None:
    network = small("residual")
    scores = create("magnitude").scores(network, groups_of(network))
    weights = {n: network.backbone.get_submodule(n).weight for n in ("stem", "conv1", "conv2")}
    norms = []
    for channel in range(8):
        rows = weights["stem"][channel].flatten().tolist()
        rows += weights["conv2"][channel].flatten().tolist()
        norms.append(sum(v * v for v in rows) ** 0.5)
    length = sum(n * n for n in norms) ** 0.5
    assert scores["backbone.stem"].tolist() == pytest.approx([n / length for n in norms], rel=1e-5)
    alone = weights["conv1"].flatten(1).norm(dim=1)
    assert torch.allclose(scores["backbone.conv1"], alone / alone.norm())


def test_magnitude_of_a_depthwise_group_counts_both_convolutions() -> None:
    network = small("depthwise")
    scores = create("magnitude").scores(network, groups_of(network))["backbone.depth"]
    expand, depth = (network.backbone.get_submodule(n).weight for n in ("expand", "depth"))
    norms = (expand.flatten(1).square().sum(1) + depth.flatten(1).square().sum(1)).sqrt()
    assert torch.allclose(scores, norms / norms.norm())


def test_uniform_keeps_the_first_channels_and_treats_all_widths_alike() -> None:
    network = small("plain")
    scores = create("uniform").scores(network, groups_of(network))
    for width, name in ((8, "backbone.conv1"), (12, "backbone.conv2")):
        assert scores[name].tolist() == pytest.approx([1 - (i + 1) / width for i in range(width)])
    assert (scores["backbone.conv1"] < 0.5).sum() / 8 == (scores["backbone.conv2"] < 0.5).sum() / 12


def test_random_depends_on_seed_and_layer_only() -> None:
    network = small("residual")
    groups = groups_of(network)
    first = create("random", 3).scores(network, groups)
    again = create("random", 3).scores(network, tuple(reversed(groups)))
    other = create("random", 4).scores(network, groups)
    for group in groups:
        assert torch.equal(first[group.name], again[group.name])
        assert not torch.equal(first[group.name], other[group.name])
    stem, conv = first["backbone.stem"], first["backbone.conv1"]
    assert stem.tolist() != conv[: len(stem)].tolist()


def test_all_zero_scores_stay_zero() -> None:
    assert normalised(torch.zeros(4)).tolist() == [0, 0, 0, 0]


def test_an_unknown_criterion_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'fisher'.*taylor, magnitude, uniform, random"):
        create("fisher")
