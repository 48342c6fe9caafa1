"""Scores that look at no network: the narrow student's, and the floor under every criterion.

Neither is normalised by layer. Both are shares in [0, 1) of a layer's units already, the same for
all widths; dividing them by a norm, which grows with the width, would prune wide layers more.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from itmc.pruning.groups import Group
from itmc.pruning.importance.criterion import Criterion, Scores
from itmc.seeding import seed_of


class Uniform(Criterion):
    """Position in the layer: every layer is narrowed by the same factor, first channels stay.

    It makes the narrow students; the threshold on it is the width multiplier.
    """

    normalises: ClassVar[bool] = False

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        return {g.name: 1 - torch.arange(1, g.width + 1) / g.width for g in groups}


class Random(Criterion):
    """Uniformly random scores, the same for the same seed and layer."""

    normalises: ClassVar[bool] = False

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        def draw(group: Group) -> Tensor:
            source = torch.Generator().manual_seed(seed_of("random", self._seed, group.name))
            return torch.rand(group.width, generator=source)

        return {group.name: draw(group) for group in groups}
