"""The coupled groups that tracing finds, against those known by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.attention import Attention
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch_pruning.dependency.shape_infer import infer_in_channels_recursively

from itmc.networks.build import Network
from itmc.pruning.groups import Dependencies, Group
from itmc.pruning.shrink import kept_layers
from tests.itmc.helpers import GATES, KINDS, images, small


def groups_of(network: Network) -> dict[str, Group]:
    found = Dependencies(network, images(), kept_layers(network)).groups
    return {group.name.removeprefix("backbone."): group for group in found}


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_those_known_by_hand(kind: str) -> None:
    network = small(kind)
    groups = groups_of(network)
    assert set(groups) == set(GATES[kind])
    for name, layers in GATES[kind].items():
        outputs = {m.layer.removeprefix("backbone.") for m in groups[name].members if m.is_output}
        assert set(layers) <= outputs
        root = network.backbone.get_submodule(name)
        assert isinstance(root.weight, torch.Tensor)
        assert groups[name].width == len(root.weight)


def test_a_residual_sum_couples_its_two_sides_channel_by_channel() -> None:
    group = groups_of(small("residual"))["stem"]
    outputs = {m.layer: m for m in group.members if m.is_output}
    for layer in ("stem", "conv2", "norm0", "norm2"):
        member = outputs[f"backbone.{layer}"]
        pairs = sorted(zip(member.roots.tolist(), member.positions.tolist(), strict=True))
        assert pairs == [(i, i) for i in range(8)]


def test_a_flattened_channel_is_several_inputs_of_the_linear_layer() -> None:
    group = groups_of(small("bare"))["conv2"]
    (member,) = (m for m in group.members if m.layer == "backbone.linear" and not m.is_output)
    pairs = set(zip(member.roots.tolist(), member.positions.tolist(), strict=True))
    assert pairs == {(i // 4, i) for i in range(32)}


def test_the_second_branch_of_a_concatenation_is_read_behind_the_first() -> None:
    group = groups_of(small("concat"))["right"]
    (member,) = (m for m in group.members if m.layer == "backbone.last" and not m.is_output)
    pairs = set(zip(member.roots.tolist(), member.positions.tolist(), strict=True))
    assert pairs == {(i, 6 + i) for i in range(5)}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_bottleneck_and_head_belong_to_no_group(kind: str) -> None:
    for group in groups_of(small(kind)).values():
        outputs = {m.layer for m in group.members if m.is_output}
        assert not outputs & {"head", "bottleneck.0", "bottleneck.1"}


def sequential(*layers: nn.Module, width: int) -> Network:
    backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(backbone, width, bottleneck=5, classes=3)


def pairs(group: Group, layer: str, is_output: bool) -> set[tuple[int, int]]:
    """Units of ``group``, each with a position in ``layer`` that goes with it."""
    (member,) = (
        m for m in group.members if m.layer == f"backbone.{layer}" and m.is_output is is_output
    )
    return set(zip(member.roots.tolist(), member.positions.tolist(), strict=True))


def test_a_convolution_with_one_input_channel_is_not_taken_for_depthwise() -> None:
    convolutions = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3), nn.Conv2d(1, 6, 3)
    network = sequential(*convolutions, width=6)
    widths = {name: group.width for name, group in groups_of(network).items()}
    assert widths == {"0": 4, "2": 6}
    whole = Dependencies(network, images(), kept_layers(network)).whole
    assert whole == {"backbone.1": "all of its channels can only go together"}


def test_a_convolution_in_groups_loses_whole_groups_and_what_only_they_read() -> None:
    network = sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 6, 1), width=6
    )
    groups = groups_of(network)
    assert {name: (g.width, g.unit) for name, g in groups.items()} == {"0": (4, 2), "2": (6, 1)}
    assert pairs(groups["0"], "0", True) == {(i // 2, i) for i in range(8)}
    assert pairs(groups["0"], "1", True) == {(i // 3, i) for i in range(12)}
    assert pairs(groups["0"], "2", False) == {(i // 3, i) for i in range(12)}
    old = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    Dependencies(network, images(), kept_layers(network)).remove({"backbone.0": [1, 3]})
    inputs, outputs = [0, 1, 4, 5], [0, 1, 2, 6, 7, 8]
    new = network.backbone.state_dict()
    assert torch.equal(new["0.weight"], old["0.weight"][inputs])
    assert torch.equal(new["1.weight"], old["1.weight"][outputs])
    assert torch.equal(new["1.bias"], old["1.bias"][outputs])
    assert torch.equal(new["2.weight"], old["2.weight"][:, outputs])
    layer = network.backbone.get_submodule("1")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.groups, layer.in_channels, layer.out_channels) == (2, 4, 6)


def test_a_group_norm_loses_whole_groups_and_one_of_a_single_group_loses_channels() -> None:
    for count, width, unit in ((4, 4, 2), (1, 8, 1)):
        norm = nn.GroupNorm(count, 8)
        network = sequential(nn.Conv2d(3, 8, 3), norm, width=8)
        (group,) = groups_of(network).values()
        assert (group.width, group.unit) == (width, unit)
        assert pairs(group, "1", True) == {(i // unit, i) for i in range(8)}
        Dependencies(network, images(), kept_layers(network)).remove({"backbone.0": [1]})
        assert (norm.num_channels, norm.num_groups) == (8 - unit, max(1, count - 1))
        assert len(norm.weight) == len(norm.bias) == 8 - unit


class Heads(nn.Module):
    """Patches that look at one another, with four heads of three channels."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.embed, self.position = nn.Conv2d(3, 12, 4, 4), nn.Parameter(torch.randn(1, 9, 12))
        self.attention = Attention(12, num_heads=heads, qkv_bias=True)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.position
        attended: Tensor = tokens + self.attention(tokens)
        return attended.mean(1)


