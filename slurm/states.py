"""What has become of everything submitted: the ledger, the scheduler and the folders together.

The folders decide what is finished and why a run failed; the scheduler says what waits and what
runs, and how a job ended that could not say so itself.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from slurm import scheduler
from slurm.estimate import trained
from slurm.ledger import FOLDER, LOGS, Array, Entry, Submission, process_start
from slurm.scheduler import Element, Elements
from suites.folders import LEASE, is_finished, job_folder, recorded_failure

State = Literal["done", "running", "queued", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "running", "queued", "failed", "missing")
_ENDS = {
    "OUT_OF_MEMORY": "killed for want of memory; give it more with --mem",
    "TIMEOUT": "ended by the time limit",
    "DEADLINE": "ended by its deadline",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "CANCELLED": "cancelled while it ran",
    "PREEMPTED": "preempted, and not started again by the cluster",
}
_OUT_OF_MEMORY = re.compile(r"memory limit|oom.kill", re.IGNORECASE)
_ERROR = re.compile(r"error", re.IGNORECASE)
_ANYTHING = re.compile("")
_LOG_TAIL = 4096


@dataclass(frozen=True)
class Seat:
    """Where a job was submitted: an element of an array, and what the cluster says of it."""

    page: Submission
    array: Array
    index: int
    element: Element | None

    @property
    def is_live(self) -> bool:
        """Whether the cluster is still to do something with it."""
        return self.element is not None and not self.element.is_over


@dataclass(frozen=True)
class Standing:
    """What has become of one job of the ledger."""

    entry: Entry
    level: int
    state: State
    reason: str = ""
    """In one line: why it failed, is missing, or waits."""
    epochs: int = 0
    """Epochs that are over, where it runs or is done."""
    seconds: float = 0.0
    """What these took."""
    array: str | None = None
    """The array that it waits or runs in."""
    number: str = ""
    """Number of that array in the cluster."""
    job: str = ""
    """What it was submitted as last: a job or an element, ``12_3``."""

    @property
    def is_in_hand(self) -> bool:
        """Whether the cluster is still to do something with it."""
        return self.state in ("queued", "running")


def standings(out: Path, submissions: Sequence[Submission]) -> list[Standing]:
    """What has become of each job, in the order in which they were planned.

    The scheduler is asked first, about what is not finished: what it has done with by then has
    written all it will. Raises UsageError where a cluster does not answer.
    """
    entries = {entry.key: entry for page in submissions for entry in page.jobs}
    unfinished = {key for key, entry in entries.items() if not _is_done(out, entry)}
    seats = _seats(submissions, unfinished)
    levels = _levels(entries)
    return [_standing(out, entry, levels[key], seats.get(key)) for key, entry in entries.items()]


def _is_done(out: Path, entry: Entry) -> bool:
    return is_finished(out, entry.key, entry.is_run)


def _seats(submissions: Sequence[Submission], unfinished: Container[str]) -> dict[str, Seat]:
    """By key, where each job was submitted last; before that, where it still lives."""
    known = _elements(submissions, unfinished)
    found: dict[str, Seat] = {}
    for page in submissions:
        for array in page.arrays:
            for index, keys in enumerate(array.elements):
                seat = Seat(page, array, index, known.get((array.name, index)))
                for key in keys:
                    if key not in found or seat.is_live or not found[key].is_live:
                        found[key] = seat
    return found


def _elements(submissions: Sequence[Submission], unfinished: Container[str]) -> Elements:
    """What clusters say of the arrays that hold something ``unfinished``."""
    asked = [
        (page, array)
        for page in submissions
        for array in page.arrays
        if any(key in unfinished for element in array.elements for key in element)
    ]
    on_cluster = [array for page, array in asked if page.cluster == "slurm"]
    known = scheduler.ask(on_cluster) if on_cluster else {}
    for page, array in asked:
        if page.cluster != "slurm" and _lives(page):
            known |= {(array.name, n): Element("PENDING") for n in range(len(array.elements))}
    return known


def _lives(page: Submission) -> bool:
    """Whether the command that runs it, without a cluster, is still at work on this machine."""
    if page.host != socket.gethostname():
        return False
    began = process_start(page.process)
    return began != "" and began == page.process_start


def _levels(entries: Mapping[str, Entry]) -> dict[str, int]:
    """By key, how many levels of stages lie before each; stages come before what needs them."""
    levels: dict[str, int] = {}
    for key, entry in entries.items():
        levels[key] = 1 + max((levels.get(need, -1) for need in entry.needs), default=-1)
    return levels


def _standing(out: Path, entry: Entry, level: int, seat: Seat | None) -> Standing:
    folder = job_folder(out, entry.key, entry.is_run)
    job = seat.array.log(seat.index) if seat is not None and seat.array.job else ""
    if _is_done(out, entry):
        return Standing(entry, level, "done", epochs=entry.epochs, job=job)
    if seat is None:
        return Standing(entry, level, "missing", "was not submitted")
    if failure := recorded_failure(folder, seat.array.submitted):
        return Standing(entry, level, "failed", failure, job=job)
    if seat.is_live:
        return replace(_living(entry, level, seat, folder), job=job)
    return replace(_ended(out, entry, level, seat, folder), job=job)


def _living(entry: Entry, level: int, seat: Seat, folder: Path) -> Standing:
    element = seat.element
    assert element is not None
    name, number = seat.array.name, element.job
    has_begun = seat.page.cluster != "slurm" and (folder / LEASE).exists()
    if element.is_queued and not has_begun:
        return Standing(entry, level, "queued", element.reason, array=name, number=number)
    epochs, seconds = trained(folder)
    return Standing(entry, level, "running", "", epochs, seconds, name, number)


def _ended(out: Path, entry: Entry, level: int, seat: Seat, folder: Path) -> Standing:
    """Of a job that the cluster has done with, but that left neither result nor failure."""
    if seat.page.cluster != "slurm":
        epochs, _ = trained(folder)
        return Standing(entry, level, "missing", f"stopped, {epochs} of {entry.epochs} epochs done")
    if seat.array.job is None:
        return Standing(entry, level, "missing", "was not submitted")
    log = out / FOLDER / LOGS / seat.page.name / f"{seat.array.log(seat.index)}_0_log.err"
    element = seat.element or Element("")
    if not log.exists():
        if element.state in ("", "CANCELLED"):
            return Standing(entry, level, "missing", "cancelled before it started")
        reason = f"{_end(element)}; it has left no log"
        return Standing(entry, level, "failed", reason)
    said = _said(log)
    if _OUT_OF_MEMORY.search(said):  # as clusters without cgroups only say there
        element = Element("OUT_OF_MEMORY")
    return Standing(entry, level, "failed", f"{_end(element)} ({said or log})")


def _end(element: Element) -> str:
    """How a job ended that could not say so itself."""
    if element.state in _ENDS:
        return _ENDS[element.state]
    how = f", {element.reason}" if element.reason else ""
    return f"ended without a result{how}: killed, or its node died"


def _said(log: Path) -> str:
    """The line of a job's error log in which SLURM or Python says what was wrong."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    for telling in (_OUT_OF_MEMORY, _ERROR, _ANYTHING):
        if found := [line for line in lines if telling.search(line)]:
            return found[-1].strip()[:200]
    return ""
