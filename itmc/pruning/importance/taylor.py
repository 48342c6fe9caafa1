"""Importance by a first-order Taylor expansion of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.pruning.groups import Group, Member
from itmc.pruning.importance.criterion import Criterion, Scores, normalised
from itmc.pruning.importance.judges import (
    affine_norms,
    are_scale_free,
    columns,
    producers,
    readers,
    rows,
    summed,
)


class Taylor(Criterion):
    """First-order Taylor importance of a unit's gate on the loss that was backpropagated.

        mean over batches of | sum over members, images and positions of z * dL/dz |

    (Molchanov et al., ICLR 2017, eq. 7, with the sum over a batch and over coupled members taken
    before the absolute value: it is dL/dg at g = 1 of one gate g on all of the unit's channels.)
    With L = L_TKD it is ITMC's criterion.

    It needs no hook: for an affine layer z = w * x + b the sum of z * dL/dz over a batch equals
    w * dL/dw + b * dL/db, since each is linear in z. z is the output of the BatchNorms of the
    group, where it has any, since before them the sum is zero: BatchNorm cancels the scale of its
    input. Where they have no weights, or convolutions standardise their own, the gate stands at the
    inputs of what reads the channels, behind the activation. In other groups without BatchNorm it
    stands at the outputs of convolutions and linear layers.
    """

    needs_gradients: ClassVar[bool] = True

    def __init__(self) -> None:
        self.totals: Scores = {}
        self.batches = 0

    @torch.no_grad()
    def observe(self, network: nn.Module, groups: tuple[Group, ...]) -> None:
        """Raises RuntimeError where no backward pass came before."""
        self.add({group.name: summed(group, _gates(network, group)).abs() for group in groups})

    def state(self) -> dict[str, Any]:
        return {"totals": dict(self.totals), "batches": self.batches}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.totals = {name: total.to(device) for name, total in state["totals"].items()}
        self.batches = state["batches"]

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        self.check_observed()
        return {g.name: normalised(self.totals[g.name] / self.batches) for g in groups}

    def add(self, gates: Scores) -> None:
        """Add the gates of one batch to the totals."""
        for name, gate in gates.items():
            total = self.totals.get(name)
            self.totals[name] = gate if total is None else total + gate
        self.batches += 1

    def check_observed(self) -> None:
        """Raise RuntimeError where nothing was."""
        if not self.batches:
            raise RuntimeError("Taylor importance was asked before any batch was observed")


def _gates(network: nn.Module, group: Group) -> list[tuple[Member, Tensor]]:
    """dL/dg at g = 1 of a gate on each channel of the layers that judge ``group``."""
    judges = affine_norms(network, group)
    if not judges and are_scale_free(network, group):
        if judges := readers(network, group):
            return [(member, _input_gates(layer)) for member, layer in judges]
        raise UsageError(
            f"the channels of layer {group.name!r} are normalised without weights that criterion "
            "'taylor' could judge them by; choose l1, l2 or fpgm"
        )
    return [(m, _output_gates(layer)) for m, layer in judges or producers(network, group)]


def _output_gates(layer: nn.Module) -> Tensor:
    """``(outputs,)``"""
    products = [rows(layer, _product(p)).sum(1) for p in layer.parameters(recurse=False)]
    total = products[0]
    for product in products[1:]:
        total = total + product
    return total.float()


def _input_gates(layer: nn.Module) -> Tensor:
    """``(inputs,)``"""
    weight = layer.get_parameter("weight")
    return columns(layer, _product(weight)).sum(1).float()


def _product(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("Taylor importance needs the gradients of a backward pass")
    return parameter * parameter.grad