def test_heads_go_with_their_queries_keys_and_values() -> None:
    network = Network(Heads(), 12, bottleneck=5, classes=3)
    groups = groups_of(network)
    assert {n: (g.width, g.unit) for n, g in groups.items()} == {
        "embed": (12, 1),
        "attention.qkv": (4, 3),
    }
    attention = network.backbone.get_submodule("attention")
    old = {name: tensor.clone() for name, tensor in attention.state_dict().items()}
    Dependencies(network, images(), kept_layers(network)).remove({"backbone.attention.qkv": [0, 2]})
    each = [3, 4, 5, 9, 10, 11]
    rows = [12 * k + i for k in range(3) for i in each]
    new = attention.state_dict()
    assert torch.equal(new["qkv.weight"], old["qkv.weight"][rows])
    assert torch.equal(new["qkv.bias"], old["qkv.bias"][rows])
    assert torch.equal(new["proj.weight"], old["proj.weight"][:, each])
    assert attention.num_heads == 2 and attention.head_dim == 3


def test_a_parameter_that_stands_alone_loses_the_channels_of_its_layer() -> None:
    network = Network(Heads(), 12, bottleneck=5, classes=3)
    old = network.backbone.get_parameter("position").clone()
    Dependencies(network, images(), kept_layers(network)).remove({"backbone.embed": [0, 7]})
    kept = [i for i in range(12) if i not in (0, 7)]
    assert torch.equal(network.backbone.get_parameter("position"), old[..., kept])


def test_a_single_head_is_reported_as_left_whole() -> None:
    network = Network(Heads(heads=1), 12, bottleneck=5, classes=3)
    dependencies = Dependencies(network, images(), kept_layers(network))
    assert set(dependencies.whole) == {"backbone.attention.qkv"}


