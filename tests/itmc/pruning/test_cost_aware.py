"""What units save, against surgery and against a clock that is made up, and scores per saving."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.networks.build import Network
from itmc.pruning import cost_aware
from itmc.pruning.cost_aware import (
    macs_saved,
    median_microseconds,
    microseconds_saved,
    per_saving,
    savings,
)
from itmc.pruning.groups import Dependencies, Group
from itmc.pruning.selection import Limits
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import prune_to
from tests.itmc.helpers import KINDS, images, small
from tests.itmc.pruning.importance.nets import backbone, group, group_with, member


def traced(network: Network) -> Dependencies:
    return Dependencies(network, images(), kept_layers(network))


@pytest.mark.parametrize("kind", KINDS)
def test_macs_saved_are_those_that_surgery_saves(kind: str) -> None:
    network = small(kind)
    groups = traced(network).groups
    saved = macs_saved(network, images(), groups)
    assert saved.keys() == {g.name for g in groups}
    for g in groups:
        assert saved[g.name].shape == (g.width,)
        for unit in (0, g.width - 1):
            pruned = copy.deepcopy(network)
            traced(pruned).remove({g.name: [unit]})
            difference = count_macs(network, images()) - count_macs(pruned, images())
            assert float(saved[g.name][unit]) == pytest.approx(difference, rel=1e-9)


def test_a_unit_twice_as_dear_gets_half_the_score() -> None:
    scores = {"a": torch.tensor([0.5, 0.5]), "b": torch.tensor([0.5])}
    found = per_saving(scores, {"a": torch.tensor([30.0, 60.0]), "b": torch.tensor(60.0)})
    assert found["a"][0] == 2 * found["a"][1] == 2 * found["b"][0]
    assert found["a"].tolist() == pytest.approx([0.5 * 50 / 30, 0.5 * 50 / 60])
    assert scores["a"].tolist() == [0.5, 0.5]


def test_savings_that_are_equal_change_nothing() -> None:
    scores = {"a": torch.tensor([0.1, 0.7]), "b": torch.tensor([0.3, 0.2, 0.0])}
    found = per_saving(scores, {"a": torch.tensor(7.0), "b": torch.full((3,), 7.0)})
    assert {n: s.tolist() for n, s in found.items()} == {n: s.tolist() for n, s in scores.items()}
    assert found["a"].dtype == torch.float32


@pytest.mark.parametrize("nothing", [0.0, -3.0])
def test_what_saves_nothing_goes_last(nothing: float) -> None:
    scores = {"a": torch.tensor([0.01, 0.02]), "b": torch.tensor([0.9, 1.0])}
    found = per_saving(scores, {"a": torch.tensor(nothing), "b": torch.tensor(5.0)})
    assert 0 < float(found["b"].max()) < float(found["a"].min()) < math.inf


@pytest.mark.parametrize("nothing", [0.0, -3.0])
def test_where_nothing_saves_anything_scores_stay(nothing: float) -> None:
    scores = {"a": torch.tensor([0.1, 0.2])}
    assert torch.equal(per_saving(scores, {"a": torch.tensor(nothing)})["a"], scores["a"])


units = st.lists(st.tuples(st.floats(0, 1), st.floats(0.5, 50)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(units, min_size=1, max_size=4), st.floats(0.1, 1e6))
def test_the_ranking_is_that_of_the_quotients(
    layers: list[list[tuple[float, float]]], unit_of_cost: float
) -> None:
    def columns(index: int) -> dict[str, Tensor]:
        return {
            str(i): torch.tensor([u[index] for u in layer], dtype=torch.float64)
            for i, layer in enumerate(layers)
        }

    found = per_saving(columns(0), {n: unit_of_cost * v for n, v in columns(1).items()})
    flat = torch.cat(list(found.values()))
    quotients = torch.tensor([score / cost for layer in layers for score, cost in layer])
    for i, value in enumerate(flat.tolist()):
        assert value == pytest.approx(
            float(quotients[i]) * sum(c for la in layers for _, c in la) / len(flat), rel=1e-5
        )


def test_the_dearer_of_two_layers_goes_first() -> None:
    network = small("plain")  # its first convolution works at full size
    dependencies = traced(network)
    saved = macs_saved(network, images(), dependencies.groups)
    dear = max(saved, key=lambda name: float(saved[name].mean()))
    scores = {g.name: torch.linspace(0.3, 0.31, g.width) for g in dependencies.groups}
    total = count_macs(network, images())
    target = total - 3 * float(saved[dear][0])
    removed = prune_to(
        network, dependencies, per_saving(scores, saved), images(), target, total, Limits()
    )
    assert removed == {dear: [0, 1, 2]}


def cost(layer: nn.Module, inputs: Tensor) -> float:
    """A clock that counts a microsecond a multiplication; the layer must work on its inputs."""
    with torch.no_grad():
        outputs = layer(inputs)
    return outputs.numel() * layer.weight[0].numel()


@pytest.mark.parametrize("kind", KINDS)
def test_microseconds_saved_are_the_difference_to_a_narrower_layer(kind: str) -> None:
    """With a clock that counts MACs, they are the MACs saved: layers are linear in one side."""
    network = small(kind)
    groups = traced(network).groups
    expected = macs_saved(network, images(), groups)
    found = microseconds_saved(network, images(), groups, timer=cost)
    for g in groups:
        assert found[g.name].shape == ()
        assert float(found[g.name]) == pytest.approx(float(expected[g.name].mean()), rel=1e-9)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3, groups=4, padding=1),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.ConvTranspose2d(8, 12, 3, stride=2),
        nn.Conv2d(8, 12, (1, 3), bias=False, dilation=2),
    ],
)
def test_layers_of_all_kinds_are_narrowed_as_surgery_does(layer: nn.Module) -> None:
    network = backbone(nn.Conv2d(3, 8, 3), layer, nn.ReLU(), nn.Conv2d(layer.out_channels, 5, 1),
                       features=5).float()  # fmt: skip
    width = layer.out_channels
    blocks = layer.groups if layer.groups > 1 else width
    units = [i * blocks // width for i in range(width)]
    members = [member("backbone.1", units), member("backbone.3", units, is_output=False)]
    if layer.groups > 1:  # each block of outputs takes the inputs that it alone reads with it
        members.append(member("backbone.0", [i * blocks // 8 for i in range(8)]))
    seen: list[tuple[int, int, int]] = []

    def clock(timed: nn.Module, inputs: Tensor) -> float:
        if isinstance(timed, type(layer)) and timed.kernel_size == layer.kernel_size:
            seen.append((timed.in_channels, timed.out_channels, timed.groups))
        return cost(timed, inputs)

    microseconds_saved(network, images(), (group(blocks, *members),), timer=clock)
    left = blocks - math.ceil(blocks / 4)
    if layer.groups > 1:
        narrow = 8 * left // blocks, width * left // blocks, left
    else:
        narrow = 8, left, 1
    assert (8, width, layer.groups) in seen and narrow in seen


def test_equal_layers_on_equal_shapes_are_timed_once() -> None:
    network = backbone(nn.Conv2d(3, 8, 3), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)),
                       features=8)  # fmt: skip
    made = [
        group(8, member(f"backbone.{i}", range(8)),
              member(f"backbone.{i + 1}", range(8), is_output=False))
        for i in (1, 2)
    ]  # fmt: skip
    timed: list[str] = []

    def clock(layer: nn.Module, inputs: Tensor) -> float:
        timed.append(f"{layer} {tuple(inputs.shape)}")
        return 1.0

    microseconds_saved(network.float(), images(), tuple(made), timer=clock)
    assert len(timed) == len(set(timed)) == 3  # whole, narrow at its outputs, at its inputs


@pytest.mark.parametrize(
    ("width", "unit", "round_to", "left"),
    [(16, 1, 1, 12), (16, 1, 6, 10), (5, 1, 1, 3), (3, 2, 8, 1)],
)
def test_a_quarter_or_a_step_is_taken_away(width: int, unit: int, round_to: int, left: int) -> None:
    """At least one unit stays; a step is a multiple of channels."""
    channels = width * unit
    network = backbone(nn.Conv2d(3, channels, 3), features=channels).float()
    made = group(width, member("backbone.0", [i // unit for i in range(channels)]), unit=unit)
    widths: list[int] = []

    def clock(layer: nn.Module, inputs: Tensor) -> float:
        widths.append(layer.out_channels)
        return 6.0 * layer.out_channels

    found = microseconds_saved(network, images(), (made,), round_to, clock)["backbone.0"]
    assert widths == [channels, left * unit]
    assert float(found) == pytest.approx(6 * unit)


def test_a_layer_that_is_used_twice_saves_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.second(self.second(self.first(inputs))).mean((2, 3))
            return out

    network = Network(Twice(), 4, bottleneck=7, classes=4)
    made = (group(4, member("backbone.second", range(4))),)
    found = microseconds_saved(network, images(), made, timer=cost)["backbone.second"]
    assert float(found) == pytest.approx(2 * 12 * 12 * 4)


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = small("residual")
    before = {n: t.clone() for n, t in network.state_dict().items()}
    random = torch.get_rng_state()
    savings("latency", network, images(), traced(network).groups)
    assert all(m.training for m in network.modules())
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_real_clock_tells_a_large_layer_from_a_small_one() -> None:
    inputs = torch.ones(1, 32, 32, 32)
    large, little = nn.Conv2d(32, 64, 3), nn.Conv2d(32, 1, 1)
    assert median_microseconds(large, inputs) > median_microseconds(little, inputs) > 0


def test_savings_are_of_the_kind_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("concat")
    groups: tuple[Group, ...] = traced(network).groups
    asked: list[int] = []

    def measured(*arguments: object) -> dict[str, Tensor]:
        asked.append(len(arguments))
        return {}

    monkeypatch.setattr(cost_aware, "microseconds_saved", measured)
    macs = savings("macs", network, images(), groups)
    assert float(macs[group_with(groups, "left").name][0]) > 0 and not asked
    assert savings("latency", network, images(), groups) == {} and asked
