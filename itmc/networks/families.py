"""Models of the libraries whose code cannot be pruned as it stands, put in a form that can."""

from __future__ import annotations

from typing import Any

from torch import nn

from itmc.networks import kinds
from itmc.networks.layers import ShuffleUnit


def prunable(network: nn.Module) -> nn.Module:
    """``network``, changed in place: it computes the same with the same weights, and can be pruned.

    Auxiliary classifiers, which only train, are left out. What is prunable already stays as it is.
    """
    for found in list(network.modules()):
        module: Any = found
        if module in kinds.GOOGLENET:
            module.aux_logits, module.aux1, module.aux2 = False, None, None
        elif module in kinds.INCEPTION:
            module.aux_logits, module.AuxLogits = False, None
        elif module in kinds.ENCODER_BLOCK:
            attention = module.self_attention
            if isinstance(attention, nn.MultiheadAttention):
                from itmc.networks.attention import SelfAttention  # loads timm

                module.self_attention = SelfAttention(attention)
        for name, child in list(module.named_children()):
            if child in kinds.SHUFFLE_BLOCK:
                setattr(module, name, ShuffleUnit(child))
            elif kinds.name_of(type(child)) == kinds.SHIFTED_WINDOWS:  # its V2 attends otherwise
                from itmc.networks.attention import ShiftedWindows  # loads timm

                setattr(module, name, ShiftedWindows(child))
    return network


def settle(network: nn.Module) -> None:
    """Make what modules remember of their widths what it is after surgery, in place."""
    for found in network.modules():
        module: Any = found
        if module in kinds.VISION_TRANSFORMER:
            module.hidden_dim = module.conv_proj.out_channels
