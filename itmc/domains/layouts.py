"""Which image files of a folder are a domain, and of which class: in any of the usual layouts.

``<domain>/<class>/*``, ``<domain>/images/<class>/*`` (Office-31's own archive), or text files with
a path and a class a line. The folder may lie a few levels below the one that is given, as it does
in most archives; spellings may differ in case, blanks and dashes.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from itmc.domains.catalog import DatasetSpec
from itmc.domains.decode import ENDINGS
from itmc.domains.lists import Line, read_list, resolve
from itmc.errors import UsageError

_DEPTH = 3
_LIST_FOLDERS = ("", "image_list", "image_lists", "list", "lists", "txt", "domainnet/txt")
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")
UNLABELLED = -1
"""The class of an image whose class nobody knows."""


class AbsentError(UsageError):
    """A folder in which there is nothing of the domain."""


@dataclass(frozen=True)
class Member:
    """One image of a domain."""

    path: Path
    name: str
    """Its path below the folder with all domains, with slashes."""
    label: int
    """Index of its class, or ``UNLABELLED``."""
    tested: bool = False
    """Whether it belongs to an official test part."""


@dataclass(frozen=True)
class Listing:
    """The images of a domain, in the order in which they are stored: by class, then by name."""

    members: tuple[Member, ...]
    notes: tuple[str, ...] = ()
    """What a user should know, such as files that were left out."""


def plain_name(text: str) -> str:
    """``text`` without what spellings of one name differ in: case, blanks, dashes, Unicode form."""
    composed = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in composed if letter not in " _-")


def list_domain(spec: DatasetSpec, domain: str, root: Path) -> Listing:
    """The images of ``domain`` below ``root``.

    Raises UsageError where there are none, where classes lack, or where something is unreadable.
    """
    try:
        return _list_domain(spec, domain, root)
    except OSError as error:
        raise UsageError(
            f"{spec.name}/{domain}: {error.filename or str(root)!r} cannot be read "
            f"({error.strerror or error}); make it readable, or give another folder"
        ) from error


def _list_domain(spec: DatasetSpec, domain: str, root: Path) -> Listing:
    declared = spec.domains[domain]
    base, folder = _locate(spec, domain, root)
    training, testing = (
        _find_list(base, folder, names) or (None if spec.own else _find_anywhere(root, names))
        for names in (declared.lists or default_lists(domain), declared.tested_lists)
    )
    if declared.tested and (training is None or testing is None):
        wanted = f"{' or '.join(declared.lists)}, and {' or '.join(declared.tested_lists)}"
        raise UsageError(
            f"{spec.name}/{domain} in {str(base)!r} lacks its lists ({wanted}), which say what is "
            "trained on and what tested; put them there"
        )
    if training is not None:
        listing = _listed(spec, domain, base, folder, training, testing)
    elif folder is not None:
        listing = _in_class_folders(spec, domain, base, folder)
    else:
        raise _absent(spec, domain, root)
    _check_classes(spec, domain, listing, root)
    return listing


def folder_of(spec: DatasetSpec, domain: str, parent: Path) -> Path | None:
    """The folder of ``domain`` among those in ``parent``, if it is there."""
    for name in (domain, *spec.domains[domain].folders):
        if (parent / name).is_dir():
            return parent / name
    wanted = {plain_name(name) for name in (domain, *spec.domains[domain].folders)}
    return next((f for f in subfolders(parent) if plain_name(f.name) in wanted), None)


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in ``folder`` that are not hidden, by name."""
    with os.scandir(folder) as inside:  # which knows the folders without asking for each file
        names = [entry.name for entry in inside if not _is_hidden(entry.name) and entry.is_dir()]
    return [folder / name for name in sorted(names)]


