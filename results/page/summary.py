"""Who leads in each setting at each compression, by the average over the tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from results.aggregate import DECIMALS
from results.page.data import EntryData, MethodData, PageData
from results.records import plural
from results.render import block_title, figure
from results.schema import AVERAGE
from results.sheet import MISSING

_OURS = "itmc"


@dataclass(frozen=True)
class Standing:
    """A method's label, and its accuracy as text."""

    label: str
    accuracy: str


@dataclass(frozen=True)
class Lead:
    """The compressed methods at one compression.

    Attributes:
        lead: the best minus the second, in points, as text.
        ours: ITMC, or the best of its variants; None where it has no average.
        place: its place among all of them, in words.
    """

    compression: str
    best: Standing
    second: Standing | None
    lead: str
    ours: Standing | None
    place: str


@dataclass(frozen=True)
class SettingSummary:
    """The leads of one setting; none where no seed of a compressed method has all tasks."""

    title: str
    selection: str
    tasks: str
    leads: tuple[Lead, ...]


def summary(data: PageData) -> tuple[SettingSummary, ...]:
    """One a setting, in the order of the page."""
    blocks: dict[tuple[int, float], list[EntryData]] = defaultdict(list)
    for entry in data.entries:
        if entry.task == AVERAGE and entry.compression > 0:
            blocks[entry.setting, entry.compression].append(entry)

    def leads(number: int) -> Iterator[Lead]:
        for (setting, compression), block in sorted(blocks.items()):
            if setting == number:
                yield _lead(compression, block, data.methods)

    return tuple(
        SettingSummary(
            setting.title,
            setting.selection,
            plural(len(setting.tasks), "task"),
            tuple(leads(number)),
        )
        for number, setting in enumerate(data.settings)
    )


def _lead(compression: float, block: list[EntryData], methods: tuple[MethodData, ...]) -> Lead:
    def shown(entry: EntryData) -> float:
        # As printed: what reads alike shares a place.
        return round(entry.mean, DECIMALS)

    # Sorting is stable: of two alike the one that tables have first comes first.
    ranked = sorted(block, key=shown, reverse=True)
    best, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    ours = next((entry for entry in ranked if methods[entry.method].group == _OURS), None)
    place = MISSING
    if ours is not None:
        better = sum(shown(entry) > shown(ours) for entry in ranked)
        place = f"{better + 1} of {len(ranked)}"
    return Lead(
        compression=block_title(compression),
        best=_standing(best, methods),
        second=None if second is None else _standing(second, methods),
        lead=MISSING if second is None else figure(shown(best) - shown(second), f"z.{DECIMALS}f"),
        ours=None if ours is None else _standing(ours, methods),
        place=place,
    )


def _standing(entry: EntryData, methods: tuple[MethodData, ...]) -> Standing:
    mean, sd = (figure(value, f"z.{DECIMALS}f") for value in (entry.mean, entry.sd))
    seeds = len(entry.seeds)
    spread = f" ± {sd}" if seeds > 1 else ""
    return Standing(methods[entry.method].label, f"{mean}{spread} (n = {seeds})")
