"""What each dataset is: its domains with the papers' letters, its classes, its image counts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from itmc.domains import digits
from itmc.errors import UsageError


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset. ``counts`` and ``letters`` are by domain; classes in the papers' order."""

    name: str
    kind: Literal["embedded", "folder"]
    counts: Mapping[str, int]
    letters: Mapping[str, str]
    classes: tuple[str, ...]
    stored_size: int
    """Side of the stored square images, in pixels."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains, in the papers' order."""
        return tuple(self.counts)

    def domain(self, name: str) -> str:
        """The domain called ``name``, or that the papers give the letter ``name``."""
        by_letter = {letter: domain for domain, letter in self.letters.items()}
        if name not in self.counts and name not in by_letter:
            allowed = [f"{d} ({self.letters[d]})" for d in self.domains]
            raise UsageError(f"{self.name} has no domain {name!r}; allowed: {', '.join(allowed)}")
        return by_letter.get(name, name)

    def task(self, text: str) -> tuple[str, str]:
        """``(source, target)`` of a task written ``A->W`` or ``amazon->webcam``."""
        sides = re.fullmatch(r"\s*(\S+?)\s*(?:->|→)\s*(\S+)\s*", text)
        if sides is None:
            raise UsageError(
                f"task {text!r} is not written SOURCE->TARGET, such as "
                f"'{self.domains[0]}->{self.domains[1]}'"
            )
        source, target = self.domain(sides[1]), self.domain(sides[2])
        if source == target:
            raise UsageError(f"task {text!r} goes from a domain to itself")
        return source, target

    def tasks(self) -> tuple[tuple[str, str], ...]:
        """All ordered pairs of domains."""
        return tuple((s, t) for s in self.domains for t in self.domains if s != t)


_OFFICE31_CLASSES = (
    "back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp desktop_computer "
    "file_cabinet headphones keyboard laptop_computer letter_tray mobile_phone monitor mouse mug "
    "paper_notebook pen phone printer projector punchers ring_binder ruler scissors speaker "
    "stapler tape_dispenser trash_can"
)

CATALOG: Mapping[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name=digits.NAME,
            kind="embedded",
            counts={"hand": 1797, "print": 2000, "scene": 2000},
            letters={"hand": "H", "print": "P", "scene": "S"},
            classes=digits.CLASSES,
            stored_size=32,
        ),
        # Saenko et al., ECCV 2010.
        DatasetSpec(
            name="office31",
            kind="folder",
            counts={"amazon": 2817, "dslr": 498, "webcam": 795},
            letters={"amazon": "A", "dslr": "D", "webcam": "W"},
            classes=tuple(_OFFICE31_CLASSES.split()),
            stored_size=256,
        ),
    )
}


def dataset(name: str) -> DatasetSpec:
    """The dataset called ``name``; UsageError names what there is."""
    if name not in CATALOG:
        raise UsageError(f"unknown dataset {name!r}; allowed: {', '.join(CATALOG)}")
    return CATALOG[name]
