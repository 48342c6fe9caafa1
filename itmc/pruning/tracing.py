"""Which channels go together: torch-pruning's dependency graph, and what follows from it.

torch-pruning finds by tracing which layers are coupled; ``nodes`` describes to it what it does not
know. From there on positions are followed here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency.index_mapping import update_concat_index_mapping
from torch_pruning.dependency.shape_infer import infer_in_channels_recursively

from itmc.errors import UsageError
from itmc.networks.layers import Gather
from itmc.networks.modes import in_eval_mode
from itmc.pruning.blocks import blocks_of, width_of
from itmc.pruning.nodes import COMPOSITES, by_class, by_shape

Pairs = list[tuple[int, int]]
"""Positions in a layer, each with the position in the group's first layer that it goes with."""


class Graph(tp.DependencyGraph):  # type: ignore[misc]
    """The layers of a network, and which of their channels go together."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        """Trace ``network`` in eval mode on ``images``, ``(1, 3, S, S)``."""
        super().__init__()
        self._flat: dict[Any, int | None] = {}
        hooks = [
            module.register_forward_hook(_opaque)
            for module in network.modules()
            if module in COMPOSITES
        ]
        try:
            # One image is too few for BatchNorm in train mode.
            with warnings.catch_warnings(), torch.enable_grad(), in_eval_mode(network):
                warnings.simplefilter("ignore")
                self.build_dependency(
                    network, (images,), customized_pruners=by_class(network), verbose=False
                )
        finally:
            for hook in hooks:
                hook.remove()
        for node in self.module2node.values():
            # Where a parameter of three dimensions is involved, torch-pruning takes all of these
            # for concatenations of tokens. Those are told by their sums being too wide anyway.
            if not node.enable_index_mapping and isinstance(node.module, tp.ops._ConcatOp):
                node.enable_index_mapping = True
                update_concat_index_mapping(self, node)
            _map_indices(node)
        self._widest = max(
            width or 0
            for node in self.module2node.values()
            for width in (self.get_in_channels(node), self.get_out_channels(node))
        )

    def get_pruner_of_module(self, module: nn.Module) -> Any:
        """torch-pruning's plug point: how the channels of ``module`` hang together."""
        return by_shape(module) or super().get_pruner_of_module(module)

    def get_in_channels(self, module_or_node: Any) -> Any:
        """torch-pruning's, and for an image that is flattened the channels that it had."""
        if isinstance(getattr(module_or_node, "module", None), tp.ops._ReshapeOp):
            return self._flattened(module_or_node)
        return super().get_in_channels(module_or_node)

    def _flattened(self, node: Any) -> int | None:
        if node not in self._flat:
            self._flat[node] = None
            size: Sequence[int] = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
            if len(size) == 4:
                # This asks all the reshapes that follow, so what they say is kept.
                readers = {infer_in_channels_recursively(self, n, [0]) for n in node.outputs}
                if readers == {math.prod(size[1:])}:
                    self._flat[node] = size[1]
        return self._flat[node]

    def roots(self) -> Iterator[Any]:
        """Nodes whose outputs may begin a group, in the order of the network's layers."""
        order = {module: i for i, module in enumerate(self.model.modules())}
        kinds = (nn.modules.conv._ConvNd, nn.Linear)
        found = [
            node
            for node in self.module2node.values()
            if isinstance(node.module, kinds) or node.module in COMPOSITES
        ]
        yield from sorted(found, key=lambda node: order[node.module])

    def closure(
        self, root: Any, starts: Sequence[int]
    ) -> tuple[dict[tuple[Any, bool], dict[int, int]], dict[int, int]]:
        """All that must go with the outputs ``starts`` of ``root``.

        The first value: for each node and side (True: outputs), positions and the output of
        ``root`` that each goes with; the second, for each of these, the least that it cannot be
        parted from.
        """
        first = self.get_pruner_of_module(root.module).prune_out_channels
        parts = _Partition(self.get_out_channels(root))
        reached: dict[tuple[Any, bool], dict[int, int]] = {}
        waiting = [(root, first, [(i, i) for i in starts])]
        while waiting:
            node, handler, pairs = waiting.pop()
            self._check(root, node, handler, pairs)
            known = reached.setdefault((node, self.is_out_channel_pruning_fn(handler)), {})
            new = []
            for position, source in pairs:
                if position in known:
                    parts.join(source, known[position])
                else:
                    known[position] = source
                    new.append((position, source))
            if not new:
                continue
            for dependency in node.dependencies:
                if not dependency.is_triggered_by(handler):
                    continue
                # There are none where it is another branch of a concatenation.
                if mapped := _mapped(dependency.index_mapping, new):
                    waiting.append((dependency.target, dependency.handler, mapped))
        for (node, _), known in reached.items():
            _join_blocks(node.module, known, parts)
        return reached, {i: parts.find(i) for i in starts}

    def _check(self, root: Any, node: Any, handler: Any, pairs: Pairs) -> None:
        """Raise UsageError where ``node`` has no such positions: the trace misread an operation."""
        is_output = self.is_out_channel_pruning_fn(handler) and not isinstance(node.module, Gather)
        width = self.get_out_channels(node) if is_output else self.get_in_channels(node)
        if max((position for position, _ in pairs), default=0) >= (width or self._widest):
            raise UsageError(
                f"this backbone cannot be pruned: what becomes of the channels of "
                f"layer {self._module2name[root.module]!r} cannot be followed; choose another "
                "--backbone, or uncompressed references only"
            )


