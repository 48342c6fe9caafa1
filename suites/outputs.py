"""Refuse what cannot be written before anything is computed for it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from itmc.errors import UsageError


def check_place(out: Path) -> None:
    """Raise UsageError where the folder ``out`` is none or cannot be made; makes nothing."""
    there = next(place for place in (out, *out.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise _unwritable(out, errno.ENOTDIR)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(out, errno.EACCES)


def check_writable(out: Path) -> None:
    """Make the folder ``out``; raise UsageError where nothing can be written to it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        _try(out)
    except OSError as error:
        raise _unwritable(out, error.errno) from error


def check_file(option: str, path: Path | None) -> None:
    """Raise UsageError where the file that ``option`` asks for, if any, cannot be written."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise UsageError(f"{option}: the folder {str(path.parent)!r} does not exist; make it")
    if os.path.lexists(path) and not path.is_file():
        raise UsageError(f"{option} {str(path)!r} is no file; name one")
    try:
        _try(path.parent)
    except OSError as error:
        raise UsageError(
            f"{option} {str(path)!r} cannot be written: {error.strerror}; choose another file"
        ) from error


def _try(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass


def _unwritable(out: Path, number: int | None) -> UsageError:
    reason = os.strerror(number or 0)
    return UsageError(f"--out {str(out)!r} cannot be written: {reason}; choose another folder")
