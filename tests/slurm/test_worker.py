"""What a job of the cluster does with its tasks, here in this process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from itmc.domains.store import Domain, open_domain
from slurm import payload
from slurm.arrays import ArrayPlan
from slurm.code import code_version
from slurm.recall import new_submission
from slurm.settings import ClusterSettings
from slurm.worker import _IN_VAIN, CHECKPOINT, FailedRunsError, Task, Worker
from suites import worker as suites_worker
from suites.folders import FAILURE, is_finished, job_folder, recorded_failure
from suites.plan import Job
from suites.planning import Planned
from tests.slurm.factory import AFTER, fail, finish
from tests.suites.conftest import REPOSITORY

Make = Callable[..., Worker]


@pytest.fixture
def make(asked: Planned) -> Make:
    """A worker for those jobs of GRID that have these titles."""
    settings = ClusterSettings()
    page = new_submission(asked.plan.jobs, asked.places, ("x",), "debug", settings)
    payload.prepare(page, code_version())

    def made(*titles: str) -> Worker:
        jobs = tuple(job for title in titles for job in asked.plan.jobs if job.title == title)
        assert len(jobs) == len(titles)
        plan = ArrayPlan("a", 0, (jobs,), ())
        (worker,) = payload.workers(page, plan, in_process=True)
        return worker

    return made


PRETRAIN, TRAIN, ADAPT = (
    f"{what}, hand->print seed 0" for what in ("pretrain", "train on source", "adapt by mcc")
)
RUN, KD = "source_only hand->print seed 0", "kd hand->print c=0.5 seed 0"


def folder(worker: Worker, task: Task) -> Path:
    return job_folder(worker.out, task.key, task.is_run)


def reasons(worker: Worker) -> list[str]:
    """Why each task has failed."""
    return [recorded_failure(folder(worker, task)) for task in worker.tasks]


def is_done(worker: Worker, index: int) -> bool:
    task = worker.tasks[index]
    return is_finished(worker.out, task.key, task.is_run)


def changed(worker: Worker, index: int, **changes: object) -> Worker:
    """``worker`` with another task in that place."""
    tasks = list(worker.tasks)
    tasks[index] = dataclasses.replace(tasks[index], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(worker, tasks=tuple(tasks))


def test_what_lacks_its_stage_says_so_and_stops_no_other(make: Make) -> None:
    worker = make(RUN, PRETRAIN)
    with pytest.raises(FailedRunsError, match=f"^1 of 2 failed: {RUN}: needs train on source"):
        worker()
    said, nothing = reasons(worker)
    assert f"needs {TRAIN}, which is not finished" in said
    assert f"python -m slurm.retry {worker.out}" in said and nothing == ""
    assert [is_done(worker, index) for index in (0, 1)] == [False, True]


def test_what_needs_a_failed_stage_tells_its_reason(make: Make) -> None:
    worker, stage = make(KD), make(ADAPT).tasks[0]
    fail(worker.out, stage.key, "loss is no number", AFTER, is_run=False)
    with pytest.raises(FailedRunsError):
        worker()
    assert reasons(worker) == [f"needs a failed {ADAPT}: loss is no number"]


def test_another_configuration_than_was_planned_is_refused(make: Make) -> None:
    worker = make(TRAIN, ADAPT, PRETRAIN)
    other = json.dumps(json.loads(worker.tasks[0].run) | {"seed": 1})
    worker = changed(changed(worker, 0, run=other), 1, run='{"seed": "none"}')
    with pytest.raises(FailedRunsError, match=r"^2 of 3 failed"):
        worker()
    for index in (0, 1):
        task = worker.tasks[index]
        assert reasons(worker)[index] == (
            f"the configuration of {task.title} differs from what was planned as {task.key}; "
            "submit the grid again"
        )
    assert is_done(worker, 2)


def test_other_code_than_was_planned_is_refused(make: Make) -> None:
    worker = make(PRETRAIN, RUN)
    planned = json.loads(worker.code.read_bytes()) | {"itmc/errors.py": "another"}
    worker.code.write_text(json.dumps(planned))
    with pytest.raises(FailedRunsError, match=r"^2 of 2 failed"):
        worker()
    for said in reasons(worker):
        assert "itmc/errors.py (planned another, here " in said


def test_other_data_than_was_planned_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(place: Path) -> Domain:
        return dataclasses.replace(open_domain(place), digest="another")

    monkeypatch.setattr(suites_worker, "open_domain", other)
    worker = make(PRETRAIN)
    with pytest.raises(FailedRunsError):
        worker()
    assert reasons(worker) == ["digits/hand has changed since the run was planned; plan it anew"]


def test_what_is_finished_is_left_alone(make: Make) -> None:
    worker = make(PRETRAIN, RUN)
    for task in worker.tasks:
        finish(worker.out, task.key, task.is_run)
    worker()
    for task in worker.tasks:
        assert len(list(folder(worker, task).iterdir())) == 1


def test_what_failed_is_tried_again(make: Make) -> None:
    worker = make(PRETRAIN)
    fail(worker.out, worker.tasks[0].key, "loss is no number", AFTER, is_run=False)
    worker()
    assert is_done(worker, 0)
    assert not (folder(worker, worker.tasks[0]) / FAILURE).exists()


def test_a_failure_of_before_is_gone_once_it_is_tried_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job that is stopped then would not go on."""
    worker = make(PRETRAIN)
    fail(worker.out, worker.tasks[0].key, "loss is no number", AFTER, is_run=False)
    monkeypatch.setattr("slurm.worker._one_by_one", lambda *_: None)  # stopped at once
    with pytest.raises(FailedRunsError, match="is not finished"):
        worker()
    assert reasons(worker) == [""]
    assert worker.checkpoint() is not None


