"""Coupled groups of channels: the channels that can only be removed together.

The graph finds them by tracing; here they become plain data that names layers, so that
importance and selection need not know how the tracing works.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from itmc.errors import UsageError, first_line
from itmc.networks.kinds import ATTENTION, PATCH_MERGING
from itmc.networks.layers import Gather
from itmc.pruning.blocks import blocks_of, width_of
from itmc.pruning.removal import Positions, remove

if TYPE_CHECKING:
    from itmc.pruning.tracing import Graph

# What torch-pruning raises where it takes an operation for another one.
_MISREAD = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


_Reached = dict[tuple[Any, bool], dict[int, int]]
"""By node and side (True: outputs), positions and what each goes with."""


@dataclass(frozen=True)
class Member:
    """One layer of a group: position ``positions[i]`` goes when the group's unit ``roots[i]`` goes.

    ``layer`` is the name of a module or of a parameter that stands alone. Positions count outputs
    where ``is_output``, else inputs. Importance looks at members that are ``judged``.
    """

    layer: str
    is_output: bool
    positions: Tensor
    roots: Tensor
    judged: bool = True


@dataclass(frozen=True)
class Group:
    """Units ``0 .. width - 1`` of channels of the layer ``name``, and all that is coupled to them.

    A unit is what can only go as a whole: one channel, or ``unit`` channels where a convolution in
    groups, a GroupNorm or an attention head is among the members.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    unit: int = 1
    shared: tuple[frozenset[int], ...] = ()
    """Units that a layer has a part in; where that is not all, one of them has to stay for it."""


