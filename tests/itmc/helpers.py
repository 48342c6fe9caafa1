"""Small networks whose coupled channels are known by hand, and independent counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from itmc.networks.build import Network

SIZE = 12


class Plain(nn.Module):
    """Two convolutions with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 12, 3, 2, bias=False), nn.BatchNorm2d(12)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(images)).relu()
        return self.norm2(self.conv2(hidden)).relu().mean((2, 3))


class Bare(nn.Module):
    """Biases instead of BatchNorm, and channels that are flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 3), nn.Conv2d(6, 8, 2, 2)
        self.linear = nn.Linear(8 * 2 * 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv2(self.conv1(images).relu()).relu()
        return self.linear(hidden.flatten(1)).relu()


class Residual(nn.Module):
    """One residual block: the stem and the block's end share their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10)
        self.conv2, self.norm2 = nn.Conv2d(10, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.norm0(self.stem(images)).relu()
        hidden = self.norm1(self.conv1(stem)).relu()
        return (self.norm2(self.conv2(hidden)) + stem).relu().mean((2, 3))


class Depthwise(nn.Module):
    """An expansion, a depthwise convolution on its channels, a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.project, self.norm3 = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm1(self.expand(images)).relu()
        hidden = self.norm2(self.depth(hidden)).relu()
        return self.norm3(self.project(hidden)).relu().mean((2, 3))


class Concat(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.norm1 = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.right, self.norm2 = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5)
        self.last, self.norm3 = nn.Conv2d(11, 9, 1, bias=False), nn.BatchNorm2d(9)

    def forward(self, images: Tensor) -> Tensor:
        left = self.norm1(self.left(images)).relu()
        right = self.norm2(self.right(images)).relu()
        return self.norm3(self.last(torch.cat([left, right], 1))).relu().mean((2, 3))


KINDS: dict[str, tuple[type[nn.Module], int]] = {
    "plain": (Plain, 12),
    "bare": (Bare, 10),
    "residual": (Residual, 8),
    "depthwise": (Depthwise, 12),
    "concat": (Concat, 9),
}
# By group: the layers whose output is the group's channels, one by one, where a gate would stand.
GATES: dict[str, dict[str, tuple[str, ...]]] = {
    "plain": {"conv1": ("norm1",), "conv2": ("norm2",)},
    "bare": {"conv1": ("conv1",), "conv2": ("conv2",), "linear": ("linear",)},
    "residual": {"stem": ("norm0", "norm2"), "conv1": ("norm1",)},
    "depthwise": {"depth": ("norm1", "norm2"), "project": ("norm3",)},
    "concat": {"left": ("norm1",), "right": ("norm2",), "last": ("norm3",)},
}


def small(kind: str, seed: int = 0) -> Network:
    """A network of ``kind`` whose BatchNorms have seen something, in train mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, width = KINDS[kind]
        network = Network(backbone(), width, bottleneck=7, classes=4)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                for tensor in (module.weight, module.running_var):
                    nn.init.uniform_(tensor, 0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    nn.init.uniform_(tensor, -0.5, 0.5)
    return network


def images(count: int = 1, size: int = SIZE, seed: int = 0) -> Tensor:
    """Random images, ``(count, 3, size, size)``."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def gated(network: Network, kind: str, gates: dict[str, Tensor]) -> None:
    """Multiply the channels of the groups in ``gates`` (by name) by the gates, from now on."""
    for group, gate in gates.items():
        for layer in GATES[kind][group]:
            module = network.backbone.get_submodule(layer)

            def multiply(module: nn.Module, _: object, out: Tensor, gate: Tensor = gate) -> Tensor:
                return out * gate.view(1, -1, *[1] * (out.dim() - 2))

            module.register_forward_hook(multiply)


def torch_macs(network: nn.Module, inputs: Tensor) -> int:
    """MACs as torch's own counter has them (it counts two operations for one)."""
    training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter:
        network(inputs)
    network.train(training)
    return counter.get_total_flops() // 2
