"""Networks and groups made by hand, so that importance is tested apart from tracing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from itmc.networks.build import Network
from itmc.pruning.groups import Dependencies, Group, Member
from itmc.pruning.shrink import kept_layers
from tests.itmc.helpers import images


def like(network: Network, count: int = 1, seed: int = 0) -> Tensor:
    """Random images in the precision of ``network``."""
    return images(count, seed=seed).to(network.head.weight.dtype)


def groups_of(network: Network) -> tuple[Group, ...]:
    """As they are traced."""
    return Dependencies(network, like(network), kept_layers(network)).groups


def group_with(groups: Iterable[Group], layer: str) -> Group:
    """The group that outputs of ``layer`` of the backbone belong to, whatever it is called."""
    name = f"backbone.{layer}"
    (found,) = (g for g in groups if any(m.layer == name and m.is_output for m in g.members))
    return found


def member(layer: str, roots: Iterable[int], is_output: bool = True, judged: bool = True) -> Member:
    """All positions of ``layer`` in order, the i-th going with unit ``roots[i]``."""
    units = torch.tensor(list(roots))
    return Member(layer, is_output, torch.arange(len(units)), units, judged)


def group(width: int, *members: Member, unit: int = 1) -> Group:
    """``width`` units of the first of ``members``."""
    return Group(members[0].layer, width, members, unit)


def backbone(*layers: nn.Module, features: int, seed: int = 0) -> Network:
    """Layers in a row, whose outputs are pooled to ``features``; in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = Network(body, features, bottleneck=7, classes=4).double()
        for parameter in network.parameters():
            nn.init.uniform_(parameter, -1, 1)
    return network
