"""Networks drawn at random: less some channels, they compute what they did with them masked."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from torch import Tensor

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.networks.backbones import OWN
from itmc.networks.build import Network, NetworkConfig
from itmc.networks.layers import Gather
from itmc.networks.spec import load_network, save_network
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import create
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits, select
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import remove_checked
from tests.itmc.helpers import Units, gap, images, masked_by_hooks, torch_macs, uncovered
from tests.itmc.pruning.graphs import (
    BOTTLENECK,
    BRANCHING,
    CLASSES,
    ENDS,
    LEAVES,
    SIZE,
    Drawn,
    Program,
    Step,
    around,
    network_of,
    programs,
)


def traced(network: Network) -> Dependencies:
    return Dependencies(network, example_of(network), kept_layers(network))


def example_of(network: Network, count: int = 1) -> Tensor:
    return images(count, SIZE).to(network.head.weight.dtype)


def spared(dependencies: Dependencies, units: Units) -> Units:
    """``units``, but for those without which a layer would read or put out nothing."""
    left: Units = {}
    modules = dict(dependencies.network.named_modules())
    for group in dependencies.groups:
        gone = set(units[group.name])
        for member in group.members:
            layer = modules.get(member.layer)
            pairs = zip(member.positions.tolist(), member.roots.tolist(), strict=True)
            put_out = layer.index.tolist() if isinstance(layer, Gather) else None
            roots = {root for at, root in pairs if put_out is None or at in put_out}
            if roots and roots <= gone:
                gone.remove(min(roots))
        left[group.name] = sorted(gone)
    return left


def halves(dependencies: Dependencies) -> Units:
    """About half of the units of each group."""
    units = {group.name: list(range(group.width // 2)) for group in dependencies.groups}
    return spared(dependencies, units)


@st.composite
def removals(draw: st.DrawFn, dependencies: Dependencies) -> Units:
    units = {
        group.name: draw(st.sets(st.integers(0, group.width - 1), max_size=group.width - 1))
        for group in dependencies.groups
    }
    return spared(dependencies, {name: sorted(gone) for name, gone in units.items()})


def check_equality(network: Network, units: Units) -> float:
    """That ``network`` without ``units`` computes what it does with them masked, in float64.

    Returns the difference to the unpruned network.
    """
    whole = copy.deepcopy(network).double()
    pruned = copy.deepcopy(whole)
    dependencies, inputs = traced(pruned), example_of(whole, 3)
    masked = masked_by_hooks(whole, dependencies, units)
    dependencies.remove(units)
    assert gap(pruned, masked, inputs) <= 1e-9
    return gap(pruned, whole, inputs)


def check_shape(network: Network) -> None:
    """That no layer is empty, and that features and classes are all there."""
    assert all(parameter.numel() for parameter in network.parameters())
    for layer in network.modules():
        if isinstance(layer, Gather):
            assert len(layer.index) and layer.index.max() < layer.channels
    outputs = network(example_of(network, 2))
    assert outputs.features.shape == (2, BOTTLENECK) and outputs.logits.shape == (2, CLASSES)


def check_training(network: Network) -> None:
    network = copy.deepcopy(network).train()
    outputs = network(example_of(network, 4))
    (outputs.logits.square().sum() + outputs.features.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def check_round_trip(network: Network, program: Program) -> None:
    config = NetworkConfig(
        backbone="drawn", bottleneck=BOTTLENECK, classes=CLASSES, image_size=SIZE
    )
    network = network.to(memory_format=torch.channels_last)
    with (
        patch.dict(OWN, {"drawn": lambda: Drawn(*program)}),
        tempfile.TemporaryDirectory() as folder,
    ):
        save_network(network, config, Path(folder), "student")
        loaded, _ = load_network(Path(folder))
    assert gap(network, loaded, example_of(network, 2)) == 0


@settings(max_examples=60, deadline=None)
@given(programs, st.data())
def test_any_graph_is_pruned_as_if_masked(program: Program, data: st.DataObject) -> None:
    network = network_of(program)
    dependencies, inputs = traced(network), example_of(network)
    units = data.draw(removals(dependencies))
    assert bool(uncovered(network, dependencies)) is bool(dependencies.whole)
    check_equality(network, units)
    model = MacModel(network, inputs, dependencies.groups)
    assert model.total == count_macs(network, inputs) == torch_macs(network, inputs)
    for name, gone in units.items():
        model.remove(name, gone)
    dependencies.remove(units)
    found = count_macs(network, inputs)
    assert model.total == pytest.approx(found, rel=1e-9) and found == torch_macs(network, inputs)
    check_shape(network)
    check_training(network)
    check_round_trip(network, program)


@settings(max_examples=40, deadline=None)
@given(programs, st.integers(0, 99))
@example(("pool", (("split", (("conv", 4),)),)), 0)  # a convolution reads half of another's outputs
@example(("pool", (("split", (("conv", 4),)),)), 1)
@example(("pool", (("gather", 5), ("split", ()))), 0)
def test_no_selection_leaves_a_layer_without_channels(program: Program, seed: int) -> None:
    network = network_of(program)
    dependencies, inputs = traced(network), example_of(network)
    scores = create("random", seed).scores(network, dependencies.groups)
    model = MacModel(network, inputs, dependencies.groups)
    units = select(dependencies.groups, scores, model, 0, 0, Limits())
    remove_checked(dependencies, units, inputs)
    check_shape(network)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", [*LEAVES, *BRANCHING])
def test_each_kind_of_block_loses_channels_and_computes_something_else(kind: str, end: str) -> None:
    network = network_of((end, around(kind)))
    dependencies = traced(network)
    assert not dependencies.whole and not uncovered(network, dependencies)
    assert check_equality(network, halves(dependencies)) > 1e-2


@pytest.mark.parametrize("branching", BRANCHING)
@pytest.mark.parametrize("kind", sorted(set(LEAVES) - {"attention"}))
def test_each_kind_of_block_may_stand_before_and_in_a_branch(kind: str, branching: str) -> None:
    inner = (branching, ((kind, 3), ("conv", 2)), ((kind, 5),))
    network = network_of(("flatten", (("conv", 4), (kind, 3), inner)))
    dependencies = traced(network)
    assert bool(uncovered(network, dependencies)) is bool(dependencies.whole)
    assert check_equality(network, halves(dependencies)) > 1e-3


@pytest.mark.parametrize("other", [(), (("bare", 2),)])
def test_what_tracing_misreads_is_refused(other: tuple[Step, ...]) -> None:
    network = network_of(("pool", (("concat", (("attention", 0),), other),)))
    dependencies = traced(network)
    units = halves(dependencies)
    with pytest.raises(UsageError, match=r"^this backbone .*; choose another --backbone"):
        remove_checked(dependencies, units, example_of(network))


@pytest.mark.parametrize("kind", [*LEAVES, *BRANCHING])
def test_the_reference_notices_another_channel(kind: str) -> None:
    network = network_of(("pool", around(kind)))
    dependencies = traced(network)
    for group in dependencies.groups:
        masked = masked_by_hooks(network, dependencies, {group.name: [0]})
        pruned = copy.deepcopy(network)
        traced(pruned).remove({group.name: [1]})
        assert gap(pruned, masked, example_of(network, 3)) > 1e-4
