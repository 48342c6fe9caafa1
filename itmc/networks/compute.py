"""How images pass through networks: in which precision and layout, and compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from itmc.networks.build import Network, Outputs
from itmc.networks.kernels import FasterInBfloat16, Kernels
from itmc.networks.norms import synchronised

Precision = Literal["fp32", "bf16"]
Backbone = Callable[[Tensor], Tensor]

# Each size of a pruned student, in train and eval mode, with and without gradients and hooks.
_COMPILED_VERSIONS = 256


@dataclass(frozen=True)
class Compute:
    """Passes images through networks: all passes of training and evaluation go through it.

    In bf16 the backbone works in mixed precision: weights, their gradients and momentum stay in
    float32, and so do the statistics of BatchNorm and whatever autocast keeps there; convolutions,
    matrix products and what lies between them are in bfloat16. Bottleneck and head, whose outputs
    the losses are of, are in float32 always.
    """

    precision: Precision = "fp32"
    channels_last: bool = True
    """The layout that networks are built and pruned in; off: rows by rows, channel by channel."""
    compile: bool = False
    """Whether torch.compile translates backbones: anew each time that one has lost channels."""
    kernels: Kernels = "torch"
    """Whose kernels BatchNorm has in bf16 on the CPU."""
    _compiled: WeakKeyDictionary[Network, tuple[int, Backbone]] = field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )

    def __call__(self, network: Network, images: Tensor) -> Outputs:
        """Outputs of ``network``, in float32, for ``images``: float, ``(N, 3, S, S)``.

        In train mode BatchNorm is that of the images of all processes.
        """
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        backbone = self._backbone(network)

        def features(images: Tensor) -> Tensor:
            with self._mixed(images.device):
                return backbone(images)

        with synchronised():
            outputs: Outputs = network(images.contiguous(memory_format=layout), features)
        return outputs

    def _mixed(self, device: torch.device) -> AbstractContextManager[object]:
        """Open around a backbone's pass."""
        stack = ExitStack()
        if self.precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            if device.type == "cpu" and not self.compile:
                stack.enter_context(FasterInBfloat16(self.kernels))
        return stack

    def _backbone(self, network: Network) -> Backbone:
        """The backbone of ``network``, in its layout, and compiled as it is shaped now."""
        if not self.channels_last:  # surgery and checkpoints bring the other one back
            network.backbone.to(memory_format=torch.contiguous_format)
        if not self.compile:
            return network.backbone
        size = sum(parameter.numel() for parameter in network.backbone.parameters())
        known = self._compiled.get(network)
        if known is None or known[0] != size:
            known = self._compiled[network] = size, _compiled(network.backbone)
        return known[1]


def _compiled(backbone: nn.Module) -> Backbone:
    torch._dynamo.config.recompile_limit = _COMPILED_VERSIONS
    # Criteria watch layers by hooks, which compiled code would else pass by.
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    compiled: Backbone = torch.compile(backbone, dynamic=False)
    return compiled
