"""What a job of the cluster does: its share of a grid's runs, side by side.

submitit pickles a ``Worker`` for each element of an array and calls it there. Everything that is
to outlive the job is in the folders of the runs, so a job that starts again, for whatever reason,
goes on where the last one was.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itmc.errors import UsageError
from slurm.code import refuse_other_code
from suites.folders import FAILURE, is_finished, job_folder, record_failure, recorded_failure

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

    from suites.config import Places
    from suites.execute import Executor
    from suites.plan import Job

# What loads torch is imported where it is needed: submitting makes thousands of these.

CHECKPOINT = "checkpoint.pt"
"""As ``itmc.training.checkpoint`` calls it."""
_IN_VAIN = 5
"""Starts in a row that may come to nothing: the cluster may want its node back early, or twice."""
_NO_PROGRESS = (
    f"was stopped by the cluster {_IN_VAIN} times in a row with nothing done in between; give it a "
    "longer --time, or a partition that preempts less (python -m slurm.retry takes both)"
)


class FailedRunsError(RuntimeError):
    """Some runs of a job have failed; each has said why in its own folder."""


@dataclass(frozen=True)
class Need:
    """A stage that must be finished before."""

    key: str
    title: str


@dataclass(frozen=True)
class Task:
    """A run or stage to execute."""

    key: str
    is_run: bool
    what: str
    title: str
    run: str
    """Its configuration as JSON."""
    needs: tuple[Need, ...]


@dataclass
class Worker:
    """Executes tasks side by side, each in a process of its own."""

    tasks: tuple[Task, ...]
    out: Path
    places: str
    """As JSON."""
    code: Path
    """The file with the version of the code that the grid was planned with."""
    in_process: bool = False
    """Execute one task after the other in this process instead: to debug."""
    marks: dict[str, int] = field(default_factory=dict)
    """By key, when the last checkpoint was written before the job was stopped."""
    in_vain: int = 0
    """How often in a row it was stopped with nothing done."""
    _executor: Executor | None = None

    def __call__(self) -> None:
        """Execute all tasks.

        One that fails, or whose stages are missing, says so in its folder and stops no other.
        Raises FailedRunsError at the end if there was one, so that the cluster calls the job
        failed too.
        """
        from suites.config import Places

        places, log = Places.model_validate_json(self.places), Log()
        rank = self._join_others()
        jobs = [job for task in self.tasks if (job := self._job(task, log)) is not None]
        if self.in_process:
            _one_by_one(jobs, places, log)
        else:
            self._side_by_side(jobs, places, log)
        if rank == 0:
            self._look_for_the_unfinished(log)
        if log.failures:
            said = "; ".join(f"{title}: {reason}" for title, reason in log.failures.items())
            raise FailedRunsError(f"{len(log.failures)} of {len(self.tasks)} failed: {said}")

    def checkpoint(self) -> DelayedSubmission | None:
        """Stop all tasks with their checkpoints written; returns what is to go on in a further job.

        submitit calls it when the cluster announces that the job is preempted or near its time
        limit. None, so that it is not started again, where nothing is left to do, or where nothing
        was done for too many times in a row.
        """
        from submitit.helpers import DelayedSubmission

        if self._executor is not None:
            self._executor.pause()
        left = tuple(
            task for task in self.tasks
            if not self._is_finished(task) and not recorded_failure(self._folder(task))
        )  # fmt: skip
        marks = {task.key: _written(self._folder(task) / CHECKPOINT) for task in left}
        in_vain = self.in_vain + 1 if marks == self.marks else int(not any(marks.values()))
        if left and in_vain >= _IN_VAIN:
            for task in left:
                record_failure(self._folder(task), task.title, _NO_PROGRESS)
        if not left or in_vain >= _IN_VAIN:
            return None
        return DelayedSubmission(
            dataclasses.replace(self, tasks=left, marks=marks, in_vain=in_vain)
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_executor": None}

    def _join_others(self) -> int:
        """Tell torch which of the processes of the job this is; returns its rank."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if self.in_process or JobEnvironment().num_tasks == 1:
            return 0
        environment = TorchDistributedEnvironment()
        # Where nodes reach one another by other names, the cluster's setup says so.
        environment.master_addr = os.environ.get("MASTER_ADDR", environment.master_addr)
        # All GPUs of the node stay visible: each process takes that of its local rank.
        environment.export(set_cuda_visible_devices=False, overwrite=True)
        return environment.rank

    def _job(self, task: Task, log: Log) -> Job | None:
        """What there is to do for ``task``; None where it is finished, or cannot be done."""
        if self._is_finished(task):
            return None
        # What an earlier attempt left is no failure of this one.
        (self._folder(task) / FAILURE).unlink(missing_ok=True)
        try:
            refuse_other_code(self.code)
            job = _as_planned(task)
            self._refuse_unmet(task)
        except UsageError as error:
            log.failures[task.title] = record_failure(self._folder(task), task.title, error)
            return None
        return job

    def _look_for_the_unfinished(self, log: Log) -> None:
        """Such as one that another process has taken over, or that could not write why it ended."""
        for task in self.tasks:
            if task.title not in log.failures and not self._is_finished(task):
                log.failures[task.title] = "is not finished"

    def _refuse_unmet(self, task: Task) -> None:
        """Raise UsageError where a stage that ``task`` needs is not finished."""
        for need in task.needs:
            if is_finished(self.out, need.key, is_run=False):
                continue
            if reason := recorded_failure(job_folder(self.out, need.key, is_run=False)):
                raise UsageError(f"needs a failed {need.title}: {reason}")
            raise UsageError(
                f"needs {need.title}, which is not finished: its job was cancelled or killed; "
                f"python -m slurm.retry {self.out} submits both again"
            )

    def _side_by_side(self, jobs: list[Job], places: Places, log: Log) -> None:
        from suites.execute import Executor
        from suites.plan import Plan

        self._executor = Executor(Plan(tuple(jobs)), places, len(jobs), log, on_cluster=True)
        try:
            self._executor.work()
        finally:
            self._executor.stop()

    def _folder(self, task: Task) -> Path:
        return job_folder(self.out, task.key, task.is_run)

    def _is_finished(self, task: Task) -> bool:
        return is_finished(self.out, task.key, task.is_run)


