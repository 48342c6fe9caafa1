"""One step on two domains, and what a criterion of both should find in it, in loops."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmc.networks.build import Network, Outputs
from itmc.pruning.groups import Group
from itmc.pruning.importance import TaylorMin
from itmc.pruning.importance.by_domain import ByDomain
from tests.itmc.pruning.importance.nets import like

EACH = 3
"""Images of each domain in a step."""


def batch(network: Network, seed: int) -> tuple[Tensor, Tensor]:
    """Source and target, which differ."""
    return like(network, EACH, seed), 0.5 * like(network, EACH, seed + 100) + 0.3


def passed(network: Network, seed: int, split: bool = False) -> tuple[Outputs, Outputs]:
    source, target = batch(network, seed)
    if split:
        return network(source), network(target)
    joint = network(torch.cat([source, target]))
    return Outputs(*(t[:EACH] for t in joint)), Outputs(*(t[EACH:] for t in joint))


def loss_of(source: Outputs, target: Outputs) -> Tensor:
    """On both domains, differently."""
    distance = (source.features.mean(0) - target.features.mean(0)).square().sum()
    cross_entropy = F.cross_entropy(source.logits, torch.tensor([0, 1, 2]))
    return cross_entropy + 3 * distance + target.logits.square().mean()


def watched(
    network: Network,
    groups: Sequence[Group],
    seeds: Sequence[int],
    split: bool = False,
    criterion: ByDomain | None = None,
) -> ByDomain:
    criterion = criterion or TaylorMin()
    for seed in seeds:
        network.zero_grad()
        with criterion.watch(network, tuple(groups), EACH):
            loss = loss_of(*passed(network, seed, split))
        loss.backward()
        criterion.observe(network, tuple(groups))
    return criterion


def by_hand(network: Network, layers: Sequence[str], seed: int, split: bool = False) -> Tensor:
    """sum z dL/dz of each domain and channel in loops, ``(2, channels)``."""
    network = copy.deepcopy(network)
    kept: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for layer in layers:

        def keep(_: nn.Module, __: object, out: Tensor, layer: str = layer) -> Tensor:
            out.retain_grad()
            kept[layer].append(out)
            return out * 1  # what works in place then leaves ``out`` alone

        network.get_submodule(layer).register_forward_hook(keep)
    loss_of(*passed(network, seed, split)).backward()
    total = torch.zeros(2, kept[layers[0]][0].shape[1], dtype=torch.float64)
    for layer in layers:
        products = torch.cat([z.detach() * z.grad for z in kept[layer] if z.grad is not None])
        assert len(products) == 2 * EACH
        for image, product in enumerate(products):
            for channel, values in enumerate(product):
                total[image // EACH, channel] += values.sum()
    return total


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found.double(), expected.double(), rtol=1e-4, atol=1e-7)
