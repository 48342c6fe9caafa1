"""Importance by the weights alone: magnitudes, BatchNorm's scale, distance from the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.pruning.groups import Group
from itmc.pruning.importance.criterion import Criterion, Scores, normalised
from itmc.pruning.importance.judges import (
    affine_norms,
    producers,
    rows,
    summed,
    weight_of,
)


class L1(Criterion):
    """sum |w| over the weights that produce a unit, in all coupled layers (Li et al. 2017)."""

    @torch.no_grad()
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        return {g.name: normalised(_over_filters(network, g, _absolute)) for g in groups}


class L2(Criterion):
    """sqrt(sum w^2) over the weights that produce a unit, in all coupled layers."""

    @torch.no_grad()
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        return {g.name: normalised(_over_filters(network, g, _squared).sqrt()) for g in groups}


class BNScale(Criterion):
    """sum |gamma| over the BatchNorms behind a unit's channels (Liu et al., ICCV 2017, sec. 3).

    Network slimming trains with an L1 penalty on gamma besides; here it is as training left it.
    Another normalisation of each unit with weights, an affine InstanceNorm say, counts too.
    """

    @torch.no_grad()
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        """Raises UsageError for channels without such a normalisation behind them."""
        return {group.name: normalised(self._scale(network, group)) for group in groups}

    def _scale(self, network: nn.Module, group: Group) -> Tensor:
        judges = affine_norms(network, group)
        if not judges:
            raise UsageError(
                "criterion 'bn_scale' judges channels by the weights of the BatchNorm behind them, "
                f"but those of layer {group.name!r} have none; choose another criterion"
            )
        return summed(group, [(member, weight_of(layer).abs()) for member, layer in judges])


class FPGM(Criterion):
    """sum over j of |w_i - w_j|_2: the distance of a filter to all others of its layer.

    The filters nearest to the geometric median of their layer are the most replaceable and go
    first (He et al., CVPR 2019, eqs. 6-9). Distances are summed over the filters of a unit, in all
    coupled layers. Biases do not count.
    """

    @torch.no_grad()
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        return {g.name: normalised(_over_filters(network, g, _distances)) for g in groups}


def _over_filters(network: nn.Module, group: Group, value: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum ``value`` of the filters of all producers, ``(C, D)`` to ``(C,)``, by unit."""
    return summed(
        group,
        [
            (member, value(rows(layer, weight_of(layer))))
            for member, layer in producers(network, group)
        ],
    )


def _absolute(filters: Tensor) -> Tensor:
    return filters.abs().sum(1)


def _squared(filters: Tensor) -> Tensor:
    return filters.square().sum(1)


def _distances(filters: Tensor) -> Tensor:
    filters = filters.double()  # since the fast way squares and subtracts
    return torch.cdist(filters, filters).sum(1)
