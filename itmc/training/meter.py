"""What training costs, counted as it happens: images and MACs, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from itmc.cost import count_macs
from itmc.networks.build import Network
from itmc.parallel import world

# For each product of the forward pass there are two: with the weights and with the inputs.
BACKWARD_PER_FORWARD = 2


@dataclass
class Counts:
    """Images through any network, and the MACs of these passes."""

    forward_images: int = 0
    backward_images: int = 0
    """Those that passed with gradients, which a backward pass follows."""
    forward_macs: int = 0
    backward_macs: int = 0


@dataclass
class Meter:
    """Counts what passes through networks while it watches them; evaluation is not watched.

    Of several processes, each of which passes as many images, it counts the images of all.
    """

    counts: Counts = field(default_factory=Counts)
    _macs: WeakKeyDictionary[Network, tuple[int, int]] = field(default_factory=WeakKeyDictionary)

    def macs(self, network: Network, example: Tensor) -> int:
        """MACs of ``network`` for one image, counted anew only when it has changed its size."""
        size = sum(parameter.numel() for parameter in network.parameters())
        known = self._macs.get(network)
        if known is None or known[0] != size:
            self._macs[network] = known = size, count_macs(network, example)
        return known[1]

    @contextmanager
    def watch(self, networks: list[Network], example: Tensor) -> Iterator[None]:
        """Count all passes through ``networks`` inside, where none of them changes its size."""
        handles = [self._attach(network, self.macs(network, example)) for network in networks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def take(self) -> dict[str, int]:
        """What was counted since the last call."""
        taken, self.counts = self.counts, Counts()
        return vars(taken)

    def _attach(self, network: Network, macs: int) -> torch.utils.hooks.RemovableHandle:
        learns = any(parameter.requires_grad for parameter in network.parameters())

        def count(_: Any, inputs: tuple[Tensor, ...]) -> None:
            images = len(inputs[0]) * world().size
            self.counts.forward_images += images
            self.counts.forward_macs += images * macs
            if learns and torch.is_grad_enabled():
                self.counts.backward_images += images
                self.counts.backward_macs += BACKWARD_PER_FORWARD * images * macs

        return network.register_forward_pre_hook(count)
