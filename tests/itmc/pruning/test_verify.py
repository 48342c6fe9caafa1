"""Each surgery is checked: a wrong one is refused, and the check leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from itmc.errors import UsageError
from itmc.networks.build import Network
from itmc.networks.layers import Gather
from itmc.pruning import removal
from itmc.pruning.groups import Dependencies, Member
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import remove_checked
from itmc.pruning.verify import difference, masked
from tests.itmc.helpers import KINDS, gap, images, masked_by_hooks, small
from tests.itmc.pruning.graphs import BRANCHING, LEAVES, around, network_of

BLOCKS = [*LEAVES, *BRANCHING]


def traced(network: Network) -> Dependencies:
    example = images().to(network.head.weight.dtype)
    return Dependencies(network, example, kept_layers(network))


def first_of_each(dependencies: Dependencies) -> dict[str, list[int]]:
    return {group.name: [0] for group in dependencies.groups}


def falsify(
    dependencies: Dependencies, layer: str, is_output: bool, change: Callable[[Member], Member]
) -> None:
    """Change what is known of a side of ``layer`` in every group."""
    changed = 0
    for group in dependencies.groups:
        members = [
            change(m) if (m.layer, m.is_output) == (layer, is_output) else m for m in group.members
        ]
        changed += any(new is not old for new, old in zip(members, group.members, strict=True))
        object.__setattr__(group, "members", tuple(members))
    assert changed


def shifted(member: Member) -> Member:
    """Each unit goes with the place of its neighbour."""
    return replace(member, positions=member.positions.roll(1))


def forgotten(member: Member) -> Member:
    return replace(member, positions=member.positions[:0], roots=member.roots[:0])


@pytest.mark.parametrize("kind", [*KINDS, *BLOCKS])
def test_a_right_surgery_passes_and_differs_by_rounding_only(kind: str) -> None:
    network = small(kind) if kind in KINDS else network_of(("linear", around(kind)))
    whole = copy.deepcopy(network).eval()
    dependencies = traced(network)
    units = first_of_each(dependencies)
    reference = masked(whole, dependencies.positions(units), dependencies.parameters)
    remove_checked(dependencies, units, images())
    inputs = images(3, seed=1)
    assert difference(reference, network.eval(), inputs) <= 1e-5
    assert isinstance(reference, Network)
    assert gap(network, reference, inputs) <= 1e-5
    assert gap(whole, reference, inputs) > 1e-3


@pytest.mark.parametrize("kind", BLOCKS)
def test_masks_are_those_of_an_independent_reference(kind: str) -> None:
    network = network_of(("linear", around(kind))).double()
    dependencies, inputs = traced(network), images(3).double()
    units = {group.name: list(range(group.width // 2)) for group in dependencies.groups}
    found = masked(network, dependencies.positions(units), dependencies.parameters)
    assert isinstance(found, Network)
    assert gap(found, masked_by_hooks(network, dependencies, units), inputs) <= 1e-9
    assert gap(found, network, inputs) > 1e-2


@pytest.mark.parametrize(
    ("kind", "layer", "is_output"),
    [
        ("plain", "norm1", True),
        ("plain", "conv2", False),
        ("bare", "linear", False),
        ("residual", "conv1", False),
        ("residual", "norm2", True),
        ("depthwise", "depth", True),
        ("concat", "last", False),
    ],
)
def test_a_channel_taken_for_its_neighbour_is_refused(
    kind: str, layer: str, is_output: bool
) -> None:
    dependencies = traced(small(kind))
    falsify(dependencies, f"backbone.{layer}", is_output, shifted)
    with pytest.raises(UsageError, match="computes something else than with the same channels at"):
        remove_checked(dependencies, first_of_each(dependencies), images())


@pytest.mark.parametrize(
    ("kind", "layer"), [("plain", "conv2"), ("residual", "conv1"), ("depthwise", "project")]
)
def test_a_forgotten_reader_is_refused(kind: str, layer: str) -> None:
    dependencies = traced(small(kind))
    falsify(dependencies, f"backbone.{layer}", False, forgotten)
    with pytest.raises(UsageError, match=r"does not work with fewer channels \(.+\); choose"):
        remove_checked(dependencies, first_of_each(dependencies), images())


def test_heads_taken_for_their_neighbours_are_refused() -> None:
    network = network_of(("pool", around("attention")))
    dependencies = traced(network)
    (layer,) = (g.name for g in dependencies.groups if g.name.endswith("qkv"))
    falsify(dependencies, layer, True, lambda m: replace(m, positions=m.positions.roll(2)))
    with pytest.raises(UsageError, match="computes something else"):
        remove_checked(dependencies, {layer: [0]}, images())


def test_a_wrong_order_of_gathered_channels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = removal._cut_gather

    def wrong(layer: Gather, places: list[int]) -> None:
        cut(layer, places)
        layer.index = layer.index.flip(0)

    monkeypatch.setattr(removal, "_cut_gather", wrong)
    dependencies = traced(network_of(("pool", around("gather"))))
    with pytest.raises(UsageError, match="computes something else"):
        remove_checked(dependencies, first_of_each(dependencies), images())


def test_outputs_that_are_no_numbers_are_refused() -> None:
    network = small("plain")
    nn.init.constant_(network.head.weight, torch.nan)
    dependencies = traced(network)
    with pytest.raises(UsageError, match="difference nan"):
        remove_checked(dependencies, first_of_each(dependencies), images())


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_check_leaves_modes_and_random_numbers_alone(training: bool, right: bool) -> None:
    network = small("residual").train(training)
    network.backbone.get_submodule("norm1").train(not training)  # such as a frozen BatchNorm
    modes = [module.training for module in network.modules()]
    dependencies = traced(network)
    if not right:
        falsify(dependencies, "backbone.conv1", False, forgotten)
    state = torch.get_rng_state()
    try:
        remove_checked(dependencies, first_of_each(dependencies), images())
        assert right
    except UsageError:
        assert not right
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