class Log:
    """Says in the job's own log what becomes of its tasks."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}
        """By title of a task, why it has failed."""

    def say(self, text: str) -> None:
        """One line."""
        print(text, flush=True)

    def advance(self, job: Job, share: float) -> None:
        """Nothing: each run has a log of its own."""

    def already_finished(self, job: Job) -> None:
        """Another job has finished it meanwhile."""
        self.say(f"{job.title}: finished already")

    def finished(self, job: Job, places: Places, seconds: float) -> None:
        """``job`` is finished."""
        self.say(f"{job.title}: finished in {seconds:.1f} s")

    def failed(self, job: Job, reason: str) -> None:
        """``job`` has failed."""
        self.failures[job.title] = reason
        self.say(f"{job.title}: FAILED: {reason}")


def _as_planned(task: Task) -> Job:
    """The job of ``task``, without what it needs, which is finished.

    Raises UsageError where its configuration is not that which was planned.
    """
    from pydantic import ValidationError

    from suites.config import RunConfig
    from suites.plan import Job, keys_of

    wrong = (
        f"the configuration of {task.title} differs from what was planned as {task.key}; submit "
        "the grid again"
    )
    try:
        run = RunConfig.model_validate_json(task.run)
    except ValidationError as error:
        raise UsageError(wrong) from error
    if task.key not in keys_of(run):
        raise UsageError(wrong)
    return Job(task.key, run, task.is_run, (), 0.0, 0, task.what)


def _one_by_one(jobs: list[Job], places: Places, log: Log) -> None:
    """Execute ``jobs`` in this process."""
    from suites.worker import execute

    for job in jobs:
        folder = job_folder(places.out, job.key, job.is_run)
        try:
            execute(job.run, job.key, places, lambda *_: None, log.say)
        except Exception as error:  # it is this task's failure and no other's
            log.failed(job, record_failure(folder, job.title, error))


def _written(path: Path) -> int:
    """When ``path`` was written last, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
