"""Whether a copy of a dataset is the official one: which images lack, are too many, or differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from itmc.domains.catalog import DatasetSpec, checksums
from itmc.domains.layouts import Listing, Member, some


@dataclass(frozen=True)
class Membership:
    """How the images of a domain compare with the official ones."""

    members: tuple[Member, ...]
    """Those that belong to it."""
    missing: tuple[str, ...] = ()
    """Official images that are not there, as ``<class>/<file>``."""
    extra: tuple[str, ...] = ()
    """Images that are none of the official ones; they are left out."""
    notes: tuple[str, ...] = ()
    """Other differences."""

    @property
    def gaps(self) -> tuple[str, ...]:
        """All differences, a line each."""
        lines = []
        if self.missing:
            lines.append(f"{len(self.missing)} official images are missing: {some(self.missing)}")
        if self.extra:
            lines.append(f"{len(self.extra)} images are no official ones: {some(self.extra)}")
        return (*lines, *self.notes)


def compare(spec: DatasetSpec, domain: str, listing: Listing) -> Membership:
    """Compare with what the catalog knows: the names, their digest, or at least the number.

    Images that are certainly no official ones are left out.
    """
    official = spec.domains[domain]
    if spec.numbered is not None and official.per_class:
        return _by_name(spec, domain, listing, spec.numbered)
    notes = list(listing.notes)
    count = len(listing.members)
    if official.members is not None and members_digest(spec, listing.members) != official.members:
        notes.append(f"the names of its {count} images are not those of the official list")
    if official.count is not None and count != official.count:
        notes.append(f"it has {count} images, {official.count} are official")
    tested = sum(member.tested for member in listing.members)
    if tested != official.tested and count == official.count:
        notes.append(f"{tested} of its images are for testing, {official.tested} are official")
    return Membership(listing.members, notes=tuple(notes))


def members_digest(spec: DatasetSpec, members: Iterable[Member]) -> str:
    """Sha256 of the sorted lines ``<class>/<file>``: what any way of listing them comes to."""
    lines = sorted(f"{_official_name(spec, member)}\n" for member in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def altered(spec: DatasetSpec, domain: str, digests: Mapping[str, str]) -> list[str]:
    """Images whose content is not the official one.

    ``digests``: sha256 of files by ``<class>/<file>``. Nothing where no checksums are known.
    """
    known = checksums(spec)
    return [
        name
        for name, digest in digests.items()
        if (start := known.get(f"{domain}/{name}")) is not None and not digest.startswith(start)
    ]


def official_names(spec: DatasetSpec, members: Iterable[Member]) -> list[str]:
    """``<class>/<file>`` of each image; its own name where it has no class."""
    return [_official_name(spec, member) for member in members]


def _official_name(spec: DatasetSpec, member: Member) -> str:
    if member.label < 0:
        return member.name
    return f"{spec.classes[member.label]}/{PurePosixPath(member.name).name}"


def _by_name(spec: DatasetSpec, domain: str, listing: Listing, pattern: str) -> Membership:
    expected = {
        f"{name}/{pattern.format(number)}"
        for name, count in zip(spec.classes, spec.domains[domain].per_class, strict=True)
        for number in range(1, count + 1)
    }
    found: dict[str, Member] = {}
    extra = []
    for member in listing.members:
        name = _official_name(spec, member)
        if name in expected and name not in found:
            found[name] = member
        else:  # also a second one of that name, in another folder of the class
            extra.append(name)
    return Membership(
        members=tuple(found.values()),
        missing=tuple(sorted(expected - found.keys())),
        extra=tuple(sorted(extra)),
        notes=listing.notes,
    )
