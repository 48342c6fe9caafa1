"""The coupled groups that tracing finds, against those known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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


def test_a_convolution_with_one_input_channel_is_not_taken_for_depthwise() -> None:
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3), nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(1)
    )
    network = Network(nn.Sequential(backbone, nn.Flatten()), 6, bottleneck=5, classes=3)
    widths = {name: group.width for name, group in groups_of(network).items()}
    assert widths == {"0.0": 4, "0.1": 1, "0.2": 6}


def test_channels_of_a_convolution_in_groups_are_left_alone() -> None:
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    assert set(groups_of(Network(backbone, 6, bottleneck=5, classes=3))) == {"2"}


@pytest.mark.parametrize("training", [True, False])
def test_tracing_changes_neither_mode_nor_weights(training: bool) -> None:
    network = small("residual").train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    groups_of(network)
    assert all(module.training is training for module in network.modules())
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
