"""Distillation of the channels that survive: each follows the teacher's channel that it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.losses.precision import at_least_float32
from itmc.networks.build import Network
from itmc.parallel import counted_once, summed
from itmc.pruning.groups import Dependencies, Group, Member
from itmc.pruning.importance.judges import affine_norms, producers
from itmc.pruning.shrink import kept_layers
from itmc.training.stage import Context

Survivors = dict[str, Tensor]
"""Which unit of the unpruned network each unit was, int64 ``(width,)``, by its group's name."""


class Pair(NamedTuple):
    """Channels that the same layer puts out in student and teacher, in the same order."""

    student: Tensor
    teacher: Tensor


class SurvivorKD:
    """Mean over layers of |a_S - a_T|^2 / |a_T|^2, over images, positions and surviving channels.

    a are activations behind BatchNorm, else of convolutions and linear layers: one layer of each
    coupled group. A student that computes what the teacher does has 0, one that puts out nothing 1;
    all layers count alike. It is FitNets' hint (Romero et al., ICLR 2015, eq. 3) without a
    regressor, since surgery knows which channel of the teacher each of the student's was.
    """

    def __init__(self, weight: float, teacher: Network, context: Context) -> None:
        """``weight``: factor on it; with 0 nothing is looked at.

        Raises UsageError where the teacher is another backbone than the student.
        """
        self._weight, self._teacher_network = weight, teacher
        if weight > 0 and context.other_teacher is not None:
            raise UsageError(
                f"feature_weight {weight:g}: with another backbone as --teacher no channel of the "
                "student was one of the teacher's; set feature_weight to 0"
            )
        self._channels = _channels(context) if weight > 0 else {}
        self._pairs: dict[str, Pair] = {}
        self._student: dict[str, list[Tensor]] = {}
        self._teacher: dict[str, list[Tensor]] = {}

    def follow(self, student: Network, groups: tuple[Group, ...], survivors: Survivors) -> None:
        """Look at ``student`` and its ``groups`` as they are now."""
        self._pairs = {}
        for group in groups if self._weight > 0 else ():
            layer = _judge(student, group)
            now = _by_unit(layer)
            was = [self._channels[group.name][unit] for unit in survivors[group.name].tolist()]
            self._pairs[layer.layer] = Pair(torch.cat(now), torch.cat(was))

    @contextmanager
    def watch(self, student: Network) -> Iterator[None]:
        """Open around the forward passes of a step."""
        handles = [
            network.get_submodule(name).register_forward_hook(_Tap(seen, name))
            for network, seen in ((student, self._student), (self._teacher_network, self._teacher))
            for name in self._pairs
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def losses(self, beta: float) -> dict[str, Tensor]:
        """``weight`` * ``beta`` * the mean, of the passes watched, by name; none with weight 0.

        No gradient reaches the teacher.
        """
        if self._weight == 0:
            return {}
        terms = []
        for name, pair in self._pairs.items():
            passes = len(self._student[name])  # the teacher's last are those that guide
            student = torch.cat([a[:, pair.student] for a in self._student[name]])
            teacher = torch.cat([a[:, pair.teacher] for a in self._teacher[name][-passes:]])
            a_s, a_t = at_least_float32(student), at_least_float32(teacher.detach())
            error, size = summed((a_s - a_t).square().sum()), summed(a_t.square().sum())
            terms.append(error / size.clamp_min(torch.finfo(size.dtype).tiny))
        self._student.clear()
        self._teacher.clear()
        # Of all processes' images already, on each of them.
        term = counted_once(self._weight * beta * torch.stack(terms).mean())
        return {"student_survivors": term}


class _Tap:
    """Forward hook that keeps what a layer puts out. A class, so that it can be copied."""

    def __init__(self, seen: dict[str, list[Tensor]], name: str) -> None:
        self._seen, self._name = seen, name

    def __call__(self, layer: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            output = output.movedim(-1, 1)  # (N, ..., C), as opposed to (N, C, ...)
        # A copy, as the next layer may work in place.
        self._seen.setdefault(self._name, []).append(output.clone())


def all_units(groups: tuple[Group, ...]) -> Survivors:
    """Of an unpruned network, or of one that lost the last units of its layers: all are there."""
    return {group.name: torch.arange(group.width) for group in groups}


def without(values: dict[str, Tensor], removed: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """``values`` of the units that are left once those ``removed`` (as numbered now) are gone."""
    return {
        name: of[[unit for unit in range(len(of)) if unit not in set(removed.get(name, []))]]
        for name, of in values.items()
    }


def _channels(context: Context) -> dict[str, list[Tensor]]:
    """By group of the unpruned network, the channels of each unit in the layer that is compared."""
    network = context.unpruned_network()  # a teacher that does not learn cannot be traced
    groups = Dependencies(network, context.example, kept_layers(network)).groups
    return {group.name: _by_unit(_judge(network, group)) for group in groups}


def _judge(network: Network, group: Group) -> Member:
    return (affine_norms(network, group) or producers(network, group))[0][0]


def _by_unit(member: Member) -> list[Tensor]:
    """The channels of ``member`` by unit of its group, each in the order of positions."""
    width = int(member.roots.max()) + 1
    return [member.positions[member.roots == unit].sort().values for unit in range(width)]
