"""Selection and removal of channels: the budget, the floors, and what must not change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.networks.build import Network, NetworkConfig, build, example
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import create
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits, floors, select
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import prune_to
from tests.itmc.helpers import GATES, KINDS, gated, images, small, torch_macs

Channels = dict[str, list[int]]


def traced(network: Network) -> Dependencies:
    return Dependencies(network, images(), kept_layers(network))


def widths(kind: str) -> dict[str, int]:
    backbone = small(kind).backbone
    return {g: len(backbone.get_parameter(f"{g}.weight")) for g in GATES[kind]}


@st.composite
def removals(draw: st.DrawFn, kind: str) -> Channels:
    """Some channels of each group, never all of them."""
    return {
        group: sorted(draw(st.sets(st.integers(0, width - 1), max_size=width - 1)))
        for group, width in widths(kind).items()
    }


def named(channels: Channels) -> Channels:
    return {f"backbone.{group}": indices for group, indices in channels.items() if indices}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_pruned_network_computes_what_the_masked_one_does(kind: str, data: st.DataObject) -> None:
    channels = data.draw(removals(kind))
    masked, pruned, inputs = small(kind).eval(), small(kind).eval(), images(3, seed=1)
    masks = {g: torch.ones(w).index_fill_(0, torch.tensor(channels[g], dtype=torch.int64), 0)
             for g, w in widths(kind).items()}  # fmt: skip
    gated(masked, kind, masks)
    traced(pruned).remove(named(channels))
    with torch.no_grad():
        expected, found = masked(inputs), pruned(inputs)
    assert (expected.features - found.features).abs().max() <= 1e-4
    assert (expected.logits - found.logits).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_the_model_of_macs_agrees_with_counters(kind: str, data: st.DataObject) -> None:
    channels = data.draw(removals(kind))
    network = small(kind)
    dependencies = traced(network)
    model = MacModel(network, images(), dependencies.groups)
    assert model.total == count_macs(network, images())
    for name, indices in named(channels).items():
        foreseen = model.after(name, indices)
        model.remove(name, indices)
        assert model.total == foreseen
    dependencies.remove(named(channels))
    assert model.total == pytest.approx(count_macs(network, images()), rel=1e-9)
    assert model.total == pytest.approx(torch_macs(network, images()), rel=1e-9)


def network_config(backbone: str, size: int) -> NetworkConfig:
    return NetworkConfig(backbone=backbone, bottleneck=32, classes=5, image_size=size)


def pruned_backbone(
    backbone: str,
    size: int,
    compression: float,
    limits: Limits | None = None,
    criterion: str = "l2",
) -> tuple[Network, float]:
    """A pruned network, and the share of MACs removed by torch's counter."""
    config = network_config(backbone, size)
    network, image = build(config), example(config)
    reference = torch_macs(network, image)
    dependencies = Dependencies(network, image, kept_layers(network))
    scores = create(criterion).scores(network, dependencies.groups)
    target = (1 - compression) * reference
    limits = limits or Limits(floors(dependencies.groups, 0.05, 2))
    prune_to(network, dependencies, scores, image, target, reference, limits)
    assert count_macs(network, image) == torch_macs(network, image)
    return network, 1 - torch_macs(network, image) / reference


@pytest.mark.parametrize("compression", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("backbone", "size"), [("digits_convnet", 32), ("mobilenet_v2", 64), ("resnet18", 64)]
)
def test_the_budget_is_met_within_one_point(backbone: str, size: int, compression: float) -> None:
    network, reached = pruned_backbone(backbone, size, compression)
    assert reached == pytest.approx(compression, abs=0.01)
    outputs = network(torch.randn(2, 3, size, size))
    assert outputs.features.shape == (2, 32) and outputs.logits.shape == (2, 5)
    assert network.bottleneck[0].out_features == 32 and network.head.weight.shape == (5, 32)
    assert all(parameter.numel() > 0 for parameter in network.parameters())


