"""Channels that a convolution or a GroupNorm has in blocks."""

from __future__ import annotations

from torch import nn


def blocks_of(layer: nn.Module) -> int:
    """Blocks of channels that can only go as a whole: those of a convolution or a GroupNorm."""
    if isinstance(layer, nn.modules.conv._ConvNd) and not is_depthwise(layer):
        return layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1


def width_of(layer: nn.Module) -> int:
    """Output channels of a convolution, or the channels of a GroupNorm."""
    width = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.out_channels
    assert isinstance(width, int)
    return width


def is_depthwise(layer: nn.modules.conv._ConvNd) -> bool:
    """Whether each channel of a convolution is a group of its own."""
    return 1 < layer.groups == layer.in_channels == layer.out_channels
