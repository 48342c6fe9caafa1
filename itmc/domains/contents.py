"""What is to be stored of a domain: its images, not yet decoded, with their classes and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from itmc.config import digest
from itmc.domains import digits, store
from itmc.domains.arrays import array_files, read_arrays
from itmc.domains.catalog import DatasetSpec
from itmc.domains.decode import FILTER, BrokenImageError, decode
from itmc.domains.layouts import Member, list_domain, some
from itmc.domains.membership import altered, compare, official_names
from itmc.errors import UsageError

DRAWN = f"digits v{digits.VERSION}"
"""Identity of the embedded images."""


@dataclass(frozen=True)
class Picture:
    """One image, read and decoded."""

    pixels: NDArray[np.uint8]
    """``(S, S, 3)``."""
    content: bytes
    """The file that it came in."""


@dataclass(frozen=True)
class Contents:
    """All that is to be written of a domain."""

    dataset: str
    domain: str
    classes: tuple[str, ...]
    size: int
    labels: NDArray[np.int64]
    tested: NDArray[np.bool_]
    names: Sequence[str]
    """Of the file of each image."""
    picture: Callable[[int], Picture]
    """By row; raises BrokenImageError. Called from several threads."""
    origin: str
    """Identity of what the pictures are made from."""
    gaps: tuple[str, ...] = ()
    check: Callable[[Sequence[str]], list[str]] = lambda digests: []
    """Given the sha256 of each file, what is wrong with the files, a line each."""


def drawn(spec: DatasetSpec, domain: str) -> Contents:
    """The images that this program makes itself."""
    images, labels = digits.render(domain)
    return _arrays(spec, domain, images, labels, 0, DRAWN)


def of_images(spec: DatasetSpec, domain: str, folder: Path) -> Contents:
    """The image files of ``domain`` below ``folder``.

    Raises AbsentError where there is nothing of it, UsageError where what is there is wrong.
    """
    membership = compare(spec, domain, list_domain(spec, domain, folder))
    members = membership.members
    if not members:
        raise UsageError(
            f"{spec.name}/{domain} in {str(folder)!r} has no official image: "
            f"{'; '.join(membership.gaps)}"
        )
    official = official_names(spec, members)

    def check(digests: Sequence[str]) -> list[str]:
        wrong = altered(spec, domain, dict(zip(official, digests, strict=True)))
        return [f"{len(wrong)} images are not as published: {some(wrong)}"] if wrong else []

    return Contents(
        dataset=spec.name,
        domain=domain,
        classes=spec.classes,
        size=spec.stored_size,
        labels=np.array([member.label for member in members], np.int64),
        tested=np.array([member.tested for member in members], np.bool_),
        names=[member.name for member in members],
        picture=_from_files(members, spec.stored_size),
        origin=identity(spec, [[*_state(m.name, m.path), m.label, m.tested] for m in members]),
        gaps=membership.gaps,
        check=check,
    )


def of_arrays(spec: DatasetSpec, domain: str, folder: Path) -> Contents:
    """The images of ``domain``, which was published as arrays, below ``folder``.

    Raises AbsentError where the files are not there, UsageError where they are damaged.
    """
    official = spec.domains[domain]
    assert official.format != "images"
    origin = arrays_identity(spec, domain, folder)
    found = read_arrays(official.format, folder)
    return _arrays(spec, domain, found.images, found.labels, found.tested, origin)


def arrays_identity(spec: DatasetSpec, domain: str, folder: Path) -> str:
    """The identity of ``of_arrays`` without reading them. AbsentError where they are not there."""
    official = spec.domains[domain]
    assert official.format != "images"
    files = array_files(official.format, folder)
    return identity(spec, [_state(path.name, path) for path in files])


def identity(spec: DatasetSpec, states: list[list[object]]) -> str:
    """Of what a domain is made from: another if a file, or how it is decoded, changes."""
    return digest([store.FORMAT, spec.stored_size, FILTER.name, list(spec.classes), states])


def _arrays(
    spec: DatasetSpec, domain: str, images: NDArray[np.uint8], labels: NDArray[np.int64],
    tested: int, origin: str,
) -> Contents:  # fmt: skip
    count, official = len(labels), spec.domains[domain].count
    return Contents(
        dataset=spec.name,
        domain=domain,
        classes=spec.classes,
        size=spec.stored_size,
        labels=labels,
        tested=np.arange(count) >= count - tested,
        names=[f"{domain}/{row}" for row in range(count)],
        picture=_from_arrays(images, spec.stored_size),
        origin=origin,
        gaps=() if count == official else (f"it has {count} images, {official} are official",),
    )


def _from_files(members: Sequence[Member], size: int) -> Callable[[int], Picture]:
    """Pictures of image files."""

    def picture(row: int) -> Picture:
        member = members[row]
        try:
            content = member.path.read_bytes()
        except OSError as error:
            raise BrokenImageError(f"{str(member.path)!r} ({error.strerror or error})") from error
        return Picture(decode(content, size, str(member.path)), content)

    return picture


def _from_arrays(images: NDArray[np.uint8], size: int) -> Callable[[int], Picture]:
    """Pictures of ``(N, h, w)`` or ``(N, h, w, 3)`` uint8."""

    def picture(row: int) -> Picture:
        image = Image.fromarray(images[row]).convert("RGB")
        if image.size != (size, size):
            image = image.resize((size, size), FILTER)
        return Picture(np.asarray(image), images[row].tobytes())

    return picture


def _state(name: str, path: Path) -> list[object]:
    """Name, size and time of a file: cheap, and another when it changes."""
    status = path.stat()
    return [name, status.st_size, status.st_mtime_ns]