def test_convolutions_in_groups_keep_the_width_of_their_groups_and_lose_some() -> None:
    network, reached = pruned_backbone("regnet_x_400mf", 64, 0.4, criterion="uniform")
    assert reached == pytest.approx(0.4, abs=0.01)
    unpruned = dict(build(network_config("regnet_x_400mf", 64)).named_modules())
    lost = 0
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            before = unpruned[name]
            assert isinstance(before, nn.Conv2d)
            assert module.weight.shape[1] == module.in_channels // module.groups == 16
            assert module.out_channels == 16 * module.groups
            lost += before.groups - module.groups
    assert lost > 10


@pytest.mark.parametrize(
    ("backbone", "size", "round_to"),
    [("digits_convnet", 32, 2), ("resnet18", 64, 16), ("mobilenet_v2", 64, 8)],
)
def test_widths_become_multiples(backbone: str, size: int, round_to: int) -> None:
    network, reached = pruned_backbone(backbone, size, 0.5, Limits(round_to=round_to))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(c.out_channels % round_to == 0 for c in convolutions)
    assert reached == pytest.approx(0.5, abs=0.01)


def test_odd_widths_are_brought_to_a_multiple_first() -> None:
    network = small("plain")  # 8 and 12 channels
    dependencies = traced(network)
    scores = {g.name: torch.arange(float(g.width)) for g in dependencies.groups}
    total = count_macs(network, images())
    model = MacModel(network, images(), dependencies.groups)
    removed = select(dependencies.groups, scores, model, 0.01 * total, 0, Limits(round_to=5))
    left = {g.name: g.width - len(removed[g.name]) for g in dependencies.groups}
    assert left == {"backbone.conv1": 5, "backbone.conv2": 5}


def test_floors_that_forbid_the_target_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"compression 0.900 cannot be reached.*floors"):
        pruned_backbone("digits_convnet", 32, 0.9, Limits(round_to=32))


def test_widths_too_coarse_for_the_target_are_a_usage_error_that_says_what_they_give() -> None:
    def pruned(is_final: bool) -> float:
        network = small("plain")
        dependencies, reference = traced(network), count_macs(network, images())
        scores = create("uniform").scores(network, dependencies.groups)
        prune_to(
            network, dependencies, scores, images(), 0.9 * reference, reference,
            Limits(round_to=4), is_final,
        )  # fmt: skip
        return 1 - torch_macs(network, images()) / reference

    reached = pruned(is_final=False)  # an event before the last may go too far
    assert reached > 0.11
    message = rf"compression 0\.100 cannot be met: in steps of 4 channels it becomes {reached:.3f}"
    with pytest.raises(UsageError, match=message):
        pruned(is_final=True)


def test_floors_are_shares_of_the_widths_and_at_least_so_many() -> None:
    groups = traced(small("plain")).groups
    assert floors(groups, 0.5, 2) == {"backbone.conv1": 4, "backbone.conv2": 6}
    assert floors(groups, 0.05, 3) == {"backbone.conv1": 3, "backbone.conv2": 3}
    wide = Limits({"backbone.conv1": 100}, round_to=2)
    assert {g.name: wide.floor(g) for g in groups} == {"backbone.conv1": 8, "backbone.conv2": 2}


scores_of_plain = st.fixed_dictionaries(
    {
        f"backbone.{name}": st.lists(st.floats(0, 1), min_size=width, max_size=width).map(
            torch.tensor
        )
        for name, width in widths("plain").items()
    }
)


@settings(max_examples=60, deadline=None)
@given(scores_of_plain, st.floats(0, 0.999), st.integers(1, 4), st.sampled_from([1, 2, 4]))
def test_any_selection_keeps_the_best_and_respects_the_floors(
    scores: dict[str, Tensor], compression: float, floor: int, round_to: int
) -> None:
    network, dependencies = PLAIN
    model = MacModel(network, images(), dependencies.groups)
    target, slack = (1 - compression) * model.total, 0.005 * model.total
    limits = Limits({g.name: floor for g in dependencies.groups}, round_to)
    removed = select(dependencies.groups, scores, model, target, slack, limits)
    for group in dependencies.groups:
        gone = set(removed.get(group.name, []))
        assert group.width - len(gone) >= max(floor, round_to)
        values = scores[group.name].tolist()
        kept = [values[i] for i in range(group.width) if i not in gone]
        assert not gone or max(values[i] for i in gone) <= min(kept)