def test_a_stopped_job_goes_on_as_a_further_one(make: Make, tmp_path: Path) -> None:
    worker = make(PRETRAIN)
    delayed = worker.checkpoint()
    assert delayed is not None and reasons(worker) == [""]
    delayed.dump(tmp_path / "delayed.pkl")
    loaded = DelayedSubmission.load(tmp_path / "delayed.pkl")
    loaded.result()
    assert is_done(worker, 0)


def again(worker: Worker) -> Worker:
    """The worker of the job that goes on where ``worker`` was stopped."""
    delayed = worker.checkpoint()
    assert delayed is not None
    function = delayed.function
    assert isinstance(function, Worker)
    return function


GIVEN_UP = "was stopped by the cluster 5 times in a row with nothing done in between; "


def in_vain(worker: Worker, times: int = _IN_VAIN - 1) -> Worker:
    """The worker that goes on after so many stops with nothing done."""
    for _ in range(times):
        worker = again(worker)
    return worker


def test_a_job_that_gets_no_further_is_given_up(make: Make) -> None:
    worker = in_vain(make(PRETRAIN, TRAIN))
    assert reasons(worker) == ["", ""]
    assert worker.checkpoint() is None
    for said in reasons(worker):
        assert said.startswith(GIVEN_UP) and "--time" in said


def test_what_has_failed_does_not_go_on(make: Make) -> None:
    """It keeps its reason, also where the others are given up."""
    first = make(PRETRAIN, TRAIN)
    fail(first.out, first.tasks[1].key, "loss is no number", AFTER, is_run=False)
    worker = in_vain(first)
    assert [task.title for task in worker.tasks] == [PRETRAIN]
    assert worker.checkpoint() is None
    stopped, failed = reasons(first)
    assert stopped.startswith(GIVEN_UP) and failed == "loss is no number"


def test_a_job_with_nothing_left_is_not_started_again(make: Make) -> None:
    worker = make(PRETRAIN)
    finish(worker.out, worker.tasks[0].key, is_run=False)
    assert worker.checkpoint() is None and reasons(worker) == [""]


def test_a_job_that_gets_further_goes_on(make: Make) -> None:
    """By a checkpoint, or by a task that is finished meanwhile; then it counts anew."""
    worker = make(PRETRAIN, TRAIN)
    path = folder(worker, worker.tasks[0]) / CHECKPOINT
    path.parent.mkdir(parents=True)
    path.touch()
    for turn in (1, 2):
        worker = in_vain(again(worker))
        os.utime(path, ns=(turn, turn))
    worker = in_vain(again(worker))
    finish(worker.out, worker.tasks[1].key, is_run=False)
    worker = in_vain(again(worker))
    assert [task.title for task in worker.tasks] == [PRETRAIN]
    assert worker.checkpoint() is None
    assert reasons(worker)[0].startswith(GIVEN_UP)


def test_what_is_pickled_is_small_and_loads_no_torch(
    make: Make, asked: Planned, tmp_path: Path
) -> None:
    titles = [job.title for job in asked.plan.jobs]
    assert len(titles) == 5
    path = tmp_path / "worker.pkl"
    DelayedSubmission(make(*titles)).dump(path)
    assert path.stat().st_size < 10_000 * len(titles)
    code = (
        "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); "
        "assert 'torch' not in sys.modules, 'torch is loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=REPOSITORY, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_needs_are_called_by_their_titles(make: Make, asked: Planned) -> None:
    (need,) = make(RUN).tasks[0].needs
    stage = next(job for job in asked.plan.stages if job.title == TRAIN)
    assert (need.key, need.title) == (stage.key, TRAIN)


def test_a_stage_of_another_submission_has_only_its_key(asked: Planned) -> None:
    jobs: list[Job] = [asked.plan.jobs[-1]]
    page = new_submission(jobs, asked.places, ("x",), "slurm", ClusterSettings())
    (worker,) = payload.workers(page, ArrayPlan("a", 0, (tuple(jobs),), ()))
    assert [need.title for need in worker.tasks[0].needs] == [f"stage {jobs[0].needs[0]}"]
