"""Coupled groups of channels: the channels that can only be removed together.

torch-pruning finds them by tracing; here they become plain data that names layers, so that
importance and selection need not know how the tracing works.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn


@dataclass(frozen=True)
class Member:
    """One layer of a group: channel ``positions[i]`` goes when the group's ``roots[i]`` goes."""

    layer: str
    is_output: bool
    positions: Tensor
    roots: Tensor


@dataclass(frozen=True)
class Group:
    """Channels ``0 .. width - 1`` of the layer ``name``, and all layers coupled to them."""

    name: str
    width: int
    members: tuple[Member, ...]


class Dependencies:
    """The coupled groups of a network as it is now; build it anew after each surgery."""

    def __init__(self, network: nn.Module, images: Tensor, keep: tuple[nn.Module, ...]) -> None:
        """Trace ``network`` on ``images``, ``(1, 3, S, S)``; the outputs of ``keep`` stay whole."""
        self.network = network
        training = network.training
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            network.eval()  # one image is too few for BatchNorm in train mode
            self._graph = tp.DependencyGraph().build_dependency(network, images, verbose=False)
        network.train(training)
        self._names = {module: name for name, module in network.named_modules()}
        found = [
            self._describe(group) for group in self._graph.get_all_groups(ignored_layers=list(keep))
        ]
        self.groups = tuple(group for group in found if not self._is_grouped(group))

    def remove(self, channels: dict[str, list[int]]) -> None:
        """Remove ``channels`` (by group name) from all their layers, in place."""
        for name, indices in channels.items():
            layer = self.network.get_submodule(name)
            prune = self._graph.get_pruner_of_module(layer).prune_out_channels
            self._graph.get_pruning_group(layer, prune, indices).prune(record_history=False)

    def _is_grouped(self, group: Group) -> bool:
        """Whether a convolution in groups (not depthwise) is among the members.

        Such a convolution can only lose a whole group, or as much in each; it is left alone.
        """
        layers = (self.network.get_submodule(member.layer) for member in group.members)
        return any(
            isinstance(layer, nn.Conv2d) and 1 < layer.groups < layer.out_channels
            for layer in layers
        )

    def _describe(self, group: tp.dependency.Group) -> Group:
        root = group[0].dep.target.module
        device = next(self.network.parameters()).device
        members = tuple(
            Member(
                layer=self._names[item.dep.target.module],
                is_output=self._graph.is_out_channel_pruning_fn(item.dep.handler),
                positions=torch.tensor(item.idxs, device=device),
                roots=torch.tensor(item.root_idxs, device=device),
            )
            for item in group
            if item.dep.target.module in self._names
        )
        return Group(self._names[root], len(group[0].idxs), members)
