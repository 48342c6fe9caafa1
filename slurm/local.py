"""The same workers without a cluster: in processes of this machine, or in this one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itmc.errors import UsageError
from slurm.arrays import ArrayPlan
from slurm.code import PROJECT
from slurm.launch import Say, described
from slurm.ledger import Submission
from slurm.payload import logs_of, prepare, workers
from slurm.settings import ClusterSettings
from slurm.worker import Worker
from suites.folders import is_finished, job_folder, recorded_failure
from suites.options import cores

if TYPE_CHECKING:
    from submitit import LocalExecutor
    from submitit.core.core import Job

_POLL_SECONDS = 0.1


def run(submission: Submission, made: Sequence[ArrayPlan], say: Say) -> int:
    """Execute ``made``, one array after the other; returns the exit code: 1 where a job has failed.

    All of them are in the ledger already, for no other command may take what waits here.
    With ``local`` as many elements at once as cores or GPUs allow, in processes of submitit's;
    with ``debug`` one after the other in this process.
    """
    prepare(submission)
    in_process = submission.cluster == "debug"
    if not in_process:  # what starts Python finds this copy of the project
        found = filter(None, [os.environ.get("PYTHONPATH")])
        os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT), *found])
    failed = 0
    for plan in made:
        say(described(plan))
        elements = workers(submission, plan, in_process)
        if in_process:
            _here(submission, elements)
        else:
            _side_by_side(submission, elements)
        failed += _failures(submission, plan, say)
    return 1 if failed else 0


def refuse_missing(settings: ClusterSettings) -> None:
    """Raise UsageError where this machine has not what one job asks for."""
    import torch

    gpus, asked = torch.cuda.device_count(), settings.gpus_per_node or 0
    if settings.nodes > 1:
        raise UsageError(f"--nodes {settings.nodes}: this machine is one node; allowed: 1")
    if asked > gpus:
        raise UsageError(f"--gpus-per-node {asked}: this machine has {gpus}")


def _slots(settings: ClusterSettings) -> list[tuple[int, ...]]:
    """What each of the elements that run at once gets: GPUs by number, or none."""
    import torch

    asked = settings.gpus_per_node or 0
    room = torch.cuda.device_count() // asked if asked else cores() // settings.cpus
    count = max(1, min(room, settings.array_parallelism or room))
    return [tuple(range(slot * asked, (slot + 1) * asked)) for slot in range(count)]


def _side_by_side(submission: Submission, elements: Sequence[Worker]) -> None:
    """Execute ``elements`` in processes of submitit's, which Ctrl-C ends with this one."""
    free = _slots(submission.settings)
    waiting = list(reversed(elements))
    running: list[tuple[Job[None], tuple[int, ...]]] = []
    try:
        while waiting or running:
            while waiting and free:
                gpus = free.pop()
                running.append((_executor(submission, gpus).submit(waiting.pop()), gpus))
            time.sleep(_POLL_SECONDS)
            over = [entry for entry in running if entry[0].done()]
            running = [entry for entry in running if entry not in over]
            free += [gpus for _, gpus in over]
    finally:
        for job, _ in running:
            job.cancel()


def _executor(submission: Submission, gpus: tuple[int, ...]) -> LocalExecutor:
    from submitit import LocalExecutor

    settings = submission.settings
    executor = LocalExecutor(logs_of(submission), python=settings.python)
    executor._throttling = 0  # which spares a cluster's scheduler
    executor.update_parameters(
        timeout_min=settings.time,
        gpus_per_node=len(gpus),
        visible_gpus=gpus,
        tasks_per_node=settings.tasks_per_node,
        signal_delay_s=settings.signal_seconds,
        setup=settings.setup,
    )
    return executor


def _here(submission: Submission, elements: Sequence[Worker]) -> None:
    from submitit import DebugExecutor

    executor = DebugExecutor(logs_of(submission))
    for worker in elements:
        # Looks at the exception instead of raising it: what has failed says its folder.
        executor.submit(worker).exception()


def _failures(submission: Submission, plan: ArrayPlan, say: Say) -> int:
    """Say which jobs of ``plan`` are not finished; returns how many."""
    count = 0
    out = Path(submission.places["out"])
    for element in plan.elements:
        for job in element:
            if not is_finished(out, job.key, job.is_run):
                reason = recorded_failure(job_folder(out, job.key, job.is_run))
                say(f"FAILED {job.title}: {reason or 'ended without a result'}")
                count += 1
    return count
