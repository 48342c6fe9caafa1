"""Choose the channels that go, and remove them: least important first, until the budget is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from itmc.cost import count_macs, layer_macs
from itmc.errors import UsageError, first_line
from itmc.pruning.groups import Dependencies, Group
from itmc.pruning.importance import Scores

# The reached share of removed MACs may differ from the asked one by this much (one point).
TOLERANCE = 0.01
# Selection stops within half of that, above or below the target.
_SLACK = TOLERANCE / 2


@dataclass(frozen=True)
class Limits:
    """What a selection must respect: floors (channels by group), and a multiple for widths."""

    floors: dict[str, int] = field(default_factory=dict)
    round_to: int = 1

    def floor(self, group: Group) -> int:
        """The narrowest that ``group`` may become; never zero channels."""
        return min(group.width, max(1, self.round_to, self.floors.get(group.name, 1)))


def floors(groups: Iterable[Group], share: float, at_least: int) -> dict[str, int]:
    """Floors as a ``share`` of the unpruned widths, and ``at_least`` so many channels."""
    return {g.name: max(at_least, round(share * g.width)) for g in groups}


class MacModel:
    """MACs of a network as a function of how many channels of which group are gone.

    A convolution or linear layer costs in proportion to its outputs times the inputs that each of
    them reads; a depthwise convolution reads one, so only its outputs count.
    """

    def __init__(self, network: nn.Module, images: Tensor, groups: Iterable[Group]) -> None:
        self._layers = {n: float(m) for n, m in layer_macs(network, images).items() if m}
        self.total = sum(self._layers.values())
        self._sizes = {name: _sizes(network.get_submodule(name)) for name in self._layers}
        self._left = {name: list(size) for name, size in self._sizes.items()}
        # For each group and channel: which sides of which layers shrink, by how much.
        self._effects: dict[str, list[Counter[tuple[str, int]]]] = {}
        for group in groups:
            effects: list[Counter[tuple[str, int]]] = [Counter() for _ in range(group.width)]
            for member in group.members:
                if member.layer in self._layers:
                    side = 0 if member.is_output else 1
                    for root in member.roots.tolist():
                        effects[root][member.layer, side] += 1
            self._effects[group.name] = effects

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


def select(
    groups: tuple[Group, ...],
    scores: Scores,
    model: MacModel,
    target: float,
    slack: float,
    limits: Limits,
) -> dict[str, list[int]]:
    """Channels to remove, least important first over all layers, until ``target`` MACs are left.

    A unit of channels that would fall more than ``slack`` MACs below the target is passed over for
    cheaper ones. Where those do not reach it, the cheapest of the dear ones goes too, and the most
    important of what was removed is put back, where that leads nearer to the target and at most
    ``slack`` MACs above it.
    """
    removed: list[tuple[str, list[int]]] = []
    too_dear: dict[str, list[int]] = {}
    for _, name, channels in _ranked_units(groups, scores, limits):
        if model.total <= target:
            break
        if name in too_dear or model.after(name, channels) < target - slack:
            too_dear.setdefault(name, channels)  # and what is more important in its group stays
            continue
        model.remove(name, channels)
        removed.append((name, channels))
    if model.total > target + slack and too_dear:
        name = max(too_dear, key=lambda name: model.after(name, too_dear[name]))
        model.remove(name, too_dear[name])
        removed.append((name, too_dear[name]))
    return _without_excess(removed, model, target, slack)


def _without_excess(
    removed: list[tuple[str, list[int]]], model: MacModel, target: float, slack: float
) -> dict[str, list[int]]:
    """Channels by group of the units ``removed``, but for those that can be put back."""
    settled: set[str] = set()  # what is less important than a unit that stays away stays away too
    kept_away: dict[str, list[int]] = {}
    for name, channels in reversed(removed):
        after = model.after(name, channels, restored=True)
        is_nearer = abs(after - target) < abs(model.total - target)
        if name not in settled and is_nearer and after <= target + slack:
            model.remove(name, channels, restored=True)
        else:
            settled.add(name)
            kept_away.setdefault(name, []).extend(channels)
    return {name: sorted(channels) for name, channels in kept_away.items()}


def meets(macs: float, target: float, reference: float) -> bool:
    """Whether a network of ``macs`` needs no (more) pruning to ``target``."""
    return macs <= target + _SLACK * reference


def prune_to(
    network: nn.Module,
    dependencies: Dependencies,
    scores: Scores,
    images: Tensor,
    target: float,
    reference: float,
    limits: Limits,
    is_final: bool = True,
) -> dict[str, list[int]]:
    """Prune ``network`` in place until at most ``target`` MACs are left; returns what was removed.

    ``reference`` is the unpruned network's count; ``images`` one example, ``(1, 3, S, S)``.
    Raises UsageError where the floors forbid the target by more than one point of ``reference``,
    or where, ``is_final``, the widths are too coarse not to remove a point too much.
    """
    model = MacModel(network, images, dependencies.groups)
    removed = select(dependencies.groups, scores, model, target, _SLACK * reference, limits)
    dependencies.remove(removed)
    network.to(memory_format=torch.channels_last)
    try:
        reached = count_macs(network, images)
    except RuntimeError as error:
        raise UsageError(
            f"this backbone does not work with fewer channels ({first_line(error)}); choose "
            "another --backbone, or uncompressed references only"
        ) from error
    if abs(reached - model.total) > 1e-3 * reference:
        raise RuntimeError(
            f"the model of MACs ({model.total:.0f}) and fvcore ({reached}) disagree after surgery"
        )
    if reached - target > TOLERANCE * reference:
        raise UsageError(
            f"compression {1 - target / reference:.3f} cannot be reached: with the floors on the "
            f"widths {1 - reached / reference:.3f} of the MACs can be removed; ask for less, or "
            "lower the floors (min_width, min_share) or round_to"
        )
    if is_final and target - reached > TOLERANCE * reference:
        raise UsageError(
            f"compression {1 - target / reference:.3f} cannot be met: in steps of "
            f"{limits.round_to} channels it becomes {1 - reached / reference:.3f}; lower round_to"
        )
    return removed


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Re-estimate the BatchNorm statistics of ``network`` over ``batches`` of images, in place."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    for images in batches:
        network(images)
    network.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """Outputs, and the inputs that each output reads (1 for a depthwise convolution)."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.shape[0], weight.shape[1]


def _ranked_units(
    groups: tuple[Group, ...], scores: Scores, limits: Limits
) -> list[tuple[float, str, list[int]]]:
    """Units of channels that may go, the least important first.

    The channels of a group go in order of their score, as many at a time as bring its width to
    the next multiple; a unit's score is the mean of its channels'.
    """
    units = []
    for group in groups:
        values = scores[group.name].double().cpu()
        order = torch.argsort(values, stable=True).tolist()
        width, start, floor = group.width, 0, limits.floor(group)
        while True:
            step = width % limits.round_to or limits.round_to
            if width - step < floor:
                break
            channels = order[start : start + step]
            units.append((float(values[channels].mean()), group.name, channels))
            width, start = width - step, start + step
    # Stable: within a group the order stays, so a unit never goes before the one below it.
    return sorted(units, key=lambda unit: unit[0])
