"""Files that are either whole or absent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_UNFINISHED = ".unfinished"


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds all of it or what it held before, even if killed."""
    with atomic(path) as file:
        file.write(content)


@contextmanager
def atomic(path: Path, before: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write, which is ``path`` once the block has ended, and nothing where it raises.

    What ``path`` held is ``before`` then, if that is given: a process killed between the two
    renamings leaves no ``path``, but ``before``.
    """
    handle, temporary = tempfile.mkstemp(_UNFINISHED, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if before is not None and path.exists():
            os.replace(path, before)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in ``folder``; no other may."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        path.unlink(missing_ok=True)


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that grows, without a last one that is only begun."""
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
