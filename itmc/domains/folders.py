"""What may be the matter with a folder: it is full, cannot be written, or is in use."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from itmc.domains.progress import Progress
from itmc.errors import UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def unwritable(what: str, folder: Path, error: OSError) -> UsageError:
    """The error that says why ``what`` cannot be written into ``folder``: full, or else."""
    if error.errno in _FULL:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        return UsageError(
            f"{what!r} does not fit into {str(folder)!r} ({error.strerror}; "
            f"{shutil.disk_usage(there).free:,} bytes are free); free some space or choose "
            "another folder"
        )
    return UsageError(
        f"{what!r} cannot be written into {str(folder)!r} ({error.strerror or error}); "
        "choose a folder that can be written"
    )


@contextmanager
def alone(lock: Path, other: str, progress: Progress) -> Iterator[None]:
    """Hold the lock file ``lock``; ``other`` is said of another process that has it first."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        progress.say(f"{other}; waiting for it")
        held.acquire()
    try:
        yield
    finally:
        held.release()
