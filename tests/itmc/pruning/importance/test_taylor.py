"""Taylor importance against explicit gates, in double precision."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from timm.layers.std_conv import ScaledStdConv2d, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.networks.build import Network
from itmc.pruning.groups import Group
from itmc.pruning.importance import Taylor
from tests.itmc.helpers import GATES, KINDS, gated, small
from tests.itmc.pruning.importance.nets import (
    backbone,
    group,
    group_with,
    groups_of,
    like,
    member,
)

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def loss_of(network: Network, seed: int) -> Tensor:
    """Of six images; ReLUs and batch statistics are at work."""
    outputs = network(like(network, 6, seed))
    return F.cross_entropy(outputs.logits, LABELS) + outputs.features.square().mean()


def observed(network: Network, *seeds: int, groups: Sequence[Group] | None = None) -> Taylor:
    network = copy.deepcopy(network)
    groups, criterion = tuple(groups or groups_of(network)), Taylor()
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


def gradient_of_gate(network: Network, layers: Sequence[str], gate: Tensor, seed: int) -> Tensor:
    """dL/dg at g = 1 of gates on outputs of ``layers``: the i-th on those where gate[c] = i."""
    network = copy.deepcopy(network)
    ones = torch.ones(int(gate.max()) + 1, dtype=torch.float64, requires_grad=True)
    for name in layers:

        def multiply(_: nn.Module, __: object, out: Tensor) -> Tensor:
            return out * ones[gate].view(1, -1, *[1] * (out.dim() - 2))

        network.get_submodule(name).register_forward_hook(multiply)
    (gradient,) = torch.autograd.grad(loss_of(network, seed), ones)
    return gradient


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found.double(), expected.double(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_taylor_is_the_gradient_of_explicit_gates(kind: str) -> None:
    network = small(kind).double()
    criterion, groups = observed(network, 1), groups_of(network)
    scores = criterion.scores(network, groups)
    for layer, gradient in gate_gradients(network, kind, 1).items():
        name = group_with(groups, layer).name
        assert close(criterion.totals[name], gradient.abs())
        assert close(scores[name], gradient.abs() / gradient.square().sum().sqrt())


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
    assert close(observed(network, 1).totals["backbone.stem"], (parts[0] + parts[1]).abs())


def test_a_unit_of_several_channels_has_one_gate() -> None:
    network = backbone(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=4), nn.BatchNorm2d(8), nn.ReLU(), features=8,
    )  # fmt: skip
    units = [0, 1, 2, 3, 0, 1, 2, 3]  # not even next to one another
    layers = ("backbone.1", "backbone.4")
    made = group(4, *(member(f"backbone.{i}", units) for i in (3, 0, 1, 4)), unit=2)
    expected = gradient_of_gate(network, layers, torch.tensor(units), 1)
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected.abs())


@pytest.mark.parametrize(
    ("norm", "judge"),
    [
        (nn.GroupNorm(2, 8), "backbone.0"),  # invariant to the scale of four channels together
        (nn.LayerNorm([8, 10, 10]), "backbone.0"),
        (nn.PReLU(8), "backbone.0"),
        (nn.InstanceNorm2d(8, affine=True), "backbone.1"),
        (nn.GroupNorm(8, 8), "backbone.1"),  # an InstanceNorm by another name
        (nn.BatchNorm2d(8), "backbone.1"),
    ],
)
def test_only_a_norm_of_single_channels_takes_the_place_of_its_producer(
    norm: nn.Module, judge: str
) -> None:
    network = backbone(nn.Conv2d(3, 8, 3), norm, nn.Tanh(), features=8)
    made = group(8, member("backbone.0", range(8)), member("backbone.1", range(8)))
    expected = gradient_of_gate(network, [judge], torch.arange(8), 1).abs()
    assert expected.max() > 1e-4  # a gate that has any effect
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


@pytest.mark.parametrize(
    ("units", "judge"),
    [
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], "backbone.1"),  # each group is a unit
        ([0, 0, 0, 1, 1, 1, 0, 0, 0], "backbone.1"),  # and two groups may be one
        ([0, 0, 1, 1, 2, 2, 3, 3, 3], "backbone.0"),
        (list(range(9)), "backbone.0"),
    ],
)
def test_a_group_norm_takes_the_place_where_units_are_whole_groups(
    units: list[int], judge: str
) -> None:
    network = backbone(nn.Conv2d(3, 9, 3), nn.GroupNorm(3, 9), nn.Tanh(), features=9)
    members = member("backbone.0", units), member("backbone.1", units)
    made = group(max(units) + 1, *members, unit=3)
    expected = gradient_of_gate(network, [judge], torch.tensor(units), 1).abs()
    assert expected.max() > 1e-4
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(8, affine=False), nn.InstanceNorm2d(8), nn.GroupNorm(8, 8, affine=False)],
)
@pytest.mark.parametrize("behind", [nn.Conv2d(8, 5, 3), nn.ConvTranspose2d(8, 5, 3)])
def test_behind_a_norm_without_weights_the_gate_stands_at_the_next_inputs(
    norm: nn.Module, behind: nn.Module
) -> None:
    network = backbone(nn.Conv2d(3, 8, 3), norm, nn.SiLU(), behind, features=5)
    made = group(
        8,
        member("backbone.0", range(8)),
        member("backbone.1", range(8), judged=False),
        member("backbone.3", range(8), is_output=False),
    )
    expected = gradient_of_gate(network, ["backbone.2"], torch.arange(8), 1).abs()
    assert expected.max() > 1e-4
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


def test_a_norm_without_weights_before_a_convolution_in_groups_is_a_usage_error() -> None:
    network = backbone(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, 4, 3, groups=2),
        features=4,
    )  # fmt: skip
    made = group(
        8,
        member("backbone.0", range(8)),
        member("backbone.1", range(8), judged=False),
        member("backbone.2", range(8), is_output=False),
    )
    with pytest.raises(UsageError, match=r"'backbone\.0' are normalised.*l1, l2 or fpgm"):
        observed(network, 1, groups=[made])


@pytest.mark.parametrize("layer", [StdConv2d, StdConv2dSame])
def test_behind_standardised_filters_the_gate_stands_at_the_next_inputs(
    layer: type[nn.Module],
) -> None:
    network = backbone(layer(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 5, 3), features=5)
    made = group(8, member("backbone.0", range(8)), member("backbone.2", range(8), is_output=False))
    expected = gradient_of_gate(network, ["backbone.1"], torch.arange(8), 1).abs()
    assert expected.max() > 1e-4
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


def test_the_gain_of_standardised_filters_is_a_gate() -> None:
    network = backbone(ScaledStdConv2d(3, 8, 3), nn.SiLU(), features=8)
    made = group(8, member("backbone.0", range(8)))
    expected = gradient_of_gate(network, ["backbone.0"], torch.arange(8), 1).abs()
    assert expected.max() > 1e-4
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_transposed_convolution_is_judged_by_its_outputs(blocks: int) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=blocks)
    network = backbone(nn.Conv2d(3, 4, 3), nn.ReLU(), layer, nn.ReLU(), features=6)
    made = group(6, member("backbone.2", range(6)))
    expected = gradient_of_gate(network, ["backbone.2"], torch.arange(6), 1).abs()
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


def test_members_that_are_no_layers_or_not_judged_are_passed_over() -> None:
    network = backbone(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), features=8)
    made = group(
        8,
        member("backbone.1", range(8)),
        member("backbone.0", range(8), judged=False),
        member("backbone.1.gamma", range(8), judged=False),
        member("pos_embed", range(8), judged=False),
    )
    expected = gradient_of_gate(network, ["backbone.1"], torch.arange(8), 1).abs()
    assert close(observed(network, 1, groups=[made]).totals[made.name], expected)


def test_channels_that_no_weight_judges_are_a_usage_error() -> None:
    network = backbone(nn.Conv2d(3, 8, 3), nn.PReLU(8), features=8)
    with pytest.raises(UsageError, match=r"layer 'backbone\.1' have no weights to be judged by"):
        observed(network, 1, groups=[group(8, member("backbone.1", range(8)))])


def test_two_batches_count_as_the_mean_of_both() -> None:
    network = small("residual")
    groups = groups_of(network)
    first, second, both = (observed(network, *seeds) for seeds in ((1,), (2,), (1, 2)))
    found = both.scores(network, groups)
    for g in groups:
        mean = (first.totals[g.name] + second.totals[g.name]) / 2
        assert torch.allclose(both.totals[g.name] / both.batches, mean, rtol=1e-4, atol=1e-7)
        assert torch.allclose(found[g.name], mean / mean.norm(), rtol=1e-4, atol=1e-6)


def test_the_last_batch_alone_does_not_rank() -> None:
    network = small("plain")
    groups = groups_of(network)
    both, last = (observed(network, *s).scores(network, groups) for s in ((1, 2), (2,)))
    assert not torch.allclose(both["backbone.conv1"], last["backbone.conv1"], rtol=1e-2)


@settings(max_examples=5, deadline=None)
@given(st.permutations([1, 2, 3, 4]))
def test_the_order_of_the_batches_does_not_matter(seeds: list[int]) -> None:
    network = small("plain").double()
    groups = groups_of(network)
    expected = observed(network, 1, 2, 3, 4).scores(network, groups)
    for name, scores in observed(network, *seeds).scores(network, groups).items():
        assert torch.allclose(scores, expected[name], rtol=1e-5, atol=1e-7)


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
