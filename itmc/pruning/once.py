"""Prune any network, once: for those who want the pruning without the rest of the project."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.networks.families import prunable
from itmc.pruning import importance
from itmc.pruning.cost_aware import CostAware, per_saving, savings
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import Scores
from itmc.pruning.selection import Limits, floors
from itmc.pruning.surgery import TOLERANCE, prune_to


@dataclass(frozen=True)
class Pruned:
    """What ``prune`` did."""

    macs_before: int
    macs_after: int
    """MACs of one forward pass over the example."""
    removed: dict[str, int]
    """How many channels went, by the name of the first layer that lost them."""
    whole: dict[str, str]
    """Layers that kept all their channels because they had to, and why."""

    @property
    def compression(self) -> float:
        """The share of MACs that was removed."""
        return 1 - self.macs_after / self.macs_before


def prune(
    network: nn.Module,
    images: Tensor,
    compression: float,
    criterion: str = "l2",
    losses: Iterable[Tensor] = (),
    keep: tuple[nn.Module, ...] = (),
    min_width: int = 2,
    min_share: float = 0.0,
    round_to: int = 1,
    cost_aware: CostAware = "none",
) -> Pruned:
    """Remove the least important channels of ``network``, in place, down to its budget of MACs.

    ``images``: an example of its input, ``(1, 3, H, W)``. ``compression``: the share of MACs to
    remove; met within one point, or as near as the widths allow, and then it warns.
    ``criterion``: a name of ``itmc.pruning.importance``; where it needs gradients (``taylor``),
    ``losses`` yields one loss a batch, each computed when it is asked for.

    Layers whose outputs are the network's stay whole, and those in ``keep``; others keep at least
    ``min_width`` channels and the share ``min_share`` of theirs, and widths become multiples of
    ``round_to``. ``cost_aware``: rank by importance per ``macs`` or measured ``latency`` saved.

    Raises UsageError where the network cannot be pruned, or not that far.
    """
    if not 0 < compression < 1:
        raise UsageError(f"compression {compression} is not allowed; give 0 < compression < 1")
    prunable(network)
    dependencies = Dependencies(network, images, keep)
    scores = _judge(network, dependencies, criterion, losses)
    if cost_aware != "none":
        saved = savings(cost_aware, network, images, dependencies.groups, round_to)
        scores = per_saving(scores, saved)
    before = count_macs(network, images)
    smallest = floors(dependencies.groups, min_share, min_width)
    removed = prune_to(
        network, dependencies, scores, images,
        target=(1 - compression) * before, reference=before, limits=Limits(smallest, round_to),
        is_final=False,
    )  # fmt: skip
    after = count_macs(network, images)
    made = Pruned(before, after, dependencies.channels(removed), dependencies.whole)
    if abs(made.compression - compression) > TOLERANCE:
        warnings.warn(
            f"compression {compression:.3f} was asked for; the nearest that the widths allow in "
            f"steps of {round_to} channels is {made.compression:.3f}",
            stacklevel=2,
        )
    return made


def _judge(
    network: nn.Module, dependencies: Dependencies, name: str, losses: Iterable[Tensor]
) -> Scores:
    criterion = importance.create(name)
    if isinstance(criterion, importance.TaylorMin):
        raise UsageError(f"criterion {name!r} needs batches of two domains, which ITMC's runs have")
    batches = 0
    if criterion.needs_gradients:
        network.zero_grad()
        for loss in losses:
            torch.autograd.backward(loss)
            criterion.observe(network, dependencies.groups)
            network.zero_grad()
            batches += 1
        if not batches:
            raise UsageError(f"criterion {name!r} needs losses; give an iterable of at least one")
    return criterion.scores(network, dependencies.groups)