class Dependencies:
    """The coupled groups of a network as it is now; build it anew after each surgery."""

    def __init__(
        self, network: nn.Module, images: Tensor, keep: tuple[nn.Module, ...] = ()
    ) -> None:
        """Trace ``network`` on ``images``, ``(1, 3, S, S)``.

        The outputs of ``keep`` stay whole, and those that are the network's own. Raises UsageError
        where the channels of a layer cannot be followed.
        """
        from itmc.pruning.tracing import Graph  # loads torch-pruning, and it timm and torchvision

        self.network = network
        self._device = images.device
        self._names = {module: name for name, module in network.named_modules()}
        self.parameters: dict[str, int] = {}
        """Parameters that stand alone, and the dimension of their channels."""
        self.whole: dict[str, str] = {}
        """Layers whose channels stay though they need not by ``keep``, and why."""
        try:
            self.groups = (*self._trace(Graph(network, images), set(keep)), *self._heads())
        except _MISREAD as error:
            raise UsageError(
                f"this backbone cannot be pruned: its operations cannot be followed "
                f"({type(error).__name__}: {first_line(error)}); choose another --backbone, or "
                "uncompressed references only"
            ) from error

    def _trace(self, graph: Graph, keep: set[nn.Module]) -> Iterator[Group]:
        seen: dict[nn.Module, set[int]] = defaultdict(set)
        for root in graph.roots():
            starts = sorted(set(range(graph.get_out_channels(root))) - seen[root.module])
            if not starts:
                continue
            reached, parts = graph.closure(root, starts)
            outputs = {node.module for node, is_output in reached if is_output}
            for (node, is_output), known in reached.items():
                if is_output:
                    seen[node.module] |= set(known)
            is_final = any(not node.outputs for node, is_output in reached if is_output)
            if is_final or keep & outputs:
                continue
            name = self._names[root.module]
            reason = _obstacle(reached)
            if reason:
                self.whole[name] = reason
                continue
            # Units in the order of their first channel.
            numbers = {part: unit for unit, part in enumerate(sorted(set(parts.values())))}
            units = {start: numbers[part] for start, part in parts.items()}
            members = [
                member
                for (node, is_output), known in reached.items()
                for member in self._describe(graph, node, is_output, known, units)
            ]
            if len(numbers) < 2:
                self.whole[name] = "all of its channels can only go together"
                continue
            size = -(-len(units) // len(numbers))
            shared = {frozenset(m.roots.tolist()) for m in members} | set(_gathered(reached, units))
            partial = tuple(part for part in shared if 0 < len(part) < len(numbers))
            yield Group(name, len(numbers), tuple(members), size, partial)

    def _describe(
        self, graph: Graph, node: Any, is_output: bool, known: dict[int, int], units: dict[int, int]
    ) -> Iterator[Member]:
        positions = sorted(known)
        roots = [units[known[position]] for position in positions]
        layer = node.module
        if isinstance(layer, nn.Parameter):
            name = graph._param_to_name[layer]
            self.parameters[name] = node.pruning_dim
            yield self._member(name, True, positions, roots, judged=False)
            return
        name = self._names.get(layer)
        if name is None or isinstance(layer, nn.Identity):  # an operation, not a layer
            return
        if layer in ATTENTION:
            inner = "proj" if is_output else "qkv"
            yield self._member(f"{name}.{inner}", is_output, positions, roots)
        elif layer in PATCH_MERGING and not is_output:
            width = layer.reduction.in_features // 4
            places = [position + k * width for k in range(4) for position in positions]
            yield self._member(f"{name}.norm", True, places, roots * 4)
            yield self._member(f"{name}.reduction", False, places, roots * 4)
        elif layer in PATCH_MERGING:
            yield self._member(f"{name}.reduction", True, positions, roots)
        else:
            judged = getattr(layer, "weight", None) is not None
            yield self._member(name, is_output, positions, roots, judged)

    def _heads(self) -> Iterator[Group]:
        """The heads of each attention: queries, keys, values and what reads them."""
        for name, layer in self.network.named_modules():
            if layer not in ATTENTION:
                continue
            if layer.num_heads < 2:
                self.whole[f"{name}.qkv"] = "all of its channels can only go together"
                continue
            heads, channels = layer.num_heads, layer.proj.in_features
            roots = [channel // (channels // heads) for channel in range(channels)]
            each = list(range(channels))
            members = [
                self._member(f"{name}.qkv", True, [c + channels * k for c in each], roots, k == 2)
                for k in range(3)  # a head is judged by its values: its output is linear in them
            ]
            members.append(self._member(f"{name}.proj", False, each, roots))
            if hasattr(layer, "relative_position_bias_table"):
                table = f"{name}.relative_position_bias_table"
                self.parameters[table] = 1
                columns = list(range(heads))
                members.append(self._member(table, True, columns, columns, judged=False))
            yield Group(f"{name}.qkv", heads, tuple(members), channels // heads)

    def _member(
        self,
        layer: str,
        is_output: bool,
        positions: list[int],
        roots: list[int],
        judged: bool = True,
    ) -> Member:
        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, device=self._device)

        return Member(layer, is_output, tensor(positions), tensor(roots), judged)

    def channels(self, units: dict[str, list[int]]) -> dict[str, int]:
        """How many channels of each group's first layer ``units`` (by group name) are."""
        size = {group.name: group.unit for group in self.groups}
        return {name: size[name] * len(indices) for name, indices in units.items()}

    def remove(self, units: dict[str, list[int]]) -> None:
        """Remove ``units`` (by group name) from all their layers, in place."""
        remove(self.network, self.positions(units), self.parameters)

    def positions(self, units: dict[str, list[int]]) -> Positions:
        """The positions that go with ``units``, by layer and side (True: outputs)."""
        groups = {group.name: group for group in self.groups}
        found: Positions = {}
        for name, indices in units.items():
            gone = torch.tensor(indices, device=self._device)
            for member in groups[name].members:
                places = member.positions[torch.isin(member.roots, gone)].tolist()
                found.setdefault((member.layer, member.is_output), []).extend(places)
        return {key: sorted(places) for key, places in found.items() if places}


def _gathered(reached: _Reached, units: dict[int, int]) -> Iterator[frozenset[int]]:
    """The units that each ``Gather`` hands on."""
    for (node, _), known in reached.items():
        if isinstance(node.module, Gather):
            used = set(known) & set(node.module.index.tolist())
            yield frozenset(units[known[position]] for position in used)


def _obstacle(reached: _Reached) -> str | None:
    """Why the channels of a closure must stay, if they must."""
    for (node, _), known in reached.items():
        if isinstance(node.module, nn.modules.conv._ConvTransposeNd):
            return "a transposed convolution is among its layers"
        blocks = blocks_of(node.module)
        if blocks > 1:
            width = width_of(node.module) // blocks
            if len(known) != width * len({position // width for position in known}):
                return "it shares a group of channels with another layer"
    return None
