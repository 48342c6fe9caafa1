"""Models of the libraries whose code cannot be pruned as it stands, put in a form that can."""

from __future__ import annotations

from torch import nn
from torchvision.models import GoogLeNet, Inception3, VisionTransformer
from torchvision.models.shufflenetv2 import InvertedResidual as ShuffleBlock
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.models.vision_transformer import EncoderBlock

from itmc.networks.layers import SelfAttention, ShuffleUnit
from itmc.networks.windows import ShiftedWindows


def prunable(network: nn.Module) -> nn.Module:
    """``network``, changed in place: it computes the same with the same weights, and can be pruned.

    Auxiliary classifiers, which only train, are left out. What is prunable already stays as it is.
    """
    for module in list(network.modules()):
        if isinstance(module, GoogLeNet):
            module.aux_logits, module.aux1, module.aux2 = False, None, None
        elif isinstance(module, Inception3):
            module.aux_logits, module.AuxLogits = False, None
        elif isinstance(module, EncoderBlock):
            attention = module.self_attention
            if isinstance(attention, nn.MultiheadAttention):
                module.self_attention = SelfAttention(attention)
        for name, child in list(module.named_children()):
            if isinstance(child, ShuffleBlock):
                setattr(module, name, ShuffleUnit(child))
            elif type(child) is ShiftedWindowAttention:  # its second version attends otherwise
                setattr(module, name, ShiftedWindows(child))
    return network


def settle(network: nn.Module) -> None:
    """Make what modules remember of their widths what it is after surgery, in place."""
    for module in network.modules():
        if isinstance(module, VisionTransformer):
            module.hidden_dim = module.conv_proj.out_channels
