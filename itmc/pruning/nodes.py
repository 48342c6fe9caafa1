"""What modules put out and read, as the graph sees them, where torch-pruning does not know it.

It falls short on convolutions in groups, on GroupNorm, on modules whose inside mixes the axes
(attention, patch merging) and on permuted channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch_pruning as tp
from torch import nn

from itmc.networks.layers import ATTENTION, PATCH_MERGING, Gather

COMPOSITES = (*ATTENTION, *PATCH_MERGING)
"""Modules that are one node, whatever they hold."""


class _Node(tp.function.BasePruningFunc):  # type: ignore[misc]
    """How many channels a module puts out and reads.

    For the graph the two methods to prune with are only the names of a module's two sides: what
    follows from which. It never calls them; channels are cut by ``itmc.pruning.removal``.
    """

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        raise AssertionError("a side of a node was called")

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        raise AssertionError("a side of a node was called")


class _AttentionNode(_Node):
    """Like a linear layer: the heads between its two ends are a group of their own."""

    def get_out_channels(self, layer: Any) -> Any:
        return layer.proj.out_features

    def get_in_channels(self, layer: Any) -> Any:
        return layer.qkv.in_features


class _PatchMergingNode(_Node):
    """Like a linear layer, each of whose inputs is read at four places."""

    def get_out_channels(self, layer: Any) -> Any:
        return layer.reduction.out_features

    def get_in_channels(self, layer: Any) -> Any:
        return layer.reduction.in_features // 4


class _CoupledNode(_Node):
    """A module whose outputs go with its inputs: positions count its outputs."""

    prune_in_channels = _Node.prune_out_channels


class _GroupedConvNode(_CoupledNode):
    def get_out_channels(self, layer: Any) -> Any:
        return layer.out_channels

    def get_in_channels(self, layer: Any) -> Any:
        return layer.in_channels


class _GroupNormNode(_CoupledNode):
    def get_out_channels(self, layer: Any) -> Any:
        return layer.num_channels

    get_in_channels = get_out_channels


class _GatherNode(_CoupledNode):
    """Positions count its inputs, some of which it may not put out at all."""

    def get_out_channels(self, layer: Any) -> Any:
        return len(layer.index)

    def get_in_channels(self, layer: Any) -> Any:
        return layer.channels


_ATTENTION, _PATCH_MERGING, _GATHER = _AttentionNode(), _PatchMergingNode(), _GatherNode()
_GROUPED_CONV, _GROUP_NORM = _GroupedConvNode(), _GroupNormNode()

BY_CLASS: dict[type[nn.Module], Any] = (
    dict.fromkeys(ATTENTION, _ATTENTION)
    | dict.fromkeys(PATCH_MERGING, _PATCH_MERGING)
    | {Gather: _GATHER}
    # No class tells these two apart, so that by_shape finds them; torch-pruning has to know them.
    | {_GroupedConvNode: _GROUPED_CONV, _GroupNormNode: _GROUP_NORM}
)
"""How the graph sees modules of a class: what torch-pruning calls customised pruners."""


def by_shape(layer: nn.Module) -> Any:
    """How the graph sees ``layer`` where torch-pruning's own view of its class falls short."""
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1:
        return None if _is_depthwise(layer) else _GROUPED_CONV
    return _GROUP_NORM if isinstance(layer, nn.GroupNorm) else None


def blocks_of(layer: nn.Module) -> int:
    """Blocks of channels that can only go as a whole: those of a convolution or a GroupNorm."""
    if isinstance(layer, nn.modules.conv._ConvNd) and not _is_depthwise(layer):
        return layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1


def width_of(layer: nn.Module) -> int:
    """Output channels of a convolution, or the channels of a GroupNorm."""
    width = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.out_channels
    assert isinstance(width, int)
    return width


def _is_depthwise(layer: nn.modules.conv._ConvNd) -> bool:
    return 1 < layer.groups == layer.in_channels == layer.out_channels