PLAIN = (small("plain"), traced(small("plain")))


def test_layers_are_ranked_together() -> None:
    network, dependencies = PLAIN
    for first, second in (("conv1", "conv2"), ("conv2", "conv1")):
        model = MacModel(network, images(), dependencies.groups)
        values = {f"backbone.{first}": 0.1, f"backbone.{second}": 0.9}
        scores = {g.name: torch.full((g.width,), values[g.name]) for g in dependencies.groups}
        target = model.after(f"backbone.{first}", [0, 1, 2])
        removed = select(dependencies.groups, scores, model, target, 0, Limits())
        assert removed == {f"backbone.{first}": [0, 1, 2]}


def test_a_unit_too_dear_is_passed_over_for_a_cheaper_one() -> None:
    network, dependencies = PLAIN
    model = MacModel(network, images(), dependencies.groups)
    dear, cheap = sorted(
        ("backbone.conv1", "backbone.conv2"), key=lambda name: model.after(name, [0])
    )
    values = {dear: 0.1, cheap: 0.9}
    scores = {g.name: torch.full((g.width,), values[g.name]) for g in dependencies.groups}
    removed = select(dependencies.groups, scores, model, model.after(cheap, [0]), 0, Limits())
    assert removed == {cheap: [0]}


@settings(max_examples=40, deadline=None)
@given(scores_of_plain, st.floats(0, 0.999))
def test_no_exchange_of_two_channels_leads_nearer_to_the_target(
    scores: dict[str, Tensor], compression: float
) -> None:
    network, dependencies = PLAIN
    model = MacModel(network, images(), dependencies.groups)
    target, slack = (1 - compression) * model.total, 0.005 * model.total
    removed = select(dependencies.groups, scores, model, target, slack, Limits())
    left = {g.name: g.width - len(removed.get(g.name, [])) for g in dependencies.groups}

    def macs(widths: dict[str, int]) -> float:
        whole = MacModel(network, images(), dependencies.groups)
        for group in dependencies.groups:
            whole.remove(group.name, list(range(group.width - widths[group.name])))
        return whole.total

    reached = abs(macs(left) - target)
    assert model.total == pytest.approx(macs(left))
    first, second = left
    for one, other in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, 1), (1, -1)):
        near = {first: left[first] + one, second: left[second] + other}
        if all(1 <= near[g.name] <= g.width for g in dependencies.groups):
            assert reached <= slack or reached <= abs(macs(near) - target) + 1e-6


def test_uniform_narrows_every_layer_by_the_same_factor() -> None:
    network, image = build(CONFIG), example(CONFIG)
    dependencies = Dependencies(network, image, kept_layers(network))
    before = {group.name: group.width for group in dependencies.groups}
    total = count_macs(network, image)
    scores = create("uniform").scores(network, dependencies.groups)
    prune_to(network, dependencies, scores, image, 0.3 * total, total, Limits())
    shares = [len(network.get_parameter(f"{n}.weight")) / width for n, width in before.items()]
    assert max(shares) - min(shares) <= 1 / 16
    assert max(shares) < 0.7


CONFIG = NetworkConfig(backbone="digits_convnet", bottleneck=32, classes=10, image_size=32)


@pytest.mark.parametrize("compression", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_events_in_turn_end_within_a_point_of_the_budget(seed: int, compression: float) -> None:
    network, image = build(CONFIG), example(CONFIG)
    unpruned = count_macs(network, image)
    dependencies = Dependencies(network, image, kept_layers(network))
    limits = Limits(floors(dependencies.groups, 0.2, 2))
    for event, part in enumerate((0.58, 0.84, 0.97, 1)):
        target = (1 - part * compression) * unpruned
        if count_macs(network, image) > target:
            dependencies = Dependencies(network, image, kept_layers(network))
            scores = create("random", 10 * seed + event).scores(network, dependencies.groups)
            prune_to(
                network, dependencies, scores, image, target, unpruned, limits,
                is_final=part == 1,
            )  # fmt: skip
    reached = 1 - count_macs(network, image) / unpruned
    assert reached == pytest.approx(compression, abs=0.01)
