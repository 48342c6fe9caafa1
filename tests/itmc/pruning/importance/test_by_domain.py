"""Importance by domain against activations times gradients, summed by hand for each."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from itmc.networks.build import Network
from itmc.pruning.importance import Scores, Taylor, TaylorMin, TaylorSource, TaylorTarget
from itmc.pruning.importance.by_domain import ByDomain
from tests.itmc.helpers import GATES, KINDS, small
from tests.itmc.pruning.importance.nets import backbone, group, group_with, groups_of, member
from tests.itmc.pruning.importance.steps import EACH, by_hand, close, loss_of, passed, watched


def minimum(totals: Tensor) -> Tensor:
    """The score from totals ``(2, width)``: normalised a domain, the lesser, normalised."""
    source, target = totals / totals.square().sum(1, keepdim=True).sqrt()
    least = torch.stack([min(pair) for pair in zip(source, target, strict=True)])
    return least / least.square().sum().sqrt()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_activation_times_gradient_of_each_domain(kind: str, split: bool) -> None:
    network = small(kind).double()
    groups = groups_of(network)
    criterion = watched(copy.deepcopy(network), groups, [1], split)
    scores = criterion.scores(network, groups)
    for root, layers in GATES[kind].items():
        name = group_with(groups, root).name
        expected = by_hand(network, [f"backbone.{layer}" for layer in layers], 1, split).abs()
        assert not torch.allclose(expected[0], expected[1], rtol=0.1)
        assert close(criterion.totals[name], expected)
        assert close(scores[name], minimum(expected))


@pytest.mark.parametrize(("criterion", "domain"), [(TaylorSource, 0), (TaylorTarget, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_one_domain_alone_counts(kind: str, criterion: type[ByDomain], domain: int) -> None:
    network = small(kind).double()
    groups = groups_of(network)
    made = watched(copy.deepcopy(network), groups, [1], criterion=criterion())
    scores = made.scores(network, groups)
    for root, layers in GATES[kind].items():
        gates = by_hand(network, [f"backbone.{layer}" for layer in layers], 1).abs()[domain]
        found = scores[group_with(groups, root).name]
        assert close(found, gates / gates.square().sum().sqrt())


@pytest.mark.parametrize("kind", KINDS)
def test_both_domains_together_are_taylor(kind: str) -> None:
    network = small(kind).double()
    groups = groups_of(network)
    plain = Taylor()
    loss_of(*passed(network, 1)).backward()
    plain.observe(network, groups)
    for root, layers in GATES[kind].items():
        gate = by_hand(network, [f"backbone.{layer}" for layer in layers], 1).sum(0).abs()
        assert close(plain.totals[group_with(groups, root).name], gate)


class Residual(nn.Module):
    """A block whose sum and activations work in place, as torchvision's do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv, self.norm1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.act = nn.Hardswish(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        stem = self.act(self.norm0(self.stem(inputs)))
        out = self.norm1(self.conv(stem))
        out += stem
        pooled: Tensor = self.act(out).mean((2, 3))
        return pooled


def test_what_works_in_place_does_not_change_the_activation() -> None:
    network = Network(Residual(), 6, bottleneck=7, classes=4).double()
    made = group(6, member("backbone.norm0", range(6)), member("backbone.norm1", range(6)))
    found = watched(copy.deepcopy(network), [made], [1]).totals[made.name]
    assert close(found, by_hand(network, ["backbone.norm0", "backbone.norm1"], 1).abs())


def test_a_unit_of_several_channels_is_summed() -> None:
    network = backbone(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), features=6)
    made = group(3, member("backbone.1", [0, 1, 2, 0, 1, 2]), unit=2)
    expected = by_hand(network, ["backbone.1"], 1)
    found = watched(copy.deepcopy(network), [made], [1]).totals[made.name]
    assert close(found, (expected[:, :3] + expected[:, 3:]).abs())


