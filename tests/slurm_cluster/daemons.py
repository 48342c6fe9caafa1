"""Processes of the test cluster: its daemons, which this process owns, and what they leave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class Daemon:
    """One daemon, in the foreground of a session of its own, as a child of this process.

    A child is known for certain (its number is not given to another process before it was waited
    for) and leaves no zombie. Should this process die first, the daemon gets SIGTERM.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.command = ["setpriv", "--pdeathsig", "TERM", *command]
        self.log = log
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.alive():
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end; after 10 s end it."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a machine that loses its power does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def reserve_ports(count: int) -> list[socket.socket]:
    """Sockets bound to free ports, for daemons that bind the same ones while these are open.

    Nobody else can take the ports in between: Linux lets two sockets share a port only if both
    say SO_REUSEADDR (SLURM's do) and neither listens yet, and a search for a free port says none.
    """
    held = []
    for _ in range(count):
        held.append(socket.socket())
        held[-1].bind(("", 0))
        held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def kill_jobs(slurm_conf: Path) -> None:
    """Kill the steps and tasks of a cluster that are still there, and no one else's.

    A step outlives the slurmd that started it, and a task its step; both carry the environment
    they were given, with the place of the cluster's configuration.
    """
    for pid, environment in _environments():
        ours = f"SLURM_CONF={slurm_conf}".encode() in environment
        in_job = any(line.startswith(b"SLURM_JOB_ID=") for line in environment)
        if ours and (in_job or _name(pid) == "slurmstepd"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _environments() -> Iterator[tuple[int, list[bytes]]]:
    """Process numbers, with what each process was started with; a zombie has nothing."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            yield int(folder.name), (folder / "environ").read_bytes().split(b"\0")


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
