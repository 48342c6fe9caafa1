"""Layers that say in data what a library's code says in arithmetic, so that they can be pruned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Gather(nn.Module):
    """Channels of the input by position: ``(N, channels, ...)`` to ``(N, len(index), ...)``.

    A shuffle or a split of channels, whose rule holds for unpruned widths only, becomes a list of
    positions, which is saved with the weights.
    """

    index: Tensor

    def __init__(self, index: Tensor, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("index", index)

    def forward(self, images: Tensor) -> Tensor:
        return images.index_select(1, self.index)


class ShuffleUnit(nn.Module):
    """torchvision's unit of ShuffleNet V2 (Ma et al. 2018, fig. 3), with its split and shuffle."""

    def __init__(self, unit: Any) -> None:
        """Take over the two branches of ``unit``, a torchvision ``InvertedResidual``."""
        super().__init__()
        self.branch1, self.branch2 = unit.branch1, unit.branch2
        half = unit.branch2[-2].num_features
        if unit.stride == 1:
            first = torch.arange(half)
            self.left, self.right = Gather(first, 2 * half), Gather(first + half, 2 * half)
        self.shuffle = Gather(torch.arange(2 * half).reshape(2, half).T.flatten(), 2 * half)

    def forward(self, images: Tensor) -> Tensor:
        left, right = images, images
        if hasattr(self, "left"):
            left, right = self.left(images), self.right(images)
        shuffled: Tensor = self.shuffle(torch.cat([self.branch1(left), self.branch2(right)], 1))
        return shuffled
