"""Whether surgery did what it should: pruned is the same as unpruned with channels at zero."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from itmc.networks.kinds import RESPONSE_NORM
from itmc.pruning.removal import Positions


@torch.no_grad()
def masked(network: nn.Module, positions: Positions, parameters: dict[str, int]) -> nn.Module:
    """A copy of ``network`` in eval mode, whose channels at ``positions`` are zero.

    What produces a channel is set to zero; what reads it keeps its weights, which then cannot
    matter. A normalisation over several channels does not count those that are gone.
    ``parameters``: those that stand alone, and the dimension of their channels.
    """
    copied = copy.deepcopy(network).eval()
    modules = dict(copied.named_modules())
    for (name, is_output), places in positions.items():
        # A normalisation's weights may stand alone for torch-pruning.
        norm = modules[name if name in modules else name.rpartition(".")[0]]
        if _is_over_channels(norm):
            _replace(copied, norm, _OnKept(norm, places))
        elif name in parameters:
            parameter = copied.get_parameter(name)
            index = torch.tensor(places, device=parameter.device)
            parameter.index_fill_(parameters[name], index, 0)
        elif is_output:
            for parameter in modules[name].parameters(recurse=False):
                parameter[places] = 0
    return copied


def difference(network: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Largest difference between outputs of the two, relative to the largest output of the first.

    ``images``: ``(N, 3, H, W)``. Not a number where an output is not.
    """
    # TensorFloat-32 would round more than what is looked for.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        one, two = (torch.cat([o.flatten() for o in net(images)]) for net in (network, other))
    return float((one - two).abs().max() / one.abs().max())


def _is_over_channels(layer: nn.Module) -> bool:
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups == 1
    return isinstance(layer, nn.LayerNorm) or layer in RESPONSE_NORM


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)


class _OnKept(nn.Module):
    """A normalisation of the channels that are kept; the others are zero."""

    def __init__(self, norm: Any, gone: list[int]) -> None:
        super().__init__()
        kept = torch.ones(len(norm.weight), dtype=torch.bool)
        kept[gone] = False
        self.kept = kept.nonzero().flatten()
        self.norm = copy.deepcopy(norm)
        self.norm.weight = nn.Parameter(norm.weight[self.kept])
        if norm.bias is not None:
            self.norm.bias = nn.Parameter(norm.bias[self.kept])
        if norm in RESPONSE_NORM:
            self.axis = norm.channel_dim
        elif isinstance(norm, nn.GroupNorm):
            self.axis = 1
            self.norm.num_channels = len(self.kept)
        else:
            # Subclasses of LayerNorm for images say so in their names, in timm and torchvision.
            self.axis = 1 if "2d" in type(norm).__name__ else -1
            self.norm.normalized_shape = (len(self.kept),)

    def forward(self, inputs: Tensor) -> Tensor:
        index = self.kept.to(inputs.device)
        outputs: Tensor = self.norm(inputs.index_select(self.axis, index))
        return torch.zeros_like(inputs).index_copy(self.axis, index, outputs)