def test_a_norm_without_weights_judges_by_its_outputs() -> None:
    network = backbone(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), nn.SiLU(), features=6)
    made = group(6, member("backbone.0", range(6)), member("backbone.1", range(6), judged=False))
    found = watched(copy.deepcopy(network), [made], [1]).totals[made.name]
    expected = by_hand(network, ["backbone.1"], 1).abs()
    assert expected.max() > 1e-4
    assert close(found, expected)


class Windows(nn.Module):
    """A linear layer over tokens of windows, all windows of an image in a row (as in Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 4, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        windows = inputs.unfold(2, 6, 6).unfold(3, 6, 6)  # (N, 3, 2, 2, 6, 6)
        tokens = windows.permute(0, 2, 3, 4, 5, 1).reshape(len(inputs) * 4, 9, 12)
        out: Tensor = self.linear(tokens).relu()
        return out.reshape(len(inputs), -1, 5).mean(1)


def test_windows_of_an_image_belong_to_its_domain() -> None:
    network = Network(Windows(), 5, bottleneck=7, classes=4).double()
    made = group(5, member("backbone.linear", range(5)))
    found = watched(network, [made], [1]).totals[made.name]
    expected = torch.zeros(2, 5, dtype=torch.float64)
    kept: list[Tensor] = []
    linear = network.get_submodule("backbone.linear")
    linear.register_forward_hook(lambda *a: kept.append(a[2]) or a[2].retain_grad())
    loss_of(*passed(network, 1)).backward()
    products = kept[0].detach() * kept[0].grad
    for window in range(2 * EACH * 4):
        expected[window // (4 * EACH)] += products[window].sum(0)
    assert close(found, expected.abs())


class Twice(nn.Module):
    """One normalisation that a pass goes through twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3, affine=True)

    def forward(self, inputs: Tensor) -> Tensor:
        once = self.norm(self.conv(inputs)).tanh()
        return self.norm(self.conv(once)).tanh().square().mean((2, 3))


@pytest.mark.parametrize("split", [False, True])
def test_a_layer_that_is_used_twice_counts_twice(split: bool) -> None:
    network = Network(Twice(), 3, bottleneck=7, classes=4).double()
    made = group(3, member("backbone.norm", range(3)))
    found = watched(network, [made], [1], split).totals[made.name]
    kept: list[Tensor] = []
    norm = network.get_submodule("backbone.norm")
    norm.register_forward_hook(lambda *a: kept.append(a[2]) or a[2].retain_grad())
    loss_of(*passed(network, 1, split)).backward()
    gates = [(z.detach() * z.grad).sum((2, 3)) for z in kept]  # by call: (images, channels)
    if split:
        gates = [torch.cat([gates[0], gates[2]]), torch.cat([gates[1], gates[3]])]
    both = gates[0] + gates[1]
    assert close(found, torch.stack([both[:EACH].sum(0), both[EACH:].sum(0)]).abs())


def scores_of(network: Network, seeds: Sequence[int]) -> Scores:
    groups = groups_of(network)
    return watched(copy.deepcopy(network), groups, seeds).scores(network, groups)


@settings(max_examples=5, deadline=None)
@given(st.permutations([1, 2, 3]))
def test_batches_count_alike_in_any_order(seeds: list[int]) -> None:
    network = small("plain").double()
    layers = {g.name: g.name.replace("conv", "norm") for g in groups_of(network)}
    for name, scores in scores_of(network, seeds).items():
        totals = [by_hand(network, [layers[name]], seed).abs() for seed in (1, 2, 3)]
        assert close(scores, minimum(torch.stack(totals).mean(0)))
        assert not close(scores, minimum(totals[-1]))  # the last batch alone does not rank


def test_half_precision_is_summed_in_full() -> None:
    network = small("plain")
    groups = groups_of(network)
    criterion = TaylorMin()
    with (
        criterion.watch(network, groups, EACH),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        loss = loss_of(*passed(network, 1)).float()
    loss.backward()
    criterion.observe(network, groups)
    expected = watched(small("plain"), groups, [1])
    for g in groups:
        found = criterion.totals[g.name]
        assert found.dtype == torch.float32
        largest = expected.totals[g.name].max()
        assert (found - expected.totals[g.name]).abs().max() < 0.1 * largest
