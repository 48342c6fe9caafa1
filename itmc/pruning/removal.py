"""Take channels out of layers: the cut itself, one layer at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from itmc.networks.families import settle
from itmc.networks.kinds import ATTENTION
from itmc.networks.layers import Gather
from itmc.pruning.blocks import blocks_of

Positions = dict[tuple[str, bool], list[int]]
"""What goes, by layer (or parameter that stands alone) and side (True: outputs)."""


def remove(network: nn.Module, positions: Positions, parameters: dict[str, int]) -> None:
    """Remove ``positions`` from ``network``, in place.

    ``parameters``: those that stand alone, and the dimension of their channels.
    """
    for (name, is_output), places in positions.items():
        if name in parameters:
            _cut_parameter(network, name, parameters[name], places)
        else:
            _cut(network.get_submodule(name), is_output, places)
    for module in network.modules():
        if module in ATTENTION:
            _count_heads(module)
    settle(network)


def _cut(layer: nn.Module, is_output: bool, places: list[int]) -> None:
    if isinstance(layer, Gather):
        _cut_gather(layer, places)
    elif isinstance(layer, nn.GroupNorm):
        _cut_group_norm(layer, places)
    elif isinstance(layer, nn.LayerNorm):
        _cut_layer_norm(layer, places)
    elif isinstance(layer, nn.modules.conv._ConvNd) and blocks_of(layer) > 1:
        _cut_grouped(layer, places)
    else:
        import torch_pruning as tp  # loads timm and torchvision

        pruner = tp.pruner.function.PrunerBox[tp.ops.module2type(layer)]
        prune = pruner.prune_out_channels if is_output else pruner.prune_in_channels
        prune(layer, places)


def _cut_grouped(layer: Any, places: list[int]) -> None:
    """Whole groups of a convolution go: their outputs, and the inputs that only they read."""
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    groups = len(places) // outputs
    layer.weight = _without(layer.weight, 0, places)
    if layer.bias is not None:
        layer.bias = _without(layer.bias, 0, places)
    layer.out_channels -= len(places)
    layer.in_channels -= groups * inputs
    layer.groups -= groups


def _cut_group_norm(layer: nn.GroupNorm, places: list[int]) -> None:
    width = layer.num_channels // layer.num_groups
    if layer.affine:
        layer.weight = _without(layer.weight, 0, places)
        layer.bias = _without(layer.bias, 0, places)
    layer.num_channels -= len(places)
    if layer.num_groups > 1:
        layer.num_groups = layer.num_channels // width


def _cut_layer_norm(layer: nn.LayerNorm, places: list[int]) -> None:
    """torch-pruning (1.6) leaves the channels that stay in no order."""
    if layer.elementwise_affine:
        layer.weight = _without(layer.weight, -1, places)
        layer.bias = None if layer.bias is None else _without(layer.bias, -1, places)
    *others, width = layer.normalized_shape
    layer.normalized_shape = (*others, width - len(places))


def _cut_gather(layer: Gather, places: list[int]) -> None:
    kept = sorted(set(range(layer.channels)) - set(places))
    renumbered = {position: new for new, position in enumerate(kept)}
    index = [renumbered[position] for position in layer.index.tolist() if position in renumbered]
    layer.index = torch.tensor(index, dtype=torch.int64, device=layer.index.device)
    layer.channels = len(kept)


def _cut_parameter(network: nn.Module, name: str, dimension: int, places: list[int]) -> None:
    owner, _, attribute = name.rpartition(".")
    module = network.get_submodule(owner)
    setattr(module, attribute, _without(getattr(module, attribute), dimension, places))


def _without(parameter: Tensor, dimension: int, places: list[int]) -> nn.Parameter:
    """``parameter`` less ``places`` of ``dimension``; its gradient too, where momentum rides."""
    kept = torch.ones(parameter.shape[dimension], dtype=torch.bool, device=parameter.device)
    kept[places] = False
    index = kept.nonzero().flatten()
    left = nn.Parameter(
        parameter.detach().index_select(dimension, index), requires_grad=parameter.requires_grad
    )
    if parameter.grad is not None:
        left.grad = parameter.grad.index_select(dimension, index)
    return left


def _count_heads(layer: Any) -> None:
    width = layer.qkv.out_features // 3
    old = layer.num_heads
    head = getattr(layer, "head_dim", None) or round(layer.scale**-2)
    layer.num_heads = width // head
    if hasattr(layer, "attn_dim"):
        layer.attn_dim = width
    assert layer.num_heads <= old
