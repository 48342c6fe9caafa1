"""Prune a network to its budget: select, cut, and see that nothing else was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.errors import UsageError, first_line
from itmc.networks.modes import in_eval_mode
from itmc.parallel import of_first
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import Scores
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits, select
from itmc.pruning.verify import difference, masked

# The reached share of removed MACs may differ from the asked one by this much (one point).
TOLERANCE = 0.01
# What rounding in float32 may leave between two ways to compute the same outputs, relatively.
_EQUAL = 1e-3
# What the libraries' models raise where widths are not those that they were written for.
_NOT_TO_BE_PRUNED = (
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
)
# Selection stops within half of that, above or below the target.
_SLACK = TOLERANCE / 2


def meets(macs: float, target: float, reference: float) -> bool:
    """Whether a network of ``macs`` needs no (more) pruning to ``target``."""
    return macs <= target + _SLACK * reference


def prune_to(
    network: nn.Module,
    dependencies: Dependencies,
    scores: Scores,
    images: Tensor,
    target: float,
    reference: float,
    limits: Limits,
    is_final: bool = True,
    may_fall_short: bool = False,
) -> dict[str, list[int]]:
    """Prune ``network`` in place to ``target`` MACs; returns what was removed.

    What is left is within half a point of ``reference`` of it where the widths allow that, and at
    most a point above.

    ``reference`` is the unpruned network's count; ``images`` one example, ``(1, 3, S, S)``.
    Raises UsageError where the floors forbid the target by more than one point of ``reference``,
    unless it ``may_fall_short`` because there is more to come; or where, ``is_final``, the widths
    are too coarse not to remove a point too much.
    """
    if not dependencies.groups:
        reasons = "; ".join(f"{name}: {why}" for name, why in dependencies.whole.items())
        raise UsageError(
            f"no channels of this network can be removed ({reasons or 'no layer has any'}); "
            "choose another --backbone, or uncompressed references only"
        )
    model = MacModel(network, images, dependencies.groups)
    scores = _agreed(scores)
    removed = select(dependencies.groups, scores, model, target, _SLACK * reference, limits)
    remove_checked(dependencies, removed, images)
    network.to(memory_format=torch.channels_last)
    reached = count_macs(network, images)
    if abs(reached - model.total) > 1e-3 * reference:
        raise UsageError(
            "this backbone cannot be pruned to a budget: what its layers cost does not follow from "
            f"their widths ({model.total:.0f} MACs foreseen, {reached} counted); choose another "
            "--backbone, or uncompressed references only"
        )
    if reached - target > TOLERANCE * reference and not may_fall_short:
        steps = f"in steps of {limits.round_to} channels and " if limits.round_to > 1 else ""
        raise UsageError(
            f"compression {1 - target / reference:.3f} cannot be reached: {steps}with the floors "
            f"on the widths {1 - reached / reference:.3f} of the MACs can be removed; ask for "
            "less, or lower round_to or the floors (min_width, min_share)"
        )
    if is_final:
        refuse_too_few(reached, target, reference, limits.round_to)
    return removed


def _agreed(scores: Scores) -> Scores:
    """Those of the first process: they may be measured, or rounded otherwise by another device."""
    first = of_first(lambda: {name: values.cpu() for name, values in scores.items()})
    return {name: first[name].to(values.device) for name, values in scores.items()}


def refuse_too_few(macs: float, target: float, reference: float, round_to: int) -> None:
    """Raise UsageError where a network of ``macs`` has a point less left than its ``target``."""
    if target - macs > TOLERANCE * reference:
        raise UsageError(
            f"compression {1 - target / reference:.3f} cannot be met: in steps of {round_to} "
            f"channels it becomes {1 - macs / reference:.3f}; lower round_to"
        )


def remove_checked(dependencies: Dependencies, units: dict[str, list[int]], images: Tensor) -> None:
    """Remove ``units``, and see that the network computes what it did with them at zero.

    Raises UsageError where it does not: the libraries' models are many, and one that mixes its
    channels in a way that tracing misreads would else be pruned wrongly, and nobody would know.
    """
    network = dependencies.network
    positions = dependencies.positions(units)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    try:
        reference = masked(network, positions, dependencies.parameters)
        dependencies.remove(units)
        with in_eval_mode(network):
            error = difference(reference, network, noise.to(images.device))
    except _NOT_TO_BE_PRUNED as failure:
        raise UsageError(
            f"this backbone does not work with fewer channels ({first_line(failure)}); choose "
            "another --backbone, or uncompressed references only"
        ) from failure
    if not error <= _EQUAL:
        raise UsageError(
            "this backbone cannot be pruned: without some channels it computes something else "
            f"than with the same channels at zero (difference {error:.1e} of the largest output); "
            "choose another --backbone, or uncompressed references only"
        )


@torch.no_grad()
def recalibrate(
    network: nn.Module,
    batches: Iterable[Tensor],
    forward: Callable[[Tensor], Any] | None = None,
) -> None:
    """Re-estimate the BatchNorm statistics of ``network`` over ``batches`` of images, in place.

    ``forward`` passes a batch through it, where that is not simply to call it. Of several processes
    each gives its part of the batches.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    for images in batches:
        (forward or network)(images)
    network.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
