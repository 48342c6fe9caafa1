"""Classes of the libraries by their names: to look for them in a network loads no library.

timm and torchvision take as long to load as torch itself, and a run without them needs neither.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


class Kind:
    """The modules of some classes, and of what is derived from these: ``module in kind``."""

    def __init__(self, *names: str) -> None:
        """``names``: of the classes, with the modules that define them."""
        self.names = frozenset(names)

    def __contains__(self, module: nn.Module) -> bool:
        kind: Any = type(module)
        return not self.names.isdisjoint(_lineage(kind))


@cache
def _lineage(kind: type) -> frozenset[str]:
    return frozenset(name_of(base) for base in kind.__mro__)


def name_of(kind: type) -> str:
    """The name of a class, with the module that defines it."""
    return f"{kind.__module__}.{kind.__qualname__}"


ATTENTION = Kind("timm.layers.attention.Attention", "timm.models.swin_transformer.WindowAttention")
"""Attentions whose heads can be pruned: linear layers ``qkv`` and ``proj``, ``num_heads``. Those
of ``itmc.networks.attention`` are derived from them."""
PATCH_MERGING = Kind(
    "timm.models.swin_transformer.PatchMerging", "torchvision.models.swin_transformer.PatchMerging"
)
"""Modules that read four neighbours' channels in a row: ``norm`` and a linear ``reduction``."""
RESPONSE_NORM = Kind("timm.layers.grn.GlobalResponseNorm")
STANDARDISED = Kind("timm.layers.std_conv.StdConv2d", "timm.layers.std_conv.StdConv2dSame")
"""Convolutions that standardise their own filters. The scaled ones have a gain, which is a gate."""
GOOGLENET = Kind("torchvision.models.googlenet.GoogLeNet")
INCEPTION = Kind("torchvision.models.inception.Inception3")
VISION_TRANSFORMER = Kind("torchvision.models.vision_transformer.VisionTransformer")
ENCODER_BLOCK = Kind("torchvision.models.vision_transformer.EncoderBlock")
SHUFFLE_BLOCK = Kind("torchvision.models.shufflenetv2.InvertedResidual")
SHIFTED_WINDOWS = "torchvision.models.swin_transformer.ShiftedWindowAttention"