class _Partition:
    """Disjoint sets of 0 .. n - 1, each called by its least element (union-find)."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def find(self, item: int) -> int:
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parents[high] = low


class _Opaque(torch.autograd.Function):
    """Hides how an output came from an input; the graph then shows one step between them."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor) -> Tensor:
        return outputs.clone()


def _opaque(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
    if isinstance(outputs, tuple):
        return _opaque(module, inputs, outputs[0]), *outputs[1:]
    return _Opaque.apply(inputs[0], outputs.detach())


def _mapped(mappings: Sequence[Any], pairs: Pairs) -> Pairs:
    """``pairs`` as seen from the other end of a dependency."""
    used = [mapping for mapping in mappings if mapping is not None]
    if not used:
        return pairs
    indices = [_HybridIndex(idx=position, root_idx=source) for position, source in pairs]
    for mapping in used:
        indices = mapping(indices)
    return [(index.idx, index.root_idx) for index in indices]


def _map_indices(node: Any) -> None:
    """Where positions of inputs and outputs of ``node`` differ, tell the graph how."""
    layer = node.module
    if isinstance(layer, Gather):
        forward, backward = _gathered(layer.index.tolist())
        _map_edges(node, node.outputs, into=backward, out_of=forward)
    elif isinstance(layer, nn.modules.conv._ConvNd) and blocks_of(layer) > 1:
        inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        if inputs != outputs:
            to_inputs, to_outputs = _block(outputs, inputs), _block(inputs, outputs)
            _map_edges(node, node.inputs, into=to_outputs, out_of=to_inputs)


_Mapping = Callable[[list[Any]], list[Any]]


def _map_edges(node: Any, neighbours: Sequence[Any], into: _Mapping, out_of: _Mapping) -> None:
    """Translate indices on the edges between ``node`` and ``neighbours``.

    torch-pruning applies the mappings of an edge in order, and keeps the second place for
    concatenations: leaving the node, ours comes before it; coming in, after.
    """
    for dependency in node.dependencies:
        if any(dependency.target is n for n in neighbours):
            dependency.index_mapping[0] = out_of
    for neighbour in neighbours:
        for dependency in neighbour.dependencies:
            if dependency.target is node:
                dependency.index_mapping.append(into)


def _gathered(index: list[int]) -> tuple[_Mapping, _Mapping]:
    places: dict[int, list[int]] = {}
    for place, position in enumerate(index):
        places.setdefault(position, []).append(place)

    def forward(indices: list[Any]) -> list[Any]:
        return [
            _HybridIndex(idx=place, root_idx=i.root_idx)
            for i in indices
            for place in places.get(i.idx, [])
        ]

    def backward(indices: list[Any]) -> list[Any]:
        return [_HybridIndex(idx=index[i.idx], root_idx=i.root_idx) for i in indices]

    return forward, backward


def _block(width_here: int, width_there: int) -> _Mapping:
    """Positions in blocks of one width to all positions of the same blocks of another width."""

    def mapping(indices: list[Any]) -> list[Any]:
        return [
            _HybridIndex(idx=i.idx // width_here * width_there + offset, root_idx=i.root_idx)
            for i in indices
            for offset in range(width_there)
        ]

    return mapping


def _join_blocks(layer: nn.Module, known: dict[int, int], parts: _Partition) -> None:
    """Put together the channels of each block (of a convolution in groups, of a GroupNorm)."""
    blocks = blocks_of(layer)
    if blocks == 1:
        return
    width = width_of(layer) // blocks
    first: dict[int, int] = {}
    for position, source in known.items():
        parts.join(source, first.setdefault(position // width, source))
