"""Bring a network to its budget in one go, before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.domains.batches import Batch
from itmc.networks.build import Network
from itmc.pruning import importance
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import CriterionName
from itmc.pruning.surgery import Limits, floors, prune_to, recalibrate
from itmc.seeding import seeded

if TYPE_CHECKING:
    from itmc.training.stage import Context


class PruningConfig(Frozen):
    """What every kind of pruning respects."""

    min_width: int = Field(2, ge=1)
    min_share: float = Field(0.05, ge=0, le=1)
    """No layer gets narrower than ``min_width`` channels, nor than this share of its own."""
    round_to: int = Field(1, ge=1)
    """Widths become multiples of this, which hardware likes."""


class Shrink(PruningConfig):
    """How a network is brought to ``compression`` at once."""

    compression: float = Field(ge=0, lt=1)
    criterion: CriterionName = "taylor"
    init: Literal["sliced", "scratch"] = "sliced"
    """Whether the channels that stay keep their weights, or start anew."""
    importance_batches: int = Field(20, ge=1)
    """Batches over which importance is accumulated and BatchNorm re-estimated."""


def shrink(
    network: Network,
    config: Shrink,
    context: Context,
    loss: Callable[[Network, Batch], Tensor],
) -> None:
    """Prune ``network`` in place to ``config``; ``loss`` is what Taylor importance derives from."""
    dependencies = Dependencies(network, context.example, kept_layers(network))
    criterion = importance.create(config.criterion, context.seed)
    if criterion.needs_gradients:
        network.train()
        for batch in context.batches.first(config.importance_batches):
            network.zero_grad()
            torch.autograd.backward(loss(network, batch))
            criterion.observe(network, dependencies.groups)
        network.zero_grad()
    prune_to(
        network,
        dependencies,
        criterion.scores(network, dependencies.groups),
        context.example,
        target=(1 - config.compression) * context.unpruned_macs,
        reference=context.unpruned_macs,
        limits=Limits(
            floors(dependencies.groups, config.min_share, config.min_width), config.round_to
        ),
    )
    if config.init == "scratch":
        with seeded("scratch", context.seed):
            _initialise(network)
    else:
        recalibrate(network, training_images(context, config.importance_batches))


def kept_layers(network: Network) -> tuple[nn.Module, ...]:
    """Layers whose outputs stay whole: features and classes, which losses and labels refer to."""
    linear = network.bottleneck[0]
    return linear, network.head


def training_images(context: Context, count: int) -> Iterator[Tensor]:
    """Images of ``count`` batches for BatchNorm statistics: source and target as in training."""

    return (torch.cat([b.source, b.target]) for b in context.batches.first(count))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
