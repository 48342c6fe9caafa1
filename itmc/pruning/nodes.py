"""What modules put out and read, as the graph sees them, where torch-pruning does not know it.

It falls short on convolutions in groups, on GroupNorm, on modules whose inside mixes the axes
(attention, patch merging) and on permuted channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch_pruning as tp
from torch import nn

from itmc.networks.kinds import ATTENTION, PATCH_MERGING, Kind
from itmc.networks.layers import Gather
from itmc.pruning.blocks import is_depthwise

COMPOSITES = Kind(*ATTENTION.names, *PATCH_MERGING.names)
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


def by_class(network: nn.Module) -> dict[type[nn.Module], Any]:
    """How the graph sees modules of a class: what torch-pruning calls customised pruners."""
    found: dict[type[nn.Module], Any] = {
        Gather: _GATHER,
        # No class tells these two apart, so that by_shape finds them; torch-pruning has to know
        # them.
        _GroupedConvNode: _GROUPED_CONV,
        _GroupNormNode: _GROUP_NORM,
    }
    for module in network.modules():
        if module in COMPOSITES:
            found[type(module)] = _ATTENTION if module in ATTENTION else _PATCH_MERGING
    return found


def by_shape(layer: nn.Module) -> Any:
    """How the graph sees ``layer`` where torch-pruning's own view of its class falls short."""
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1:
        return None if is_depthwise(layer) else _GROUPED_CONV
    return _GROUP_NORM if isinstance(layer, nn.GroupNorm) else None
