"""Small networks whose coupled channels are known by hand, and independent counts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from itmc.networks.build import Network
from itmc.networks.layers import Gather
from itmc.pruning.groups import Dependencies

SIZE = 12


class Plain(nn.Module):
    """Two convolutions with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 12, 3, 2, bias=False), nn.BatchNorm2d(12)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(images)).relu()
        features: Tensor = self.norm2(self.conv2(hidden)).relu().mean((2, 3))
        return features


class Bare(nn.Module):
    """Biases instead of BatchNorm, and channels that are flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 3), nn.Conv2d(6, 8, 2, 2)
        self.linear = nn.Linear(8 * 2 * 2, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv2(self.conv1(images).relu()).relu()
        features: Tensor = self.linear(hidden.flatten(1)).relu()
        return features


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
        features: Tensor = (self.norm2(self.conv2(hidden)) + stem).relu().mean((2, 3))
        return features


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
        features: Tensor = self.norm3(self.project(hidden)).relu().mean((2, 3))
        return features


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
        features: Tensor = self.norm3(self.last(torch.cat([left, right], 1))).relu().mean((2, 3))
        return features


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
    "depthwise": {"expand": ("norm1", "norm2"), "project": ("norm3",)},
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
    return int(counter.get_total_flops()) // 2


Units = dict[str, list[int]]
"""Units of channels by the name of their group."""


@torch.no_grad()
def stir(network: Network, inputs: Tensor, seed: int = 0) -> Network:
    """Norms that have seen ``inputs``, and vectors that are not one and zero, so mistakes show."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1
    network.train()(inputs)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var"):  # dead channels would divide by nearly nothing
                tensor.clamp_min_(0.1).mul_(1 + noise)
            else:
                tensor.add_(0.4 * noise - 0.2)
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def masked_by_hooks(network: Network, dependencies: Dependencies, units: Units) -> Network:
    """A copy in eval mode whose layers put out zero where channels of ``units`` would be.

    Norms over several channels are computed here, over the channels that stay.
    """
    gone: dict[str, set[int]] = {}
    for group in dependencies.groups:
        for member in (m for m in group.members if m.is_output):
            pairs = zip(member.positions.tolist(), member.roots.tolist(), strict=True)
            places = {position for position, root in pairs if root in units.get(group.name, ())}
            gone.setdefault(member.layer, set()).update(places)
    copied = copy.deepcopy(network).eval()
    for name, places in gone.items():
        if name in dependencies.parameters:
            parameter = copied.get_parameter(name)
            with torch.no_grad():
                index = torch.tensor(sorted(places), dtype=torch.int64)
                parameter.index_fill_(dependencies.parameters[name], index, 0)
        elif not isinstance(copied.get_submodule(name), Gather):
            copied.get_submodule(name).register_forward_hook(_masking(places))
    return copied


def _masking(places: set[int]) -> Callable[[Any, tuple[Tensor], Tensor], Tensor]:
    def mask(layer: Any, inputs: tuple[Tensor], outputs: Tensor) -> Tensor:
        axis = -1 if isinstance(layer, nn.LayerNorm | nn.Linear) else 1
        kept = torch.tensor([i for i in range(outputs.shape[axis]) if i not in places])
        left = inputs[0].index_select(axis, kept) if _is_joint(layer) else inputs[0]
        if _is_joint(layer):
            dims = (1, 2, 3) if isinstance(layer, nn.GroupNorm) else (-1,)
            variance, mean = torch.var_mean(left, dims, correction=0, keepdim=True)
            shape = [-1 if d == axis % left.dim() else 1 for d in range(left.dim())]
            weight, bias = (t[kept].view(shape) for t in (layer.weight, layer.bias))
            left = (left - mean) / (variance + layer.eps).sqrt() * weight + bias
        else:
            left = outputs.index_select(axis, kept)
        return torch.zeros_like(outputs).index_copy(axis, kept, left)

    return mask


def _is_joint(layer: nn.Module) -> bool:
    """Whether a layer normalises all channels together."""
    return isinstance(layer, nn.LayerNorm) or getattr(layer, "num_groups", 0) == 1


@torch.no_grad()
def values(network: Network, inputs: Tensor) -> Tensor:
    """Features before their ReLU, which hides differences, and logits, in one vector."""
    linear, norm, relu = network.bottleneck
    features = norm(linear(network.backbone(inputs)))
    return torch.cat([features.flatten(), network.head(relu(features)).flatten()])


def gap(network: Network, other: Network, inputs: Tensor) -> float:
    """Largest difference between the values of two networks, relative to the second's largest."""
    one, two = values(network, inputs), values(other, inputs)
    return float((one - two).abs().max() / two.abs().max())


def uncovered(network: Network, dependencies: Dependencies) -> list[str]:
    """Layers of the backbone some of whose outputs are in no group, or in two."""
    found: dict[str, list[int]] = {}
    for group in dependencies.groups:
        for member in group.members:
            if member.is_output:
                found.setdefault(member.layer, []).extend(member.positions.tolist())
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    return [
        name
        for name, layer in network.backbone.named_modules(prefix="backbone")
        if isinstance(layer, kinds)
        and sorted(found.get(name, [])) != list(range(len(layer.get_parameter("weight"))))
    ]
