"""The same workers without a cluster: in processes of this machine, or in this one."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from itmc.errors import UsageError
from slurm.arrays import ArrayPlan
from slurm.code import PROJECT
from slurm.launch import TIMEOUTS, Say, counted, described
from slurm.ledger import Submission
from slurm.payload import logs_of, workers
from slurm.settings import ClusterSettings
from slurm.worker import Worker
from suites.execute import PAUSE_SECONDS, STOP_SIGNAL
from suites.folders import is_finished, job_folder, recorded_failure
from suites.options import cores
from suites.plan import Job

STOPPED = "stopped; the same command takes up where it stopped"
_POLL_SECONDS = 0.1
_GO_ON = 144
"""Exit code of submitit's processes that were stopped and are to be started again."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class _Element:
    """An element of an array, and what it computes."""

    name: str
    jobs: tuple[Job, ...]
    worker: Worker


@dataclass(frozen=True)
class _Running:
    element: _Element
    gpus: tuple[int, ...]
    tasks: tuple[subprocess.Popen[bytes], ...]

    def code(self) -> int | None:
        """Its exit code once all of its processes have ended."""
        codes = [task.poll() for task in self.tasks]
        return None if None in codes else max(code or 0 for code in codes)


def run(submission: Submission, made: Sequence[ArrayPlan], say: Say) -> int:
    """Execute ``made``; returns the exit code: 1 where a job has failed.

    All of them are in the ledger already, for no other command may take what waits here.
    With ``local`` as many elements at once as cores or GPUs allow, each in processes of its own;
    with ``debug`` one after the other in this process. Ctrl-C says that nothing goes on.
    """
    in_process = submission.cluster == "debug"
    elements = [
        _Element(f"{plan.name}.{index}", jobs, worker)
        for plan in made
        for index, (jobs, worker) in enumerate(
            zip(plan.elements, workers(submission, plan, in_process), strict=True)
        )
    ]
    for plan in made:
        say(described(plan))
    told = _Told(Path(submission.places["out"]), sum(len(e.jobs) for e in elements), say)
    try:
        if in_process:
            _here(submission, elements, told)
        else:
            with _ended_as_by_ctrl_c():
                _side_by_side(submission, elements, told)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(STOPPED) from None
    say(f"{told.done} of {counted(told.total, 'job')} finished")
    return 1 if told.done < told.total else 0


class _Told:
    """Says what has become of each job, and counts."""

    def __init__(self, out: Path, total: int, say: Say) -> None:
        self.out, self.total, self.done, self._ended, self._say = out, total, 0, 0, say

    def over(self, element: _Element) -> None:
        """``element`` is over."""
        for job in element.jobs:
            self._ended += 1
            word = "finished"
            if is_finished(self.out, job.key, job.is_run):
                self.done += 1
            else:
                folder = job_folder(self.out, job.key, job.is_run)
                word = f"FAILED: {recorded_failure(folder) or 'ended without a result'}"
            self._say(f"[{self._ended}/{self.total}] {job.title}: {word}")


def refuse_missing(settings: ClusterSettings, option: str) -> None:
    """Raise UsageError where this machine has not what one job asks for; ``option``: GPUs, by."""
    import torch

    gpus, asked = torch.cuda.device_count(), settings.gpus_per_node or 0
    if settings.nodes > 1:
        raise UsageError(f"--nodes {settings.nodes}: this machine is one node; allowed: 1")
    if asked > gpus:
        raise UsageError(f"{option}: this machine has {counted(gpus, 'GPU')}")


def _slots(settings: ClusterSettings) -> list[tuple[int, ...]]:
    """What each of the elements that run at once gets: GPUs by number, or none."""
    import torch

    asked = settings.gpus_per_node or 0
    room = torch.cuda.device_count() // asked if asked else cores() // settings.cpus
    count = max(1, min(room, settings.array_parallelism or room))
    return [tuple(range(slot * asked, (slot + 1) * asked)) for slot in range(count)]


def _side_by_side(submission: Submission, elements: Sequence[_Element], told: _Told) -> None:
    """Execute ``elements`` in processes that end with this one, their checkpoints written."""
    free = _slots(submission.settings)
    waiting = list(elements)
    running: list[_Running] = []
    try:
        while waiting or running:
            unfinished = {
                job.key for e in (*waiting, *(r.element for r in running)) for job in e.jobs
            }
            for element in [e for e in waiting if not _needs(e) & unfinished][: len(free)]:
                waiting.remove(element)
                running.append(_started(submission, element, free.pop()))
            time.sleep(_POLL_SECONDS)
            for over in [r for r in running if r.code() is not None]:
                running.remove(over)
                free.append(over.gpus)
                if over.code() == _GO_ON:
                    waiting.insert(0, over.element)
                else:
                    told.over(over.element)
    finally:
        _stop([task for one in running for task in one.tasks])


def _needs(element: _Element) -> set[str]:
    return {key for job in element.jobs for key in job.needs}


def _started(submission: Submission, element: _Element, gpus: tuple[int, ...]) -> _Running:
    """Its processes, as submitit starts one: with a pickle, and an environment that names it."""
    from submitit.core.utils import DelayedSubmission, JobPaths

    settings, folder = submission.settings, logs_of(submission)
    pickle = JobPaths(folder, job_id=element.name).submitted_pickle
    if not pickle.exists():  # else that which it left to go on with
        delayed = DelayedSubmission(element.worker)
        delayed.set_timeout(settings.time, TIMEOUTS)
        delayed.dump(pickle)
    python = settings.python or shlex.quote(sys.executable)
    command = f"exec {python} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    script = "\n".join([*settings.setup, command])
    tasks = []
    for rank in range(settings.tasks_per_node):
        paths = JobPaths(folder, job_id=element.name, task_id=rank)
        with ExitStack() as files:
            out, err = (files.enter_context(p.open("ab")) for p in (paths.stdout, paths.stderr))
            tasks.append(
                subprocess.Popen(
                    ["bash", "-c", script],
                    env=_environment(element.name, rank, settings.tasks_per_node, gpus),
                    stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True, preexec_fn=_die_with_parent,
                )
            )  # fmt: skip
    return _Running(element, gpus, tuple(tasks))


def _environment(name: str, rank: int, size: int, gpus: tuple[int, ...]) -> dict[str, str]:
    """By which submitit's processes know that they are tasks of a job, and which."""
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {
        "PYTHONPATH": path,
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": name,
        "SUBMITIT_LOCAL_NTASKS": str(size),
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
        "SUBMITIT_LOCAL_LOCALID": str(rank),
    }


def _die_with_parent() -> None:
    """Have this process, which is about to begin, killed when the one that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(tasks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Have ``tasks`` write their checkpoints and end; kill those that do not in time."""
    for task in tasks:
        task.send_signal(STOP_SIGNAL)
    deadline = time.monotonic() + PAUSE_SECONDS
    for task in tasks:
        try:
            task.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            task.kill()


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Inside, being terminated or losing the terminal is like Ctrl-C: what was begun is stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _here(submission: Submission, elements: Sequence[_Element], told: _Told) -> None:
    from submitit import DebugExecutor

    executor = DebugExecutor(logs_of(submission))
    for element in elements:
        # Looks at the exception instead of raising it: what has failed says its folder.
        executor.submit(element.worker).exception()
        told.over(element)
