"""Bring a network to its budget in one go, before it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.domains.batches import Batch
from itmc.networks.build import Network
from itmc.parallel import copy_first, own_noise, sum_gradients
from itmc.pruning import importance
from itmc.pruning.cost_aware import CostAware, per_saving, savings
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import Criterion, CriterionName, LayerScale, Scores, comparable
from itmc.pruning.selection import Limits, floors
from itmc.pruning.surgery import prune_to, recalibrate
from itmc.seeding import seeded

if TYPE_CHECKING:
    from itmc.training.stage import Context


class WidthLimits(Frozen):
    """The widths that layers may have."""

    min_width: int = Field(2, ge=1)
    """No layer gets narrower than so many channels."""
    min_share: float = Field(0.1, ge=0, le=1)
    """No layer gets narrower than this share of its own channels: a layer of few strangles all
    that follow."""
    round_to: int = Field(1, ge=1)
    """Widths become multiples of this, which hardware likes."""


class PruningConfig(WidthLimits):
    """What every kind of pruning respects."""

    layer_scale: LayerScale = "mean"
    """What makes the scores of two layers comparable: ``mean``, that their mean is 1, or ``l2``,
    the papers', that their squares sum to 1, whatever their number. With ``l2`` a wide layer has
    lower scores than a narrow one, and is pruned more. Ours is that which label-free tuning chose
    for every method (reconstruction)."""
    cost_aware: CostAware = "none"
    """Rank channels by importance alone, or by importance per ``macs`` or measured ``latency`` that
    their removal saves. Measurements differ: with ``latency`` no two runs are alike to the bit."""

    @model_validator(mode="after")
    def _rankable(self) -> Self:
        if getattr(self, "criterion", None) == "uniform" and self.cost_aware != "none":
            raise ValueError("criterion 'uniform' ranks nothing: cost_aware must be none")
        return self


# Of the loss on the source alone, from which these methods judge, no criterion of two domains.
SourceCriterion = Literal["taylor", "l1", "l2", "bn_scale", "fpgm", "random", "uniform"]


class Shrink(PruningConfig):
    """How a network is brought to ``compression`` at once."""

    compression: float = Field(ge=0, lt=1)
    criterion: CriterionName = "taylor"
    """Importance of a channel; ``uniform`` narrows all layers by one factor."""
    init: Literal["sliced", "scratch"] = "sliced"
    """Whether the channels that stay keep their weights, or start anew."""
    importance_batches: int = Field(20, ge=1)
    """Batches over which importance is accumulated and BatchNorm re-estimated."""


def shrink(
    network: Network,
    config: Shrink,
    context: Context,
    loss: Callable[[Network, Batch, Context], Tensor],
    domains: int = 2,
) -> None:
    """Prune ``network`` in place to ``config``; ``loss`` is what Taylor importance derives from.

    ``domains``: 1 where the target is not to be seen yet, not even by BatchNorm.
    """
    dependencies = Dependencies(network, context.example, kept_layers(network))
    with seeded("shrink", context.seed):  # for dropout, and for new weights
        criterion = importance.create(config.criterion, context.seed)
        judged = _judged(network, criterion, config, context, loss, dependencies)
        scores = comparable(judged, criterion, config.layer_scale)
        if (kind := config.cost_aware) != "none":
            groups = dependencies.groups
            saved = savings(kind, network, context.example, groups, config.round_to)
            scores = per_saving(scores, saved)
        prune_to(
            network,
            dependencies,
            scores,
            context.example,
            target=(1 - config.compression) * context.unpruned_macs,
            reference=context.unpruned_macs,
            limits=Limits(
                floors(dependencies.groups, config.min_share, config.min_width), config.round_to
            ),
        )
        if config.init == "scratch":
            _initialise(network)
            copy_first(network)  # GPUs have generators of their own, which noise has moved
        else:
            images = training_images(context, config.importance_batches, domains)
            with context.meter.watch([network], context.example):
                recalibrate(network, images, partial(context.compute, network))


def _judged(
    network: Network,
    criterion: Criterion,
    config: Shrink,
    context: Context,
    loss: Callable[[Network, Batch, Context], Tensor],
    dependencies: Dependencies,
) -> Scores:
    """Scores of the channels, from as many batches as the criterion needs."""
    if criterion.needs_gradients:
        network.train()
        with own_noise(), context.meter.watch([network], context.example):
            for batch in context.batches.first(config.importance_batches):
                network.zero_grad()
                with criterion.watch(network, dependencies.groups, len(batch.source)):
                    value = loss(network, batch, context)
                torch.autograd.backward(value)
                sum_gradients(network.parameters())
                criterion.observe(network, dependencies.groups)
        network.zero_grad()
    return criterion.scores(network, dependencies.groups)


def kept_layers(network: Network) -> tuple[nn.Module, ...]:
    """Layers whose outputs stay whole: features and classes, which losses and labels refer to."""
    linear = network.bottleneck[0]
    return linear, network.head


def training_images(context: Context, count: int, domains: int = 2) -> Iterator[Tensor]:
    """Images of ``count`` batches for BatchNorm statistics, passed as in training."""
    for batch in context.batches.first(count):
        if domains == 1:
            yield batch.source
        elif context.training.bn == "joint":
            yield torch.cat([batch.source, batch.target])
        else:
            yield from (batch.source, batch.target)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
