"""A user's own images as a dataset: ``<domain>/<class>/*``, or what a short YAML says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from itmc.config import Frozen, digest
from itmc.domains.catalog import DatasetSpec, DomainSpec
from itmc.domains.decode import ENDINGS
from itmc.domains.layouts import default_lists, images_in, of_classes, plain_name, some, subfolders
from itmc.domains.lists import read_list
from itmc.errors import UsageError


class OwnDataset(Frozen):
    """A dataset of one's own, as a suite's YAML describes it."""

    path: Path
    """Folder with a folder ``<domain>/<class>/*`` for each domain, or a list ``<domain>.txt``
    (path and class number a line; images in a folder of their class's name, unless ``classes`` are
    given). Images right in a domain's folder have no labels."""
    name: str | None = None
    """In tables; the folder's name by default."""
    domains: dict[str, str] | list[str] | None = None
    """Which of the folders are domains, with the letters for them if there are any; all of them by
    default."""
    classes: list[str] | None = Field(None, min_length=2)
    """Which classes there are, in the order to have them; all by default, in alphabetical order,
    which must then be the same in each domain. Folders of other classes are left out."""
    stored_size: int = Field(256, ge=8)
    """Side of the stored square images, in pixels."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and (not name or name.startswith(".") or set(name) & set("/\\\0")):
            raise ValueError("a name is not empty, has no slash, and does not begin with a dot")
        return name


def own_dataset(own: OwnDataset) -> DatasetSpec:
    """The dataset that ``own`` describes.

    Raises UsageError where the folder is none of that layout, or where classes differ between
    domains.
    """
    root = own.path
    if not root.is_dir():
        raise UsageError(f"dataset folder {str(root)!r} does not exist or is no folder")
    try:
        domains = _domains(own, root)
        found = {} if own.classes else {name: _classes(root, name) for name in domains}
    except OSError as error:
        raise UsageError(
            f"{error.filename or str(root)!r} cannot be read ({error.strerror or error}); make it "
            "readable"
        ) from error
    classes = own.classes or _common({name: some for name, some in found.items() if some})
    _refuse_alike(classes, f"classes of {str(root)!r}")
    name = own.name or root.resolve().name
    if garbled := [word for word in (name, *domains, *classes) if not _is_text(word)]:
        raise UsageError(f"{garbled[0]!r} in {str(root)!r} is no text in UTF-8; rename it")
    # Tasks are written SOURCE->TARGET, and separated by commas.
    if split := [name for name in domains if "," in name or "->" in name]:
        raise UsageError(f"domain {split[0]!r} in {str(root)!r}: no comma and no '->'; rename it")
    try:
        return DatasetSpec(
            name=name,
            title=name,
            homepage=str(root),
            own=digest(str(root.resolve()))[:8],
            classes=tuple(classes),
            domains=domains,
            stored_size=own.stored_size,
        )
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
        what, why = ".".join(map(str, wrong["loc"])) or "it", wrong["msg"]
        raise UsageError(
            f"dataset folder {str(root)!r}: {what} is not allowed "
            f"({why.removeprefix('Value error, ')}); rename folders, or say otherwise in a YAML "
            "(dataset: {path: ..., name: ..., domains: ...})"
        ) from error


def _domains(own: OwnDataset, root: Path) -> dict[str, DomainSpec]:
    chosen = own.domains
    if chosen is None:
        folders = [folder.name for folder in subfolders(root) if _has_images(folder)]
        lists = [path.stem.removesuffix("_list") for path in root.glob("*.txt") if _is_list(path)]
        chosen = sorted({*folders, *lists})
    letters = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen)
    if len(letters) < 2:
        raise UsageError(
            f"{str(root)!r} has {len(letters)} folders with images ({', '.join(letters) or 'none'})"
            "; at least two domains are needed, as <domain>/<class>/*"
        )
    for name in letters:
        if name.startswith(".") or Path(name).name != name:
            raise UsageError(f"domain {name!r} is no name of a folder right in {str(root)!r}")
        if not (root / name).is_dir() and _list_of(root, name) is None:
            raise UsageError(
                f"{str(root)!r} has neither a folder {name!r} nor a list {name + '.txt'!r}"
            )
    return {
        name: DomainSpec(letter=letter, labelled=_is_labelled(root, name))
        for name, letter in letters.items()
    }


def _is_labelled(root: Path, domain: str) -> bool:
    """Whether a domain has a list, or folders of classes."""
    return _list_of(root, domain) is not None or bool(_class_folders(root / domain))


def _is_list(path: Path) -> bool:
    """Whether a text file is an image list, by its first line: others are read by people."""
    try:
        first = next(read_list(path), None)
    except UsageError:
        return False
    return first is not None and Path(first.path).suffix.lower() in ENDINGS


def _list_of(root: Path, domain: str) -> Path | None:
    places = (root / name for name in default_lists(domain))
    return next((place for place in places if place.is_file()), None)


def _has_images(folder: Path) -> bool:
    return next(images_in(folder), None) is not None


def _classes(root: Path, domain: str) -> dict[str, str]:
    """Names of a domain's classes by their plain names; none where it has no labels."""
    folder, listed = root / domain, _list_of(root, domain)
    names = _class_folders(folder) if listed is None else _listed_classes(listed)
    _refuse_alike(names, f"classes of {domain}")
    return {plain_name(name): name for name in names}


def _class_folders(folder: Path) -> list[str]:
    """The folders of images in that of a domain."""
    return [place.name for place in subfolders(of_classes(folder)) if _has_images(place)]


def _listed_classes(path: Path) -> list[str]:
    """The folders of a list's images, which are their classes if they go with its numbers."""
    pairs = {(line.folder, line.label) for line in read_list(path)}
    names, numbers = {name for name, _ in pairs}, {number for _, number in pairs}
    if not len(pairs) == len(names) == len(numbers) or "" in names:
        raise UsageError(
            f"image list {str(path)!r} has {len(numbers)} classes, whose images do not lie in a "
            "folder each; name the classes in a YAML (dataset: {path: ..., classes: [...]})"
        )
    return sorted(names)


def _is_text(name: str) -> bool:
    """Whether a name can be written: those of files may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_alike(names: Iterable[str], what: str) -> None:
    """Refuse names that are one to ``plain_name``: their images would get mixed."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(plain_name(name), name)
        if other != name:
            raise UsageError(
                f"{what}: {other!r} and {name!r} differ only in case, blanks or dashes; rename one"
            )


def _common(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The classes that all domains have, in alphabetical order."""
    if not found:
        raise UsageError(
            "no domain has labels: the source needs folders <domain>/<class>/*, one for each class"
        )
    everything = {plain: name for classes in found.values() for plain, name in classes.items()}
    wrong = []
    for domain, classes in found.items():
        if lacking := [name for plain, name in everything.items() if plain not in classes]:
            wrong.append(f"{domain} lacks {some(sorted(lacking))}")
    if wrong:
        raise UsageError(
            f"the domains have not the same classes: {'; '.join(wrong)}; add images, rename the "
            "folders, or list the classes to use in a YAML (dataset: {path: ..., classes: [...]})"
        )
    if len(everything) < 2:
        raise UsageError(f"at least two classes are needed; there is {', '.join(everything)}")
    return sorted(everything.values())
