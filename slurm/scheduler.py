"""What SLURM says about our job arrays: squeue, and sacct where it works."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from itmc.errors import UsageError
from slurm.ledger import Array

# States of squeue and sacct in which a job has ended; in all others it is still to do something.
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_SECONDS = 60
_NAMES_AT_ONCE = 500


@dataclass(frozen=True)
class Element:
    """What the cluster says of one element of an array."""

    state: str
    """SLURM's word, such as PENDING."""
    reason: str = ""
    """Why it waits, or how it ended."""
    job: str = ""
    """Number of its array; empty without a cluster."""

    @property
    def is_queued(self) -> bool:
        """Whether it waits: for its turn, or to start again."""
        return self.state in _WAITING

    @property
    def is_over(self) -> bool:
        """Whether it will do nothing any more."""
        return self.state in ENDED


Elements = dict[tuple[str, int], Element]
"""By name of the array and index in it."""


def ask(arrays: Sequence[Array]) -> Elements:
    """What the cluster knows about the elements of ``arrays``; forgotten ones are left out.

    squeue says what is to come, and for some minutes what has ended. Where sacct answers it adds
    how the others ended; where it does not, or lags, nothing depends on it.
    Raises UsageError where squeue does not answer: nothing can be said then.
    """
    known: Elements = {}
    names = [array.name for array in arrays]
    for start in range(0, len(names), _NAMES_AT_ONCE):
        known |= _squeue(arrays[start : start + _NAMES_AT_ONCE])
    silent = [array for array in arrays if array.job and not _all_known(array, known)]
    return _sacct(silent) | known


def largest_array() -> int:
    """Elements that the cluster takes in one array: its MaxArraySize."""
    answer = _command(["scontrol", "show", "config"])
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    if found is None:
        raise UsageError("scontrol show config names no MaxArraySize: is this a SLURM cluster?")
    return max(1, int(found[1]))


def wait_for(job: str, others: Iterable[str]) -> bool:
    """Have what of ``job`` has not started wait until ``others`` are over; whether that worked."""
    dependency = f"afterany:{':'.join(sorted(others))}"
    try:
        _command(["scontrol", "update", f"jobid={job}", f"dependency={dependency}"])
    except UsageError:  # it has started meanwhile, say
        return False
    return True


def _squeue(arrays: Sequence[Array]) -> Elements:
    """By name: a number that the cluster has forgotten would be an error to it."""
    options = ("--noheader", "--array", "--all", "--states=all", "--format=%j|%F|%K|%T|%r")
    names = ",".join(array.name for array in arrays)
    answer = _command(["squeue", *options, f"--name={names}"])
    sizes = {array.name: len(array.elements) for array in arrays}
    found: Elements = {}
    for line in answer.splitlines():
        name, job, indices, state, reason = line.split("|", 4)
        for index in _indices(indices):
            if index < sizes.get(name, 0):
                found[name, index] = Element(state, "" if reason == "None" else reason, job)
    return found


def _sacct(arrays: Sequence[Array]) -> Elements:
    """How elements ended, or nothing where there is no accounting."""
    if not arrays:
        return {}
    by_job = {array.job: array for array in arrays}
    jobs = ",".join(job for job in by_job if job)
    try:
        answer = _command(
            ["sacct", "-n", "-P", "-X", "--format=JobID,State,ExitCode", f"--jobs={jobs}"]
        )
    except UsageError:
        return {}
    found: Elements = {}
    for line in answer.splitlines():
        job_id, state, exit_code = (*line.split("|"), "", "")[:3]
        job, _, indices = job_id.partition("_")
        word = state.partition(" ")[0]  # of "CANCELLED by 1000"
        if (array := by_job.get(job)) is None or word not in ENDED:
            continue  # what sacct says of a job that lives is late
        for index in _indices(indices or "0"):
            found[array.name, index] = Element(word, _ended(word, exit_code), job)
    return found


def _ended(state: str, exit_code: str) -> str:
    """``exit_code`` is status:signal."""
    status, _, signal = exit_code.partition(":")
    if signal not in ("", "0"):
        return f"signal {signal}"
    return f"exit code {status}" if state == "FAILED" else ""


def _all_known(array: Array, known: Elements) -> bool:
    return all((array.name, index) in known for index in range(len(array.elements)))


def _indices(text: str) -> Iterator[int]:
    """``3``, ``[0-2,5%4]``; a job that is no array is its own element 0."""
    if text in ("N/A", ""):
        yield 0
        return
    for part in text.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1)


def _command(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no {words[0]} here: this is no machine of a SLURM cluster; choose "
            "--cluster local to run on this machine"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{words[0]} did not answer within {_SECONDS} s; try again") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise UsageError(f"{words[0]} failed: {said}")
    return done.stdout
