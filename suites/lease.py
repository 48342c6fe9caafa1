"""A job's folder is one process's at a time: by a lease, which is kept alive and runs out.

Why no lock of the operating system: on shared file systems of clusters it may work within a node
only, or not at all (Lustre mounted without flock, old NFS). A lease needs no more of them than that
of two processes that create one file one fails. Its marker names the holder, which touches it every
HEARTBEAT seconds. Others take it over at once where the holder's process is dead on their own host
(not on NFS, and where else two names cannot be exchanged), and where they have seen no touch for
DURATION seconds by their own clock: after a node has died, say. A task that lives on after its node
was declared dead still touches it, and is waited for.

What a lease does not guarantee is that a holder that was silent for so long, and lost it, does
nothing more: it may have been suspended, or cut off from the file system. So it looks whether it
still holds the lease between its steps and before each write, and ends where it does not. Between
such a look and the end of the write there is a gap. What slips through it is one whole file, as
files are replaced and never written in place, with what the other process computes as well.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

from itmc.training.control import Stopped

DURATION, HEARTBEAT = 60.0, 10.0
_POLL = 0.5  # seconds between the attempts of one that waits
_LOOK = 1.0  # a look at the marker holds for so many seconds: steps may be shorter than looks
_SURE = 3, 0.5  # looks, seconds apart: a marker may be put aside for a moment to be examined


class LeaseLostError(RuntimeError):
    """Another process works in the folder now: no failure of what is computed there."""


class Lease:
    """One process's hold on ``folder``."""

    def __init__(self, folder: Path, duration: float = DURATION) -> None:
        """``duration``: seconds without a touch after which it runs out; the same for all."""
        self._folder, self._duration = folder, duration
        self._heartbeat = duration * HEARTBEAT / DURATION
        self._marker = folder / ".lease"
        self._lease = SoftFileLease(
            self._marker,
            lease_duration=duration,
            heartbeat_interval=self._heartbeat,
            poll_interval=_POLL,
        )
        self._looked = time.monotonic()

    def acquire(self, say: Callable[[str], None], is_stopping: Callable[[], bool]) -> None:
        """Take the lease, waiting for its holder. Raises Stopped where ``is_stopping`` says so."""
        try:
            self._lease.acquire(timeout=0)
        except Timeout:
            say(f"waiting for another process that works in {self._folder}")
            self._wait(is_stopping)
        self._looked = time.monotonic()

    def check(self) -> None:
        """Raise LeaseLostError where the lease is not held any more."""
        if self._lease.compromise is None and time.monotonic() - self._looked < _LOOK:
            return
        looks, pause = _SURE
        for _ in range(looks):
            if self._lease.compromise is not None:
                break
            if self._is_ours():
                self._looked = time.monotonic()
                return
            time.sleep(pause)
        raise LeaseLostError(
            f"another process has taken over the work in {self._folder}; this one stops"
        )

    def release(self) -> None:
        """Remove the marker, unless it is another's by now."""
        self._lease.release()

    def _is_ours(self) -> bool:
        owner = self._lease.owner
        return owner is not None and owner.token == self._lease.token

    def _wait(self, is_stopping: Callable[[], bool]) -> None:
        seen, since = self._seen(), time.monotonic()
        while True:
            try:
                self._lease.acquire(timeout=self._heartbeat, cancel_check=is_stopping)
                return
            except Timeout:
                if is_stopping():
                    raise Stopped from None
            found, now = self._seen(), time.monotonic()
            if found != seen:
                seen, since = found, now
            elif found is not None and now - since > self._duration + self._heartbeat:
                self._remove(found)

    def _seen(self) -> tuple[int, int, int] | None:
        """The marker as it is; every touch changes that. It is opened, for NFS to look anew."""
        try:
            handle = os.open(self._marker, os.O_RDONLY)
        except OSError:
            return None
        try:
            found = os.fstat(handle)
        finally:
            os.close(handle)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _remove(self, stale: tuple[int, int, int]) -> None:
        """Remove a marker that has run out, where filelock has not taken it over long before.

        It does not on file systems that cannot exchange two names (NFS), nor where the marker is
        empty, since its holder's node died while writing it. Another's that came in between is put
        back, which its holder does not mind.
        """
        aside = self._marker.with_name(f"{self._marker.name}.{secrets.token_hex(8)}")
        if self._seen() == stale:
            with suppress(OSError):
                self._marker.rename(aside)
                taken = aside.stat()
                if (taken.st_ino, taken.st_mtime_ns, taken.st_size) != stale:
                    with suppress(FileExistsError):
                        self._marker.hardlink_to(aside)
                aside.unlink()


@contextmanager
def leased(
    folder: Path,
    say: Callable[[str], None],
    is_stopping: Callable[[], bool],
    duration: float = DURATION,
) -> Iterator[Lease]:
    """Hold the lease of ``folder`` inside.

    Raises LeaseLostError instead of what is raised inside where that comes after the loss.
    """
    lease = Lease(folder, duration)
    lease.acquire(say, is_stopping)
    try:
        yield lease
    except Exception as error:
        if isinstance(error, LeaseLostError | Stopped):
            raise
        lease.check()
        raise
    finally:
        lease.release()