def images_in(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Image files in ``folder`` and below it, by name; other files are passed over."""
    if (here := folder.resolve()) in above:  # a link to a folder that it lies in
        return
    inside = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in inside:
        if _is_hidden(path.name):
            continue
        if path.suffix.lower() in ENDINGS and path.is_file():
            yield path
        elif path.is_dir():
            yield from images_in(path, above | {here})


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _locate(spec: DatasetSpec, domain: str, root: Path) -> tuple[Path, Path | None]:
    """The folder with all domains, and that of ``domain`` in it (or only a list of its images)."""
    depth = 0 if spec.own else _DEPTH
    for place in _breadth_first(root, depth):
        if (folder := folder_of(spec, domain, place)) is not None:
            return place, folder
    # Only now, as lists often have an archive of their own, which may come before the images.
    lists = spec.domains[domain].lists or default_lists(domain)
    for place in _breadth_first(root, depth):
        if _find_list(place, None, lists) is not None:
            return place, None
    raise _absent(spec, domain, root)


def _breadth_first(root: Path, deepest: int = _DEPTH) -> Iterator[Path]:
    queue = deque([(root, 0)])
    while queue:
        folder, depth = queue.popleft()
        yield folder
        if depth < deepest:
            queue.extend((inside, depth + 1) for inside in subfolders(folder))


def default_lists(domain: str) -> tuple[str, ...]:
    """What the list of a domain is called, if the catalog does not say otherwise."""
    return f"{domain}.txt", f"{domain}_list.txt"


def _find_anywhere(root: Path, names: Sequence[str]) -> Path | None:
    """A list that lies elsewhere than the images, as those do that have an archive of their own."""
    if not names:
        return None
    return next((p for f in _breadth_first(root) if (p := _find_list(f, None, names))), None)


def _find_list(base: Path, folder: Path | None, names: Iterable[str]) -> Path | None:
    places = [*(base / name for name in _LIST_FOLDERS), *([folder] if folder is not None else [])]
    return next((p / name for name in names for p in places if (p / name).is_file()), None)


def _listed(
    spec: DatasetSpec, domain: str, base: Path, folder: Path | None, training: Path,
    testing: Path | None,
) -> Listing:  # fmt: skip
    members, lacking = [], []
    known = _classes(spec)
    for path, tested in ((training, False), (testing, True)):
        if path is None:
            continue
        for line in read_list(path):
            label = _label(spec, known, line)
            found = resolve(line, base, folder)
            if found is None:
                lacking.append(line.path)
            else:
                members.append(Member(found, _name(found, base), label, tested))
    if not members:
        raise AbsentError(
            f"none of the {len(lacking)} images that {str(training)!r} lists is there, such as "
            f"{lacking[0] if lacking else '(it lists none)'!r}; put the images beside the list"
        )
    notes = [f"{some(lacking)} listed but missing"] if lacking else []
    return Listing(_ordered(members), tuple(notes))


def _label(spec: DatasetSpec, known: Mapping[str, int], line: Line) -> int:
    """By the name of the image's folder where that is a class: lists number classes as they like.

    Where it is none, by the number.
    """
    by_name = known.get(plain_name(line.folder))
    if by_name is not None:
        return by_name
    if not 0 <= line.label < len(spec.classes):
        raise UsageError(
            f"line {line.number} of {str(line.source)!r}: class {line.label} is not one of 0 to "
            f"{len(spec.classes) - 1} of {spec.name}; correct the list"
        )
    return line.label


def _in_class_folders(spec: DatasetSpec, domain: str, base: Path, folder: Path) -> Listing:
    folder = of_classes(folder)
    known = _classes(spec)
    members: list[Member] = []
    others: list[str] = []
    for place in subfolders(folder):
        label = known.get(plain_name(place.name))
        if label is None:
            others.append(place.name)
        else:
            members += (Member(p, _name(p, base), label) for p in images_in(place))
    if not members and not others and spec.own:  # a domain without labels
        members = [Member(path, _name(path, base), UNLABELLED) for path in images_in(folder)]
    notes = [f"{some(others)} left out: no class of {spec.name}"] if others else []
    if strays := [] if UNLABELLED in {m.label for m in members} else _images_right_in(folder):
        notes.append(f"{some(strays)} left out: in no class's folder")
    return Listing(_ordered(members), tuple(notes))


def of_classes(folder: Path) -> Path:
    """Where a domain's classes are: in it, in ``images``, or in a folder of its own name.

    The latter is what unpacking its archive into its folder gives; where there are others beside
    it, it is a class.
    """
    inside = subfolders(folder)
    if len(inside) == 1 and plain_name(inside[0].name) == plain_name(folder.name):
        folder = inside[0]
    inner = folder / "images"
    return inner if inner.is_dir() else folder


def _images_right_in(folder: Path) -> list[str]:
    inside = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    return [name for name in inside if not _is_hidden(name)]


def _classes(spec: DatasetSpec) -> dict[str, int]:
    """Index of each class by its plain name and aliases."""
    known = {plain_name(name): label for label, name in enumerate(spec.classes)}
    return {plain_name(a): known[plain_name(name)] for a, name in spec.aliases.items()} | known


def _name(path: Path, base: Path) -> str:
    """The path below ``base`` as text: composed, on one line, and printable whatever its bytes."""
    text = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
    text = os.fsencode(text).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", " ".join(text.splitlines()))


def _ordered(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda m: (m.label, m.tested, m.name)))


def _check_classes(spec: DatasetSpec, domain: str, listing: Listing, root: Path) -> None:
    if not listing.members:
        raise _absent(spec, domain, root)
    found = Counter(member.label for member in listing.members)
    missing = [name for label, name in enumerate(spec.classes) if label not in found]
    if missing and UNLABELLED not in found:
        raise UsageError(
            f"{spec.name}/{domain} in {str(root)!r} lacks {len(missing)} of "
            f"{len(spec.classes)} classes: {', '.join(missing)}; add their images"
        )


def _absent(spec: DatasetSpec, domain: str, root: Path) -> AbsentError:
    return AbsentError(
        f"{str(root)!r} has no images of {spec.name}/{domain}; expected {domain}/<class>/*, "
        f"{domain}/images/<class>/* or a list {domain}.txt, for the {len(spec.classes)} classes "
        f"{', '.join(spec.classes[:3])}, ..., at most {_DEPTH} folders deep"
    )


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of ``names``, and how many they are: ``a, b and 3 more``."""
    listed = list(names)
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
