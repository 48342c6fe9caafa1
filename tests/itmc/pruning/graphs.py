"""Small networks drawn at random, from blocks that couple channels in every way we know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from timm.layers.attention import Attention
from torch import Tensor, nn

from itmc.networks.build import Network
from itmc.networks.layers import Gather
from tests.itmc.helpers import images, stir

SIZE, BOTTLENECK, CLASSES = 12, 5, 3
Step = tuple[Any, ...]
"""A kind of block, and what it is made from: a number, or the blocks of its branches."""
Program = tuple[str, tuple[Step, ...]]
"""How a network ends, and its blocks."""


class Sum(nn.ModuleList):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([branch(inputs) for branch in self]).sum(0)


class Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.branch(inputs)
        return outputs + inputs


class Concat(nn.ModuleList):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([branch(inputs) for branch in self], 1)


class Excite(nn.Module):
    """Squeeze and excite."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        squeezed = self.squeeze(inputs.mean((2, 3), keepdim=True)).relu()
        excited: Tensor = self.excite(squeezed).sigmoid()
        return inputs * excited


class Attend(nn.Module):
    """Self-attention of two to four heads between the places of a map."""

    def __init__(self, width: int, number: int) -> None:
        super().__init__()
        heads = 2 + number % 3
        self.enter, self.norm = nn.Conv2d(width, 2 * heads, 1), nn.LayerNorm(2 * heads)
        self.attention = Attention(2 * heads, num_heads=heads, qkv_bias=True)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = self.enter(inputs)
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm(tokens))
        mixed: Tensor = tokens.transpose(1, 2).reshape(maps.shape)
        return mixed


class OverChannels(nn.Module):
    """LayerNorm over the channels of a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, inputs: Tensor) -> Tensor:
        normed: Tensor = self.norm(inputs.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class Standing(nn.Module):
    """A gain and an offset of each channel, which belong to no layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(width, 1, 1))
        self.offset = nn.Parameter(torch.randn(1, width, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gain + self.offset


def conv(width: int, out: int, kernel: int = 3, **options: Any) -> nn.Module:
    return nn.Conv2d(width, out, kernel, padding=kernel // 2, **options)


def normed(layer: Any) -> nn.Module:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU())


def divisor(width: int, number: int) -> int:
    """One of the divisors of ``width``, as ``number`` says."""
    divisors = [d for d in range(1, width + 1) if width % d == 0]
    return divisors[number % len(divisors)]


def grouped(width: int, number: int) -> nn.Module:
    groups = divisor(width, number)
    return conv(width, groups * (1 + number % 3), groups=groups)


def gathered(width: int, number: int) -> nn.Module:
    """Most of the channels, in another order, one perhaps twice."""
    order = torch.randperm(width)
    return Gather(order if number % 2 else torch.cat([order[1:], order[-1:]]), width)


# Blocks made from the width of their input and a number.
LEAVES: dict[str, Callable[[int, int], nn.Module]] = {
    "conv": lambda width, number: normed(conv(width, 2 + number, bias=False)),
    "bare": lambda width, number: nn.Sequential(conv(width, 2 + number), nn.PReLU(2 + number)),
    "pointwise": lambda width, number: normed(conv(width, 2 + number, 1)),
    "grouped": grouped,
    "grouped norm": lambda width, number: normed(grouped(width, number)),
    "depthwise": lambda width, _: normed(conv(width, width, groups=width, bias=False)),
    "multiplier": lambda width, number: conv(width, (1 + number % 3) * width, groups=width),
    "attention": Attend,
    "excite": lambda width, number: Excite(width, 1 + number),
    "batch norm": lambda width, _: nn.BatchNorm2d(width),
    "group norm": lambda width, number: nn.GroupNorm(divisor(width, number), width),
    "joint norm": lambda width, _: nn.GroupNorm(1, width),
    "layer norm": lambda width, _: OverChannels(width),
    "standing": lambda width, _: Standing(width),
    "gather": gathered,
}
BRANCHING = ("residual", "sum", "concat", "dense", "split")
ENDS = ("pool", "flatten", "linear")


def width_after(module: nn.Module, width: int) -> int:
    with torch.no_grad():
        return int(copy.deepcopy(module).eval()(torch.zeros(2, width, 4, 4)).shape[1])


def chain(steps: tuple[Step, ...], width: int, out: int | None = None) -> nn.Sequential:
    """Blocks one after the other; where ``out`` is given, a convolution brings them to it."""
    blocks: list[nn.Module] = []
    for step in steps:
        blocks.append(made(step, width))
        width = width_after(blocks[-1], width)
    if out is not None:
        blocks.append(conv(width, out, 1))
    return nn.Sequential(*blocks)


def made(step: Step, width: int) -> nn.Module:
    kind, argument, *others = step
    if kind == "residual":
        return Residual(chain(argument, width, out=width))
    if kind == "sum":
        return Sum([chain(argument, width, out=4), chain(others[0], width, out=4)])
    if kind == "concat":
        return Concat([chain(argument, width), chain(others[0], width)])
    if kind == "dense":
        return Concat([nn.Identity(), chain(argument, width)])
    if kind == "split":
        half = width // 2
        first, second = torch.arange(max(1, half)), torch.arange(half, width)
        branch = nn.Sequential(Gather(second, width), chain(argument, width - half))
        return Concat([Gather(first, width), branch])
    return LEAVES[kind](width, argument)


class Drawn(nn.Module):
    """A backbone from three to ``width`` channels."""

    def __init__(self, end: str, steps: tuple[Step, ...]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Sequential(normed(nn.Conv2d(3, 6, 3, 2, 1)), *chain(steps, 6))
            self.width = width_after(self.body[1:], 6)
            self.end, self.pool = end, nn.AdaptiveAvgPool2d(1 if end == "pool" else 2)
            if end != "pool":
                self.width *= 4
            if end == "linear":
                self.linear = nn.Linear(self.width, 7)
                self.width = 7

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.pool(self.body(inputs)).flatten(1)
        return self.linear(features).relu() if self.end == "linear" else features


# A reshape before a concatenation, as after attention, cannot be followed.
leaf = st.tuples(st.sampled_from(sorted(set(LEAVES) - {"attention"})), st.integers(0, 5))


def chains(depth: int, least: int = 1) -> st.SearchStrategy[tuple[Step, ...]]:
    steps: st.SearchStrategy[Step] = leaf
    if depth:
        inner = chains(depth - 1)
        branching = st.tuples(st.sampled_from(BRANCHING), inner, chains(depth - 1, 0))
        steps = st.one_of(leaf, branching)
    return st.lists(steps, min_size=least, max_size=3).map(tuple)


programs: st.SearchStrategy[Program] = st.tuples(st.sampled_from(ENDS), chains(2))


def network_of(program: Program) -> Network:
    """The network of ``program``, in eval mode; it has seen a few images."""
    backbone = Drawn(*program)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return stir(Network(backbone, backbone.width, BOTTLENECK, CLASSES), images(4, SIZE))


def around(kind: str) -> tuple[Step, ...]:
    """A block of ``kind`` between two convolutions."""
    argument = 3 if kind in LEAVES else (("conv", 4), ("grouped norm", 2))
    return ("conv", 4), (kind, argument, (("conv", 2),)), ("conv", 2)
