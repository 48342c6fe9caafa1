"""Selection and removal of channels: the budget, the floors, and what must not change."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.networks.build import Network, NetworkConfig, build, example
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import create
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import Limits, MacModel, floors, prune_to, recalibrate, select
from itmc.training.config import TrainingConfig
from itmc.training.optim import Optimiser
from tests.itmc.helpers import GATES, KINDS, gated, images, small, torch_macs

Channels = dict[str, list[int]]


def traced(network: Network) -> Dependencies:
    return Dependencies(network, images(), kept_layers(network))


def widths(kind: str) -> dict[str, int]:
    backbone = small(kind).backbone
    return {group: len(backbone.get_submodule(group).weight) for group in GATES[kind]}


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


def pruned_backbone(
    backbone: str, size: int, compression: float, limits: Limits | None = None
) -> tuple[Network, float]:
    """A network pruned by magnitude, and the share of MACs removed by torch's counter."""
    config = NetworkConfig(backbone=backbone, bottleneck=32, classes=5, image_size=size)
    network, image = build(config), example(config)
    reference = torch_macs(network, image)
    dependencies = Dependencies(network, image, kept_layers(network))
    scores = create("magnitude").scores(network, dependencies.groups)
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


def test_convolutions_in_groups_keep_their_widths_and_the_budget_is_met() -> None:
    network, reached = pruned_backbone("regnet_x_400mf", 64, 0.4)
    assert reached == pytest.approx(0.4, abs=0.01)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            assert module.out_channels % module.groups == 0
            assert module.weight.shape[1] == module.in_channels // module.groups == 16


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


def test_what_was_removed_too_much_is_put_back() -> None:
    network, dependencies = PLAIN
    model = MacModel(network, images(), dependencies.groups)
    dear, cheap = sorted(
        ("backbone.conv1", "backbone.conv2"), key=lambda name: model.after(name, [0])
    )
    values = {dear: 0.9, cheap: 0.1}
    scores = {g.name: torch.full((g.width,), values[g.name]) for g in dependencies.groups}
    all_cheap = list(range(scores[cheap].numel() - 1))
    target = model.after(cheap, all_cheap) - 1  # so one of the dear ones has to go as well
    removed = select(dependencies.groups, scores, model, target, 0, Limits())
    assert removed[dear] == [0]
    assert len(removed[cheap]) < len(all_cheap)
    assert model.total <= target < model.after(cheap, [removed[cheap][-1]], restored=True)


def test_uniform_narrows_every_layer_by_the_same_factor() -> None:
    network, image = build(CONFIG), example(CONFIG)
    dependencies = Dependencies(network, image, kept_layers(network))
    before = {group.name: group.width for group in dependencies.groups}
    total = count_macs(network, image)
    scores = create("uniform").scores(network, dependencies.groups)
    prune_to(network, dependencies, scores, image, 0.3 * total, total, Limits())
    shares = [len(network.get_submodule(n).weight) / width for n, width in before.items()]
    assert max(shares) - min(shares) <= 1 / 16
    assert max(shares) < 0.7


CONFIG = NetworkConfig(backbone="digits_convnet", bottleneck=32, classes=10, image_size=32)


def trained(steps: int, weight_decay: float = 0.0) -> tuple[Network, Optimiser]:
    network = small("plain")
    config = TrainingConfig(lr=0.01, momentum=0.9, weight_decay=weight_decay)
    optimiser = Optimiser(network, None, config)
    for step in range(steps):
        inputs = images(6, seed=step)
        F.cross_entropy(network(inputs).logits, torch.tensor([0, 1, 2, 3, 0, 1])).backward()
        optimiser.step(0.0)
    return network, optimiser


def test_momentum_is_cut_as_the_weights_are() -> None:
    network, optimiser = trained(2, weight_decay=1e-3)
    old = {name: buffer.clone() for name, buffer in optimiser.state().items()}
    weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    one, two = [0, 2, 3, 7], [1, 4, 5, 6, 9]
    with optimiser.surgery():
        traced(network).remove(
            {
                "backbone.conv1": [i for i in range(8) if i not in one],
                "backbone.conv2": [i for i in range(12) if i not in two],
            }
        )
    for found, before in (
        (optimiser.state(), old),
        ({n: p.detach() for n, p in network.named_parameters()}, weights),
    ):
        expected = dict(before)
        expected["backbone.conv1.weight"] = before["backbone.conv1.weight"][one]
        expected["backbone.conv2.weight"] = before["backbone.conv2.weight"][two][:, one]
        for kept, norm in ((one, "backbone.norm1"), (two, "backbone.norm2")):
            for part in ("weight", "bias"):
                expected[f"{norm}.{part}"] = before[f"{norm}.{part}"][kept]
        expected["bottleneck.0.weight"] = before["bottleneck.0.weight"][:, two]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_step_after_surgery_goes_on_with_the_momentum() -> None:
    network, optimiser = trained(2)
    with optimiser.surgery():
        traced(network).remove({"backbone.conv1": [0, 3]})
    buffers = {name: buffer.clone() for name, buffer in optimiser.state().items()}
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(0.0)
    for name, parameter in network.named_parameters():
        rate = 0.01 if name.startswith("backbone.") else 0.1  # new layers: ten times
        moved = before[name] - rate * 0.9 * 0.9 * buffers[name]  # Nesterov, gradient zero
        assert torch.allclose(parameter, moved, rtol=1e-5, atol=1e-8)


def test_recalibration_averages_the_statistics_of_the_batches() -> None:
    network = small("plain")
    batches = [images(5, seed=1), 2 * images(5, seed=2), images(5, seed=3) - 1]
    with torch.no_grad():
        maps = [
            copy.deepcopy(network.backbone).conv1(b).transpose(0, 1).flatten(1) for b in batches
        ]
    recalibrate(network, batches)
    norm = network.backbone.get_submodule("norm1")
    mean = torch.stack([m.mean(1) for m in maps]).mean(0)
    variance = torch.stack([m.var(1) for m in maps]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(norm.running_var, variance, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_recalibration_restores_mode_and_momentum_and_leaves_weights_alone(training: bool) -> None:
    network = small("residual").train(training)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        norm.momentum = 0.1 + 0.1 * index
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    recalibrate(network, [images(4)])
    assert [norm.momentum for norm in norms] == [0.1 + 0.1 * i for i in range(len(norms))]
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[n], p) for n, p in network.named_parameters())
    assert all(parameter.grad is None for parameter in network.parameters())


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
