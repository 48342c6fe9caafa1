"""Hand in what is to be done, so that nothing is done twice; for ``submit`` and ``retry``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from itmc.errors import UsageError
from itmc.parallel import World
from slurm import ledger, local, scheduler
from slurm.arrays import ArrayPlan, arrays
from slurm.estimate import Costed, duration, hours, rate, shortest
from slurm.launch import Say, as_submitted, described, script, submit_arrays
from slurm.ledger import Submission
from slurm.payload import prepare
from slurm.recall import new_submission
from slurm.settings import ClusterKind, ClusterSettings
from slurm.states import standings
from suites.command import DONE
from suites.config import Places
from suites.lease import leased
from suites.options import Machine
from suites.plan import Job

# What SLURM takes in an array unless a cluster says otherwise.
_LARGEST_BY_DEFAULT = 1001


@dataclass(frozen=True)
class Request:
    """What a grid is submitted with."""

    places: Places
    command: tuple[str, ...]
    """What asked for it, in words."""
    cluster: ClusterKind
    settings: ClusterSettings
    grid: Sequence[Costed]
    """All jobs of it: how long the finished ones took tells how long the others will."""
    code: Mapping[str, str]
    """The version of the code that planned it."""


@dataclass(frozen=True)
class Queue:
    """What a cluster has in hand for an output folder."""

    holder: Mapping[str, str]
    """By key of what waits or runs, the array that it is in."""
    numbers: Mapping[str, str]
    """Job numbers of these arrays by name."""
    waiting: Mapping[str, Set[str]]
    """By number of an array, keys of the stages that what waits in it needs."""

    def held_by(self, key: str) -> str | None:
        """Number of the array that has ``key`` in hand."""
        return self.numbers.get(self.holder.get(key, ""))


def queue(out: Path) -> Queue:
    """What is in hand for ``out``. Raises UsageError where the cluster is silent."""
    pages = ledger.read(out)
    found = standings(out, pages)
    holder = {one.entry.key: one.array for one in found if one.is_in_hand and one.array}
    # As the cluster says: a command that died while it submitted has not written them down.
    numbers = {one.array: one.number for one in found if one.array and one.number}
    waiting: dict[str, set[str]] = {}
    for one in found:
        if one.state == "queued" and one.number:
            waiting.setdefault(one.number, set()).update(one.entry.needs)
    return Queue(holder, numbers, waiting)


def resolved(
    settings: ClusterSettings, cluster: ClusterKind, device: Literal["auto", "cpu", "cuda"]
) -> ClusterSettings:
    """``settings`` with the GPUs that are meant where none were named.

    Raises UsageError where GPUs and ``device`` contradict one another, or this machine lacks them.
    """
    gpus = settings.gpus_per_node
    if gpus is None:
        gpus = 0 if device == "cpu" else 1 if cluster == "slurm" or device == "cuda" else _own_gpu()
    if (gpus > 0 and device == "cpu") or (gpus == 0 and device == "cuda"):
        raise UsageError(
            f"--device {device} and {gpus} GPUs a node contradict one another; leave out one of "
            "them"
        )
    found = settings.model_copy(update={"gpus_per_node": gpus})
    if cluster != "slurm":
        given = settings.gpus_per_node is not None
        local.refuse_missing(found, f"--gpus-per-node {gpus}" if given else f"--device {device}")
    return found


def machine_of(settings: ClusterSettings) -> Machine:
    """What a run gets of its job."""
    threads = max(1, settings.cpus // settings.runs_per_job)
    return Machine("cuda" if settings.gpus_per_node else "cpu", threads)


def hand_in(
    to_do: Sequence[Job], request: Request, say: Say, accepted: Callable[[], object] = lambda: None
) -> int:
    """Submit those of ``to_do`` that no cluster has in hand; returns the exit code.

    In ``to_do`` stages come before what needs them. ``accepted`` is called once nothing refuses
    them any more. Raises UsageError where the cluster does.
    """
    _refuse_uneven(to_do, request.settings)
    out = request.places.out
    folder = out / ledger.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with leased(folder, say, lambda: False):  # else two at once would both find a run unqueued
        known = queue(out)
        jobs = _not_in_hand(to_do, known, say)
        if not jobs:
            accepted()
            return DONE
        largest = scheduler.largest_array() if request.cluster == "slurm" else len(jobs)
        submission, made = _made(jobs, request, known, largest)
        ledger.write(submission)
        prepare(submission, request.code)
        if request.cluster == "slurm":
            submission = submit_arrays(submission, made, known.numbers, say, accepted)
            _hold_back(known, submission, say)
            say(f"follow it: python -m slurm.status {out} --watch")
            return DONE
        accepted()
        submission = ledger.with_arrays(submission, [as_submitted(plan) for plan in made])
    return local.run(submission, made, say)


def _hold_back(known: Queue, submission: Submission, say: Say) -> None:
    """Have what waits for a stage that was submitted again wait for it where it is now."""
    now = {
        key: array.job
        for array in submission.arrays
        if array.job
        for element in array.elements
        for key in element
    }
    for number, needs in known.waiting.items():
        if needs & now.keys():
            after = {job for key in needs if (job := now.get(key) or known.held_by(key))}
            if not scheduler.wait_for(number, after):
                say(f"job {number} does not wait for {', '.join(sorted(after))}: what of it fails")
                say("for want of them is to be submitted once more (python -m slurm.retry)")


def _refuse_uneven(to_do: Sequence[Job], settings: ClusterSettings) -> None:
    """Raise UsageError where the batches of a run cannot be parted between its processes."""
    for job in to_do:
        World(0, settings.processes).part(job.run.training.batch_size)


def _not_in_hand(to_do: Sequence[Job], known: Queue, say: Say) -> list[Job]:
    jobs = [job for job in to_do if job.key not in known.holder]
    if len(jobs) < len(to_do):
        say(f"{len(to_do) - len(jobs)} jobs wait or run already")
    if not jobs:
        say("nothing to submit")
    return jobs


def _made(
    jobs: Sequence[Job], request: Request, known: Queue, largest: int
) -> tuple[Submission, list[ArrayPlan]]:
    """The ledger's page for ``jobs``, and their arrays."""
    settings = request.settings
    submission = new_submission(jobs, request.places, request.command, request.cluster, settings)
    made = arrays(
        jobs,
        known.holder,
        # squeue is asked by name: commas, say, of the name of a folder of images would part it.
        f"itmc-{re.sub(r'[^A-Za-z0-9_.-]', '-', jobs[0].run.suite)}-{submission.name}",
        settings.runs_per_job,
        largest,
        one_by_one=settings.array_parallelism is not None,
    )
    return submission, made


def show(to_do: Sequence[Job], request: Request, say: Say) -> None:
    """Print what would be submitted: arrays, dependencies, cost and the script of the first."""
    _refuse_uneven(to_do, request.settings)
    try:
        known = queue(request.places.out)
        largest = scheduler.largest_array() if request.cluster == "slurm" else len(to_do)
    except UsageError as error:
        say(f"note: {error}; shown as for a cluster that takes {_LARGEST_BY_DEFAULT} in an array")
        known, largest = Queue({}, {}, {}), _LARGEST_BY_DEFAULT
    jobs = _not_in_hand(to_do, known, say)
    if not jobs:
        return
    submission, made = _made(jobs, request, known, largest)
    for plan in made:
        print(described(plan))
    found = rate(request.places.out, request.grid, request.settings)
    unit, cost = hours(made, found, request.settings)
    least = duration(shortest(made, found, request.settings))
    print(f"about {cost:.3g} {unit}; {least} from the first job to the last, if they need not wait")
    print(f"estimated with {found}")
    if request.cluster == "slurm":
        print(f"\nThe script of {made[0].name}:\n\n{script(submission, made[0])}")


def _own_gpu() -> int:
    import torch

    return int(torch.cuda.is_available())
