"""Choose the channels that go: least important first, until the budget is met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from itmc.pruning.groups import Group
from itmc.pruning.importance import Scores
from itmc.pruning.mac_model import MacModel

Units = list[int]
"""Units of one group that go together, so that its width stays a multiple."""


@dataclass(frozen=True)
class Limits:
    """What a selection must respect: floors (units by group), and a multiple for widths."""

    floors: dict[str, int] = field(default_factory=dict)
    round_to: int = 1

    def step(self, group: Group) -> int:
        """Units that go at a time, so that widths in channels are multiples of ``round_to``."""
        return math.lcm(self.round_to, group.unit) // group.unit

    def floor(self, group: Group) -> int:
        """The fewest units that ``group`` may keep; never none."""
        return min(group.width, max(1, self.step(group), self.floors.get(group.name, 1)))


def floors(groups: Iterable[Group], share: float, at_least: int) -> dict[str, int]:
    """Floors as a ``share`` of the unpruned widths, and ``at_least`` so many channels."""
    return {g.name: max(math.ceil(at_least / g.unit), round(share * g.width)) for g in groups}


def select(
    groups: tuple[Group, ...],
    scores: Scores,
    model: MacModel,
    target: float,
    slack: float,
    limits: Limits,
) -> dict[str, list[int]]:
    """Units to remove, by group: least important first over all layers, to ``target`` MACs.

    Units that would fall more than ``slack`` MACs below the target are passed over for cheaper
    ones. Where the target is not met within ``slack`` by then, the one exchange after the other
    that leads nearest to it is made: of the least important units that stay, and the most
    important that go. Leaves ``model`` at what was selected.
    """
    order = {group.name: _in_order(group, scores, limits) for group in groups}
    choice = _Choice(model, {name: [part.units for part in order[name]] for name in order})
    ranked = [(part.score, name) for name in order for part in order[name]]
    passed_over: set[str] = set()
    # Stable: within a group the order stays, so a unit never goes before the one below it.
    for _, name in sorted(ranked, key=lambda part: part[0]):
        if model.total <= target:
            break
        if name in passed_over or choice.after(name) < target - slack:
            passed_over.add(name)  # and what is more important in its group stays
        else:
            choice.take(name)
    while abs(model.total - target) > slack and choice.exchange(target):
        pass
    return choice.taken()


class _Choice:
    """How many units of each group are taken, the least important first, and what is then left."""

    def __init__(self, model: MacModel, order: dict[str, list[Units]]) -> None:
        self.order, self._model = order, model
        self._counts = dict.fromkeys(order, 0)

    def after(self, name: str) -> float:
        """MACs left once the next units of group ``name`` are taken."""
        return self._model.after(name, self.order[name][self._counts[name]])

    def take(self, name: str) -> None:
        """Take the next units of group ``name``."""
        self._model.remove(name, self.order[name][self._counts[name]])
        self._counts[name] += 1

    def put_back(self, name: str) -> None:
        """Put the last units that were taken of group ``name`` back."""
        self._counts[name] -= 1
        self._model.remove(name, self.order[name][self._counts[name]], restored=True)

    def taken(self) -> dict[str, list[int]]:
        """The units taken, by group."""
        return {
            name: sorted(unit for units in self.order[name][:count] for unit in units)
            for name, count in self._counts.items()
            if count
        }

    def exchange(self, target: float) -> bool:
        """Take units of one group, put some of another back, or both; whether it led nearer."""
        move: tuple[str | None, str | None] = None, None
        best = abs(self._model.total - target)
        for given, taken, left in self._moves():
            if abs(left - target) < best:
                best, move = abs(left - target), (given, taken)
        given, taken = move
        if taken is not None:
            self.take(taken)
        if given is not None:
            self.put_back(given)
        return taken is not None or given is not None

    def _moves(self) -> Iterator[tuple[str | None, str | None, float]]:
        """What may be put back, what may be taken, and the MACs that are then left."""
        for taken in [None, *self._takable()]:
            if taken is not None:
                self.take(taken)
                yield None, taken, self._model.total
            for given, count in self._counts.items():
                if count and given != taken:
                    units = self.order[given][count - 1]
                    yield given, taken, self._model.after(given, units, restored=True)
            if taken is not None:
                self.put_back(taken)

    def _takable(self) -> list[str]:
        return [name for name, count in self._counts.items() if count < len(self.order[name])]


class _Part(NamedTuple):
    """Units that go together, and the mean of their scores."""

    score: float
    units: Units


def _in_order(group: Group, scores: Scores, limits: Limits) -> list[_Part]:
    """Units of ``group`` that may go, the least important first.

    As many at a time as bring its width to the next multiple.
    """
    values = scores[group.name].double().cpu()
    last = _last_of_a_layer(group, values)
    order = [unit for unit in values.argsort(stable=True).tolist() if unit not in last]
    width, multiple, found = group.width, limits.step(group), []
    while width - (step := width % multiple or multiple) >= limits.floor(group):
        units = order[group.width - width : group.width - width + step]
        if len(units) < step:
            break
        found.append(_Part(float(values[units].mean()), units))
        width -= step
    return found


def _last_of_a_layer(group: Group, values: Tensor) -> set[int]:
    """The most important unit of each layer that has a part in some units of ``group`` only.

    A split hands a layer but some of another's channels; of these too, one at least has to stay.
    """
    return {max(part, key=lambda unit: (float(values[unit]), unit)) for part in group.shared}
