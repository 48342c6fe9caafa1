"""Folders of clusters: each has one owner, and none is left for good."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.slurm_cluster.daemons import kill_jobs

_PREFIX = "itmc-slurm-"
_LOCK = "owner"
# The path of a unix socket may have 107 bytes; the longest name of one here has 15.
_LONGEST = 90


def new_folder() -> tuple[Path, IO[str]]:
    """An empty folder, and the lock of its owner; the folder is in use until that is closed.

    Raises:
        ValueError: if there is no room for the names of unix sockets behind its own.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if len(os.fsencode(folder)) > _LONGEST:
        folder.rmdir()
        raise ValueError(f"{folder} is too long for unix sockets; set TMPDIR")
    (folder / _LOCK).touch()
    lock = _lock(folder)
    assert lock is not None  # nobody else looks at it before it has a slurm.conf
    return folder, lock


def remove_orphans() -> None:
    """Remove what clusters left whose process was killed: its daemons ended with it, jobs did not.

    A process that ends, in whatever way, gives up its locks.
    """
    for slurm_conf in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/slurm.conf"):
        with suppress(FileNotFoundError):  # its owner may be about to remove it
            if slurm_conf.stat().st_uid == os.geteuid() and (lock := _lock(slurm_conf.parent)):
                kill_jobs(slurm_conf)
                shutil.rmtree(slurm_conf.parent, ignore_errors=True)
                lock.close()


def _lock(folder: Path) -> IO[str] | None:
    """The lock of a folder, until it is closed; nothing if another process holds it."""
    lock = (folder / _LOCK).open("r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