class Joined(nn.Module):
    """Two convolutions side by side, with nothing between them and what reads them."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 5, 3), last

    def forward(self, images: Tensor) -> Tensor:
        joined = self.last(torch.cat([self.left(images), self.right(images)], 1))
        features: Tensor = joined.mean((2, 3))
        return features


def test_both_branches_of_a_bare_concatenation_are_groups() -> None:
    groups = groups_of(Network(Joined(nn.Conv2d(8, 6, 1)), 6, bottleneck=5, classes=3))
    assert {name: g.width for name, g in groups.items()} == {"left": 3, "right": 5, "last": 6}


def test_a_layer_that_shares_a_block_of_channels_stays_whole_and_says_so() -> None:
    network = Network(Joined(nn.GroupNorm(2, 8)), 8, bottleneck=5, classes=3)
    dependencies = Dependencies(network, images(), kept_layers(network))
    reason = "it shares a group of channels with another layer"
    assert dependencies.whole == dict.fromkeys(("backbone.left", "backbone.right"), reason)
    assert not dependencies.groups


def test_the_other_channels_of_a_layer_that_shares_a_block_are_a_group_of_their_own() -> None:
    # Blocks of two: (left 0, 1), (left 2, right 0), (right 1, 2), (right 3, 4).
    network = Network(Joined(nn.Conv2d(8, 12, 1, groups=4)), 12, bottleneck=5, classes=3)
    groups = groups_of(network)
    assert {name: group.width for name, group in groups.items()} == {"left": 2, "right": 2}
    assert pairs(groups["left"], "right", True) == {(1, 0)}
    assert {position for _, position in pairs(groups["right"], "right", True)} == {1, 2, 3, 4}


def test_channels_of_a_transposed_convolution_stay_and_say_so() -> None:
    network = sequential(nn.Conv2d(3, 6, 3), nn.ConvTranspose2d(6, 4, 3), width=4)
    dependencies = Dependencies(network, images(), kept_layers(network))
    assert set(dependencies.whole) == {"backbone.0", "backbone.1"}
    assert all("transposed" in reason for reason in dependencies.whole.values())


class Reshaped(nn.Module):
    """A map that becomes a sequence of tokens and a map again, thirty times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.conv(images)
        for _ in range(30):
            maps = maps.flatten(2).relu().reshape(maps.shape).relu()
        return maps.mean((2, 3))


def test_each_of_many_reshapes_is_asked_once_for_its_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def ask(*question: Any) -> Any:
        asked.append(question)
        assert len(asked) <= 30
        return infer_in_channels_recursively(*question)

    monkeypatch.setattr("itmc.pruning.tracing.infer_in_channels_recursively", ask)
    assert set(groups_of(Network(Reshaped(), 6, bottleneck=5, classes=3))) == {"conv"}
    assert asked


def test_layer_norm_keeps_the_order_of_its_channels() -> None:
    # Sets of Python put 9 before 4, and torch-pruning (1.6) takes their order.
    norm = LayerNorm2d(10)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
    network = sequential(nn.Conv2d(3, 10, 3), norm, width=10)
    Dependencies(network, images(), kept_layers(network)).remove({"backbone.0": [0, 2, 3, 5, 6, 8]})
    kept = [1, 4, 7, 9]
    assert torch.equal(norm.weight, weight[kept]) and torch.equal(norm.bias, bias[kept])
    assert norm.normalized_shape == (4,)


@pytest.mark.parametrize("training", [True, False])
def test_tracing_changes_neither_mode_nor_weights(training: bool) -> None:
    network = small("residual").train(training)
    network.backbone.get_submodule("norm1").train(not training)  # such as a frozen BatchNorm
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    groups_of(network)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_removal_takes_the_channel_out_of_every_coupled_layer() -> None:
    network = small("residual")
    backbone = network.backbone
    old = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    Dependencies(network, images(), kept_layers(network)).remove({"backbone.stem": [1, 5]})
    kept = [0, 2, 3, 4, 6, 7]
    new = backbone.state_dict()
    assert torch.equal(new["stem.weight"], old["stem.weight"][kept])
    assert torch.equal(new["conv1.weight"], old["conv1.weight"][:, kept])
    assert torch.equal(new["conv2.weight"], old["conv2.weight"][kept])
    for norm in ("norm0", "norm2"):
        for part in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(new[f"{norm}.{part}"], old[f"{norm}.{part}"][kept])
    assert torch.equal(new["norm1.weight"], old["norm1.weight"])
    assert network.bottleneck[0].weight.shape == (7, 6)
