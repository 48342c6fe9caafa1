"""What each unit of channels costs, so that a selection can be made before anything is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from itmc.cost import layer_macs
from itmc.networks.kinds import ATTENTION
from itmc.pruning.blocks import blocks_of, width_of
from itmc.pruning.groups import Group, Member


class MacModel:
    """MACs of a network as a function of how many units of which group are gone.

    A convolution or linear layer costs in proportion to its outputs times the inputs that each of
    them reads; a depthwise one, or one in groups that go as a whole, to its outputs. The products
    inside an attention cost in proportion to its heads.
    """

    def __init__(self, network: nn.Module, images: Tensor, groups: Iterable[Group]) -> None:
        self._layers = {n: float(m) for n, m in layer_macs(network, images).items()}
        self.total = sum(self._layers.values())
        modules = dict(network.named_modules())
        self._sizes = {name: _sizes(modules[name]) for name in self._layers}
        self._left = {name: list(size) for name, size in self._sizes.items()}
        # For each group and unit: which sides of which layers shrink, by how much.
        self._effects: dict[str, list[Counter[tuple[str, int]]]] = {}
        for group in groups:
            effects: list[Counter[tuple[str, int]]] = [Counter() for _ in range(group.width)]
            for member in group.members:
                for entry in self._entries(member, modules):
                    for root in member.roots.tolist():
                        effects[root][entry] += 1
            self._effects[group.name] = effects

    def _entries(self, member: Member, modules: dict[str, nn.Module]) -> list[tuple[str, int]]:
        """What gets cheaper with ``member``: layers, and their outputs (0) or inputs (1)."""
        owner = member.layer.rpartition(".")[0]
        reads_heads = member.layer == f"{owner}.proj" and not member.is_output
        if reads_heads and modules[owner] in ATTENTION:
            return [(member.layer, 1), (owner, 0)]
        if member.layer not in self._layers:
            return []
        if member.is_output:
            return [(member.layer, 0)]
        return [(member.layer, 1)]

    def after(self, group: str, channels: list[int], restored: bool = False) -> float:
        """Total MACs once ``channels`` of ``group`` are removed as well (or are put back)."""
        total = self.total
        for layer, left in self._changed(group, channels, restored).items():
            total += self._macs(layer, left) - self._macs(layer, self._left[layer])
        return total

    def remove(self, group: str, channels: list[int], restored: bool = False) -> None:
        """Take ``channels`` of ``group`` away (or put them back)."""
        self.total = self.after(group, channels, restored)
        self._left.update(self._changed(group, channels, restored))

    def _changed(self, group: str, channels: list[int], restored: bool) -> dict[str, list[int]]:
        changed: dict[str, list[int]] = {}
        for channel in channels:
            for (layer, side), count in self._effects[group][channel].items():
                left = changed.setdefault(layer, list(self._left[layer]))
                left[side] += count if restored else -count
        return changed

    def _macs(self, layer: str, left: list[int]) -> float:
        outputs, inputs = self._sizes[layer]
        return self._layers[layer] * (left[0] / outputs) * (left[1] / inputs)


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """Outputs, and the inputs that each output reads (1 where they go with the outputs)."""
    if layer in ATTENTION:
        heads: Any = layer.proj
        return heads.in_features, 1
    if blocks_of(layer) > 1:
        return width_of(layer), 1
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and weight.dim() > 1:
        return weight.shape[0], weight.shape[1]
    return 1, 1
