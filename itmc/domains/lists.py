"""Image lists: text files with the path of an image and the number of its class a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from itmc.errors import UsageError


@dataclass(frozen=True)
class Line:
    """One line of a list."""

    source: Path
    """The list."""
    number: int
    """Of the line, from 1."""
    path: str
    """As the list has it: often one of the machine where the list was made."""
    label: int

    @property
    def folder(self) -> str:
        """Name of the folder that the image lies in, which in most datasets is its class."""
        return PurePosixPath(self.path).parent.name


def read_list(path: Path) -> Iterator[Line]:
    """The lines of ``path``, empty ones left out. UsageError names a line that is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise UsageError(
            f"image list {str(path)!r} is not text in UTF-8 ({error.reason}); save it as such"
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        image = image.strip().replace("\\", "/")
        is_number = label.isdecimal() and len(label) < 10
        if not image or not is_number or ".." in PurePosixPath(image).parts:
            raise UsageError(
                f"line {number} of image list {str(path)!r} is {line.strip()!r}; expected the "
                "path of an image below the list's folder, a blank and the number of its class"
            )
        yield Line(path, number, image, int(label))


def resolve(line: Line, base: Path, folder: Path | None) -> Path | None:
    """The file that ``line`` means, or ``None`` if it is not there.

    Sought below the folder with all domains, that of the domain, that of the list, and a folder
    that the list is named after; leading folders of another machine are left away.
    """
    parts = PurePosixPath(line.path.lstrip("/")).parts
    beside = line.source.parent
    named = [f for f in _namesakes(beside, line.source.stem) if f.is_dir()]
    for place in (base, *([folder] if folder is not None else []), *named, beside):
        for start in range(len(parts)):
            path = place.joinpath(*parts[start:])
            if path.is_file():
                return path
            # A bare file name, of which other classes may have one too, must lie right there.
            if start == len(parts) - 2 and len(parts) > 1:
                break
    return None


def _namesakes(folder: Path, stem: str) -> Iterator[Path]:
    """``a_b_c``: folders a_b_c, a_b, a beside the list."""
    words = stem.split("_")
    return (folder / "_".join(words[:count]) for count in range(len(words), 0, -1))
