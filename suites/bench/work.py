"""What a training step has to do: FLOPs, and bytes to memory; and the time these take at least."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from itmc.cost import count_macs
from itmc.networks.modes import in_eval_mode
from itmc.training.meter import BACKWARD_PER_FORWARD

FLOPS_PER_MAC = 2
# How often each output of a convolution or matrix product goes to memory or comes from it in a
# forward pass: written, read for BatchNorm's statistics, read and written by normalisation and
# activation as one, and read by the next layer. Backward passes move twice as much: beside each
# activation its gradient.
FORWARD_ACCESSES = 5


@dataclass
class Passes:
    """Images that have passed through each network, forward, and those that go back too."""

    forward: dict[nn.Module, int] = field(default_factory=dict)
    backward: dict[nn.Module, int] = field(default_factory=dict)

    @contextmanager
    def watch(self, networks: Iterable[nn.Module]) -> Iterator[None]:
        """Count what passes inside."""
        handles = [network.register_forward_pre_hook(self._count) for network in networks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _count(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        images = len(inputs[0])
        self.forward[network] = self.forward.get(network, 0) + images
        if torch.is_grad_enabled() and any(p.requires_grad for p in network.parameters()):
            self.backward[network] = self.backward.get(network, 0) + images


@dataclass(frozen=True)
class Work:
    """What a step does in its networks; discriminators and losses, far below, are not counted."""

    flops: int
    elements: int
    """Numbers that go to memory or come from it, were no cache to hold any: see
    FORWARD_ACCESSES."""


def work_of(passes: Passes, example: Tensor) -> Work:
    """The work of ``passes``; ``example``: one image, ``(1, 3, S, S)``."""

    def counted(each: Callable[[nn.Module, Tensor], int]) -> int:
        """The sum over images of what ``each`` counts of one forward pass, backward passes too."""
        return sum(
            each(network, example)
            * (images + BACKWARD_PER_FORWARD * passes.backward.get(network, 0))
            for network, images in passes.forward.items()
        )

    return Work(FLOPS_PER_MAC * counted(count_macs), FORWARD_ACCESSES * counted(activations))


def activations(network: nn.Module, images: Tensor) -> int:
    """Elements that convolutions and matrix products put out for ``images``."""
    from fvcore.nn import ActivationCountAnalysis  # slow to import

    logger = logging.getLogger("fvcore")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with in_eval_mode(network), warnings.catch_warnings(action="ignore"):
            analysis: Any = ActivationCountAnalysis(network, images)
            return int(analysis.unsupported_ops_warnings(False).total())
    finally:
        logger.setLevel(level)
