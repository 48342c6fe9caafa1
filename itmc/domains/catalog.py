"""What each dataset is. One YAML file in ``datasets/`` declares one, and nothing else does."""

from __future__ import annotations

import re
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from itmc.config import Frozen
from itmc.domains.fetch import File
from itmc.errors import UsageError

DATASETS = Path(__file__).parent / "datasets"


class Source(Frozen):
    """One place that has all the images: the files to get, which are archives or arrays."""

    files: tuple[File, ...] = Field(min_length=1)


class DomainSpec(Frozen):
    """One domain of a dataset."""

    letter: str | None = None
    """What papers call it."""
    count: int | None = Field(None, ge=1)
    """Official number of images."""
    tested: int = Field(0, ge=0)
    """How many of them are an official test part: judged on, never trained on. 0: there is none,
    and a target is judged on the images that it was trained on without labels, as is usual."""
    format: Literal["images", "mnist", "usps", "svhn"] = "images"
    """Image files, or arrays as these three datasets were published."""
    folders: tuple[str, ...] = ()
    """Other names that its folder goes by."""
    lists: tuple[str, ...] = ()
    """Names of text files with a path and a class a line, where the dataset has such."""
    tested_lists: tuple[str, ...] = ()
    """The same, of the test part."""
    labelled: bool = True
    """Whether the classes of its images are known; only a labelled domain can be a source."""
    per_class: tuple[int, ...] = ()
    """Number of images of each class, where files are ``numbered``."""
    members: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Sha256 of the sorted lines ``<class>/<file name>``, where only lists have the names."""


class DatasetSpec(Frozen):
    """One dataset."""

    name: str = Field(pattern=r"^[^/\\\x00.][^/\\\x00]*$")
    title: str = ""
    """Its name in papers."""
    citation: str = ""
    licence: str = ""
    """What may be done with the images, as far as it is known."""
    homepage: str = ""
    """Where a person finds it."""
    embedded: bool = False
    """Whether this program makes the images itself."""
    own: str = ""
    """Of the user's own images, of which nobody else knows what belongs to them: a key that tells
    folders of one name apart. Empty for all others."""
    classes: tuple[str, ...]
    """In the papers' order."""
    aliases: dict[str, str] = Field(default_factory=dict)
    """Other names of class folders, beside spellings that differ in case, blanks, dashes."""
    domains: dict[str, DomainSpec]
    """In the papers' order."""
    numbered: str | None = None
    """File names within a class, from 1 on, such as ``frame_{:04d}.jpg``."""
    checksums: str | None = None
    """File in ``datasets/``: a line ``<domain>/<class> <sha256>...`` with the first 8 digits of
    each image's, in the order of their numbers."""
    stored_size: int = Field(256, ge=8)
    """Side of the stored square images, in pixels."""
    sources: tuple[Source, ...] = ()
    """Where to get it; tried in turn."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, domain in self.domains.items():
            if domain.per_class and len(domain.per_class) != len(self.classes):
                raise ValueError(f"{name}.per_class has not one number for each class")
            if domain.per_class and sum(domain.per_class) != domain.count:
                raise ValueError(f"{name}.per_class does not add up to its count")
            if domain.count is not None and domain.tested >= domain.count:
                raise ValueError(f"{name}.tested leaves nothing to train on")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is there twice")
        called = list(self.letters.values())
        if len(set(called)) != len(called):
            raise ValueError(f"two domains have one letter ({', '.join(called)})")
        return self

    @cached_property
    def letters(self) -> dict[str, str]:
        """What papers call each domain; its name where they have no letter for it."""
        return {name: domain.letter or name for name, domain in self.domains.items()}

    def domain(self, name: str) -> str:
        """The domain called ``name``, or that the papers give the letter ``name``."""
        by_letter = {letter: domain for domain, letter in self.letters.items()}
        if name not in self.domains and name not in by_letter:
            allowed = [
                domain if letter == domain else f"{domain} ({letter})"
                for domain, letter in self.letters.items()
            ]
            raise UsageError(f"{self.name} has no domain {name!r}; allowed: {', '.join(allowed)}")
        return name if name in self.domains else by_letter[name]

    def task(self, text: str) -> tuple[str, str]:
        """``(source, target)`` of a task written ``A->W`` or ``amazon->webcam``."""
        sides = re.fullmatch(r"\s*(.+?)\s*(?:->|→)\s*(.+?)\s*", text)
        if sides is None:
            one, other, *_ = [*self.domains, "TARGET"]
            raise UsageError(
                f"task {text!r} is not written SOURCE->TARGET, such as '{one}->{other}'"
            )
        source, target = self.domain(sides[1]), self.domain(sides[2])
        if source == target:
            raise UsageError(f"task {text!r} goes from a domain to itself")
        return source, target

    def tasks(self) -> tuple[tuple[str, str], ...]:
        """All ordered pairs of domains whose source has labels."""
        sources = [name for name, domain in self.domains.items() if domain.labelled]
        return tuple((s, t) for s in sources for t in self.domains if s != t)

    @property
    def store_name(self) -> str:
        """Its folder in the store."""
        return f"{self.name}-{self.own}" if self.own else self.name

    @property
    def count(self) -> int | None:
        """Official number of images of all domains together, where it is known."""
        counts = [domain.count for domain in self.domains.values()]
        return None if None in counts else sum(count or 0 for count in counts)


def names() -> list[str]:
    """The datasets that are declared."""
    return sorted(path.stem for path in DATASETS.glob("*.yaml"))


@cache
def dataset(name: str) -> DatasetSpec:
    """The dataset called ``name``; UsageError names what there is."""
    if name not in names():
        raise UsageError(f"unknown dataset {name!r}; allowed: {', '.join(names())}")
    content: dict[str, Any] = yaml.safe_load((DATASETS / f"{name}.yaml").read_text())
    return DatasetSpec.model_validate({"name": name, **content})


def checksums(spec: DatasetSpec) -> dict[str, str]:
    """First 8 digits of the sha256 of official images, by ``<domain>/<class>/<file>``."""
    if spec.checksums is None or spec.numbered is None:
        return {}
    known: dict[str, str] = {}
    for line in (DATASETS / spec.checksums).read_text().splitlines():
        folder, *digits = line.split()
        for number, start in enumerate(digits, start=1):
            known[f"{folder}/{spec.numbered.format(number)}"] = start
    return known
