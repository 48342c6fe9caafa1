"""Pruning of any network by one call, for those who use nothing else of the project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import shufflenet_v2_x0_5

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.pruning import prune


def own() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
        )  # fmt: skip


def images(count: int = 1) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def losses(network: nn.Module, count: int) -> Iterator[Tensor]:
    for _ in range(count):
        yield F.cross_entropy(network(images(5)), torch.arange(5))


def test_a_network_of_ones_own_meets_the_budget_and_keeps_its_classes() -> None:
    network = own()
    before = count_macs(network, images())
    made = prune(network, images(), 0.5)
    assert made.macs_before == before and made.macs_after == count_macs(network, images())
    assert made.compression == pytest.approx(0.5, abs=0.01) and made.whole == {}
    assert network(images(2)).shape == (2, 5)
    widths = network.get_submodule("0").out_channels, network.get_submodule("3").out_channels
    assert made.removed == {"0": 16 - widths[0], "3": 32 - widths[1]}


def test_a_librarys_model_needs_no_preparation() -> None:
    network = shufflenet_v2_x0_5()
    made = prune(network, torch.zeros(1, 3, 64, 64), 0.3)
    assert made.compression == pytest.approx(0.3, abs=0.01)
    assert network.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_taylor_takes_its_gradients_from_the_losses_and_leaves_none() -> None:
    by_loss, by_weight, network = own(), own(), own()
    prune(by_loss, images(), 0.5, "taylor", losses(by_loss, 3))
    assert all(parameter.grad is None for parameter in by_loss.parameters())
    prune(by_weight, images(), 0.5, "l1")
    kept = [n.get_submodule("0").weight.detach() for n in (by_loss, by_weight, network)]
    assert kept[0].shape != kept[1].shape or not torch.equal(kept[0], kept[1])
    rows = {tuple(row.flatten().tolist()) for row in kept[2]}
    assert all(tuple(row.flatten().tolist()) in rows for row in kept[0])


def test_widths_too_coarse_for_the_budget_are_told_with_what_became_of_it() -> None:
    network = own()
    with pytest.warns(UserWarning, match=r"compression 0\.300 was asked .* 16 channels is 0\.\d+"):
        made = prune(network, images(), 0.3, round_to=16)
    assert abs(made.compression - 0.3) > 0.01
    assert made.macs_after == count_macs(network, images())


def test_limits_are_kept() -> None:
    network = own()
    prune(network, images(), 0.5, keep=(network.get_submodule("3"),), round_to=4, min_width=8)
    first, second = network.get_submodule("0"), network.get_submodule("3")
    assert second.out_channels == 32 and first.out_channels == 8


def test_per_mac_prefers_what_is_dear() -> None:
    plain, per_mac = own(), own()
    prune(plain, images(), 0.5, "random")
    prune(per_mac, images(), 0.5, "random", cost_aware="macs")
    # A channel of the first layer takes 16 * 16 * (27 + 288) MACs along, one of the second half.
    widths = [n.get_submodule("0").out_channels for n in (plain, per_mac)]
    assert widths[1] < widths[0]


@pytest.mark.parametrize("compression", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_is_none_is_told(compression: float) -> None:
    with pytest.raises(UsageError, match="0 < compression < 1"):
        prune(own(), images(), compression)


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ("taylor", "needs losses"),
        ("taylor_min", "two domains"),
        ("importance", "unknown criterion"),
    ],
)
def test_a_criterion_that_cannot_be_had_is_told(criterion: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prune(own(), images(), 0.5, criterion)


def test_a_network_of_which_nothing_can_go_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Conv2d(1, 4, 3), nn.Flatten())
    with pytest.raises(UsageError, match="no channels of this network can be removed"):
        prune(network, images(), 0.5)


def test_a_budget_that_the_floors_forbid_is_told_with_what_is_possible() -> None:
    with pytest.raises(UsageError, match=r"compression 0\.900 cannot be reached: .* 0\.[0-6]"):
        prune(own(), images(), 0.9, min_share=0.7)
