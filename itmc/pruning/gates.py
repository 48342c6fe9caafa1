"""Gates on the channels of a network, which learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.pruning.groups import Group
from itmc.pruning.importance import Scores
from itmc.pruning.importance.judges import affine_norms, are_scale_free, producers


class Gates:
    """One factor a unit of each coupled group, on what the layers put out that judge the group.

    These are its affine norms, else its convolutions and linear layers, as in ``Taylor``, whose
    gates have the value 1. All are linear in their weights and biases, so the gates are multiplied
    into these, not into the outputs: before the activation too where a layer has one of its own,
    and with the gradient dL/dg by autograd. A zero is what pruning leaves but for norms over
    several channels, which count it, and for parameters that stand alone.
    """

    def __init__(self, network: nn.Module, groups: tuple[Group, ...]) -> None:
        """All gates at 1. Raises UsageError where a group has no layer for them."""
        self._judges = {group.name: _judges(network, group) for group in groups}
        if not groups:
            raise UsageError("no channels of this network can be masked; choose another --backbone")
        device = next(network.parameters()).device
        self.values: Scores = {
            group.name: torch.ones(group.width, device=device, requires_grad=True)
            for group in groups
        }

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Forward passes inside are those of the gated network; after it nothing has changed."""
        gated = list(self._gated(network))
        try:
            for layer, name, _, product in gated:
                layer._parameters[name] = product  # type: ignore[assignment]  # as functional_call
            yield
        finally:
            for layer, name, parameter, _ in gated:
                layer._parameters[name] = parameter

    @torch.no_grad()
    def fold(self, network: nn.Module) -> None:
        """Multiply the gates into ``network`` for good: it computes the same without them."""
        for _, _, parameter, product in list(self._gated(network)):
            parameter.copy_(product)

    def _gated(self, network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter, Tensor]]:
        """Layers, and for each weight or bias its name, itself and its product with the gates."""
        factors: dict[str, Tensor] = {}
        for group, judges in self._judges.items():
            for name, positions, roots in judges:
                if name not in factors:
                    width = len(network.get_parameter(f"{name}.weight"))
                    factors[name] = self.values[group].new_ones(width)
                gates = self.values[group][roots]
                factors[name] = factors[name].index_copy(0, positions, gates)
        for name, factor in factors.items():
            layer = network.get_submodule(name)
            for kind, parameter in layer.named_parameters(recurse=False):
                product = parameter * factor.to(parameter.dtype).view(
                    -1, *[1] * (parameter.dim() - 1)
                )
                yield layer, kind, parameter, product


def _judges(network: nn.Module, group: Group) -> list[tuple[str, Tensor, Tensor]]:
    """Layers by name, and which of their outputs go with which units."""
    judges = affine_norms(network, group)
    if not judges and not are_scale_free(network, group):
        judges = producers(network, group)
    if not judges:
        raise UsageError(
            f"the channels of layer {group.name!r} cannot be masked: they are normalised without "
            "weights, or have none; choose another --backbone"
        )
    return [(member.layer, member.positions, member.roots) for member, _ in judges]
