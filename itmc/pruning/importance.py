"""How much a coupled group of channels matters; every criterion normalised one layer at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.pruning.groups import Group, Member
from itmc.seeding import seed_of

Scores = dict[str, Tensor]
CriterionName = Literal["taylor", "magnitude", "uniform", "random"]


class Criterion(ABC):
    """Scores the channels of each group; the lowest go first."""

    needs_gradients = False

    def observe(self, network: nn.Module, groups: tuple[Group, ...]) -> None:  # noqa: B027
        """Take in the gradients of one batch, after backward and before the optimiser's step."""

    @abstractmethod
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        """One score a channel, ``(width,)``, by group name, comparable between layers."""


class Taylor(Criterion):
    """First-order Taylor importance of a group's gate on the loss that was backpropagated.

    ``| sum over members of activation * dL/dactivation |`` (Molchanov et al., ICLR 2017, eq. 7;
    coupled members summed before the absolute value), averaged over the batches observed. With
    L = L_TKD it is ITMC's criterion.

    The sum of activation times gradient over a batch needs no hook: for an affine layer
    z = w * x + b it equals w * dL/dw + b * dL/db, since each is linear in z. The activation is
    taken after the BatchNorm where there is one (before it the sum is zero: BatchNorm cancels
    the scale of its input).
    """

    needs_gradients = True

    def __init__(self) -> None:
        self.totals: Scores = {}
        self.batches = 0

    @torch.no_grad()
    def observe(self, network: nn.Module, groups: tuple[Group, ...]) -> None:
        for group in groups:
            gate = _sum_members(network, group, _gate_gradient).abs()
            total = self.totals.get(group.name)
            self.totals[group.name] = gate if total is None else total + gate
        self.batches += 1

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        if not self.batches:
            raise RuntimeError("Taylor importance was asked before any batch was observed")
        return {g.name: normalised(self.totals[g.name] / self.batches) for g in groups}


class Magnitude(Criterion):
    """L2 norm of the weights that produce a channel, over all coupled layers (Li et al. 2017)."""

    @torch.no_grad()
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        return {
            g.name: normalised(_sum_members(network, g, _squared_norm, producers=True).sqrt())
            for g in groups
        }


class Uniform(Criterion):
    """Position in the layer: every layer is narrowed by the same factor, first channels stay.

    It makes the narrow students; the threshold on it is the width multiplier.
    """

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        return {g.name: 1 - torch.arange(1, g.width + 1) / g.width for g in groups}


class Random(Criterion):
    """Uniformly random scores, the same for the same seed: the floor under every criterion."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        def draw(group: Group) -> Tensor:
            source = torch.Generator().manual_seed(seed_of("random", self._seed, group.name))
            return torch.rand(group.width, generator=source)

        return {group.name: draw(group) for group in groups}


def create(name: str, seed: int = 0) -> Criterion:
    """The criterion called ``name``; ``seed`` matters to ``random`` only."""
    criteria: dict[str, Callable[[], Criterion]] = {
        "taylor": Taylor,
        "magnitude": Magnitude,
        "uniform": Uniform,
        "random": lambda: Random(seed),
    }
    if name not in criteria:
        raise UsageError(f"unknown criterion {name!r}; allowed: {', '.join(criteria)}")
    return criteria[name]()


def normalised(scores: Tensor) -> Tensor:
    """``scores`` of one layer divided by their L2 norm (Molchanov et al. 2017, sec. 2.2)."""
    length: Tensor = scores.norm()
    return scores / length.clamp_min(torch.finfo(scores.dtype).tiny)


def _sum_members(
    network: nn.Module,
    group: Group,
    value: Callable[[nn.Module], Tensor],
    producers: bool = False,
) -> Tensor:
    """Sum ``value`` (one number an output channel) over the group's members, by group channel."""
    total: Tensor | None = None
    for member in _active_members(network, group, producers):
        values = value(network.get_submodule(member.layer))
        if total is None:
            total = torch.zeros(group.width, device=values.device)
        total.index_add_(0, member.roots.to(values.device), values[member.positions])
    if total is None:
        raise UsageError(f"the channels of layer {group.name!r} have no weights to be judged by")
    return total


def _active_members(network: nn.Module, group: Group, producers: bool) -> list[Member]:
    outputs = [m for m in group.members if m.is_output]
    layers = {m.layer: network.get_submodule(m.layer) for m in outputs}
    weighted = [m for m in outputs if getattr(layers[m.layer], "weight", None) is not None]
    norms = [m for m in weighted if _weight(layers[m.layer]).dim() == 1]
    others = [m for m in weighted if _weight(layers[m.layer]).dim() > 1]
    return others if producers or not norms else norms


def _gate_gradient(layer: nn.Module) -> Tensor:
    """dL/dg at g = 1 for a gate g on each output channel of an affine layer."""
    total: Tensor | None = None
    for parameter in layer.parameters(recurse=False):
        if parameter.grad is None:
            raise RuntimeError("Taylor importance needs the gradients of a backward pass")
        product = parameter * parameter.grad
        product = product.flatten(1).sum(1) if product.dim() > 1 else product
        total = product if total is None else total + product
    assert total is not None  # members without weights are left out before
    return total.float()


def _squared_norm(layer: nn.Module) -> Tensor:
    return _weight(layer).square().flatten(1).sum(1)


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)  # members without one are left out
    return weight
