"""Which layers of a coupled group its units are judged by, and sums over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.networks.kinds import STANDARDISED
from itmc.pruning.groups import Group, Member

Judges = list[tuple[Member, nn.Module]]
"""Members of a group, each with its layer."""

_WITH_FILTERS = (nn.modules.conv._ConvNd, nn.Linear)


def producers(network: nn.Module, group: Group) -> Judges:
    """Convolutions and linear layers that put out the channels of ``group``.

    Neither a PReLU nor a LayerNorm, whose weights are no filters.
    """
    return [
        (member, layer)
        for member, layer in _layers(network, group, is_output=True)
        if member.judged and isinstance(layer, _WITH_FILTERS)
    ]


def norms(network: nn.Module, group: Group) -> Judges:
    """Normalisations of each unit by itself, with or without weights.

    BatchNorm and InstanceNorm, and a GroupNorm whose groups are not parted between units: what
    they put out does not depend on the scale of a unit that they read, so a gate before them has
    no gradient. Other GroupNorms and LayerNorms are only invariant to the scale of several units.
    """
    return [
        (member, layer)
        for member, layer in _layers(network, group, is_output=True)
        if _is_by_unit(member, layer)
    ]


def affine_norms(network: nn.Module, group: Group) -> Judges:
    """Those of ``norms`` that have weights: a gate on each channel."""
    return [
        (member, layer)
        for member, layer in norms(network, group)
        if member.judged and layer.weight is not None
    ]


def are_scale_free(network: nn.Module, group: Group) -> bool:
    """Whether a gate on a channel of ``group`` has no effect on weights before ``readers``.

    So it is before ``norms``, and with convolutions that standardise their own filters.
    """
    return bool(norms(network, group)) or any(
        layer in STANDARDISED for _, layer in producers(network, group)
    )


def readers(network: nn.Module, group: Group) -> Judges:
    """Convolutions and linear layers that read the channels of ``group``, all of them at once.

    Empty where one is a convolution in groups, which reads but a part.
    """
    found: Judges = [
        (member, layer)
        for member, layer in _layers(network, group, is_output=False)
        if member.judged and isinstance(layer, _WITH_FILTERS)
    ]
    return [] if any(getattr(layer, "groups", 1) > 1 for _, layer in found) else found


def rows(layer: nn.Module, tensor: Tensor) -> Tensor:
    """``tensor`` of the shape of a parameter of ``layer``, as ``(outputs, rest)``."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd) and tensor.dim() > 1:
        # (inputs, outputs / groups, ...), where each block of inputs has outputs of its own
        inputs, outputs = tensor.shape[:2]
        blocks = tensor.reshape(layer.groups, inputs // layer.groups, outputs, -1)
        tensor = blocks.transpose(1, 2).flatten(0, 1)
    return tensor.reshape(len(tensor), -1)


def columns(layer: nn.Module, tensor: Tensor) -> Tensor:
    """``tensor`` of the shape of the weight of ``layer``, as ``(inputs, rest)``; not in groups."""
    is_transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    return (tensor if is_transposed else tensor.transpose(0, 1)).flatten(1)


def summed(group: Group, values: Iterable[tuple[Member, Tensor]]) -> Tensor:
    """Sum over members: ``(..., positions)`` for each becomes ``(..., width)`` of the units.

    Raises UsageError where there is no member.
    """
    total: Tensor | None = None
    for member, value in values:
        if total is None:
            total = torch.zeros(*value.shape[:-1], group.width, device=value.device)
        part = value[..., member.positions.to(value.device)].to(total.dtype)
        total.index_add_(-1, member.roots.to(value.device), part)
    if total is None:
        raise UsageError(f"the channels of layer {group.name!r} have no weights to be judged by")
    return total


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a layer that has one."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _layers(
    network: nn.Module, group: Group, is_output: bool
) -> Iterator[tuple[Member, nn.Module]]:
    """Members on one side, but for parameters that stand alone and so have no layer."""
    for member in group.members:
        if member.is_output == is_output:
            try:
                layer = network.get_submodule(member.layer)
            except AttributeError:  # torch's word for: this is no module
                continue
            yield member, layer


def _is_by_unit(member: Member, layer: nn.Module) -> bool:
    if isinstance(layer, nn.GroupNorm):
        blocks = member.positions // (layer.num_channels // layer.num_groups)
        parts = set(zip(blocks.tolist(), member.roots.tolist(), strict=True))
        return len(parts) == len({block for block, _ in parts})
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    return isinstance(layer, kinds)
