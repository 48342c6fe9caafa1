"""Killed by SIGKILL at any moments and started again, a run ends the same to the bit."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from itmc.training.checkpoint import CHECKPOINT, PREVIOUS, PROGRESS
from suites.config import Places
from suites.folders import CONFIG, RECORD, job_folder
from suites.plan import Job, plan
from tests.suites import kills
from tests.suites.kills import Moment
from tests.suites.tiny_runs import STEPS, config, places

WEIGHTS, NETWORK, DISCREPANCY = "student.safetensors", "student.json", "discrepancy.pt"
TIMES = ("finished", "seconds", "images_per_second", "data_share", "latency_ms")
MEMORY = ("peak_memory_bytes",)
GUARD, ATTEMPTS = 300.0, 20

PRETRAIN, ADAPT, RUN = plan([config("itmc", epochs=3)]).jobs
"""The run is TKD and ACP by turns."""
ANY_TIME = None
"""A moment that a clock chooses, from outside: anywhere from a job's first to its last line."""
Moments = list[tuple[Job, Moment | None]]


def as_released(draw: random.Random) -> Moments:
    """Ten moments for runs whose checkpoints are written as ``Control`` has it."""
    return [
        (PRETRAIN, Moment("before", "batch", draw.randint(1, STEPS))),
        (PRETRAIN, Moment("half", DISCREPANCY)),
        (ADAPT, Moment("before", "evaluate")),
        (ADAPT, ANY_TIME),
        (RUN, Moment("after", "update", draw.randint(1, 2 * STEPS))),
        (RUN, Moment("half", PROGRESS)),
        (RUN, Moment("before", "prune")),
        (RUN, Moment("half", CHECKPOINT)),
        (RUN, ANY_TIME),
        (RUN, Moment("half", RECORD)),
    ]


def by_epochs(draw: random.Random) -> Moments:
    """Ten moments for runs with a checkpoint after each epoch."""
    return [
        (PRETRAIN, ANY_TIME),
        (PRETRAIN, Moment("renamed", NETWORK)),
        (ADAPT, Moment("after", "update", draw.randint(1, STEPS))),
        (ADAPT, Moment("half", CHECKPOINT, draw.randint(1, 2))),
        (RUN, Moment("after", "prune", draw.randint(1, 2))),
        (RUN, Moment("renamed", CHECKPOINT, 2)),  # when there is only the one before it
        (RUN, Moment("after", "evaluate")),
        (RUN, ANY_TIME),
        (RUN, ANY_TIME),
        (RUN, Moment("appeared", RECORD)),
    ]


def by_steps(draw: random.Random) -> Moments:
    """Ten moments for runs with a checkpoint after each step."""
    return [
        (PRETRAIN, ANY_TIME),
        (PRETRAIN, Moment("appeared", WEIGHTS)),
        (ADAPT, Moment("appeared", CONFIG)),
        (ADAPT, ANY_TIME),
        (RUN, Moment("after", "update", 2 * draw.randint(1, STEPS) - 1)),  # the teacher's is to do
        (RUN, Moment("renamed", CHECKPOINT, draw.randint(1, STEPS))),
        (RUN, Moment("half", CHECKPOINT, draw.randint(2, STEPS))),
        (RUN, Moment("before", "record")),
        (RUN, ANY_TIME),
        (RUN, Moment("removed", PREVIOUS)),
    ]


CHAINS = {
    as_released: {},
    by_epochs: {"share": 1e9},
    by_steps: {"every": 0.0, "share": 1e9},
}


@dataclass(frozen=True)
class Starter:
    """Starts jobs in processes of their own, forked from one that has the libraries loaded."""

    processes: Any
    where: Places
    saving: dict[str, float]

    def killed(self, job: Job, moment: Moment | None, after: float | None = None) -> bool:
        """Execute ``job``; whether it was killed, at ``moment`` or ``after`` so many seconds.

        Else it is finished.
        """
        receiver, sender = self.processes.Pipe(duplex=False)
        arguments = (
            job.run.model_dump_json(), self.where.model_dump_json(),
            job_folder(self.where.out, job.key, job.is_run), self.saving, moment,
            sender,
        )  # fmt: skip
        process = self.processes.Process(target=kills.execute, args=arguments, daemon=True)
        process.start()
        sender.close()
        process.join(GUARD if after is None else after)
        hangs = after is None and process.is_alive()
        process.kill()
        process.join()
        assert not hangs, f"{job.title} hangs"
        said = list(_messages(receiver))
        if process.exitcode == -signal.SIGKILL:
            return True
        assert process.exitcode == 0 and said[-1] == ("finished",), said[-1:]
        return False


def _messages(receiver: Any) -> Iterator[tuple[Any, ...]]:
    try:
        while True:
            yield receiver.recv()
    except EOFError:
        return


@dataclass(frozen=True)
class Whole:
    """What comes of the jobs where none is killed, and how many seconds each takes."""

    out: Path
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def processes() -> Any:
    """Starts processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["suites.worker", "tests.suites.kills"])
    return context


@pytest.fixture(scope="module")
def whole(processes: Any, tmp_path_factory: pytest.TempPathFactory, store: Path) -> Whole:
    """The jobs that are never killed."""
    warm_up = places(tmp_path_factory.mktemp("warm_up"), store)
    assert not Starter(processes, warm_up, {}).killed(PRETRAIN, None)
    where, seconds = places(tmp_path_factory.mktemp("whole"), store), dict[str, float]()
    for job in (PRETRAIN, ADAPT, RUN):
        start = time.monotonic()
        assert not Starter(processes, where, {}).killed(job, None)
        seconds[job.key] = time.monotonic() - start
    return Whole(where.out, seconds)


@pytest.mark.parametrize("moments", CHAINS)
@pytest.mark.parametrize("seed", [0])
def test_killed_at_ten_moments_it_ends_the_same(
    moments: Any, seed: int, processes: Any, whole: Whole, tmp_path: Path, store: Path
) -> None:
    """Three chains of ten. A job that a clock's moment misses is begun anew."""
    draw = random.Random(f"{moments.__name__} {seed}")
    start = Starter(processes, places(tmp_path, store), CHAINS[moments])
    drawn, count = moments(draw), 0
    for job in (PRETRAIN, ADAPT, RUN):
        for moment in [m for j, m in drawn if j is job]:
            for _ in range(ATTEMPTS):
                limit = draw.uniform(0, whole.seconds[job.key]) if moment is None else None
                if start.killed(job, moment, limit):
                    count += 1
                    break
                assert_same(job, whole.out, tmp_path, f"before {moment} with seed {seed}")
                shutil.rmtree(job_folder(tmp_path, job.key, job.is_run))
            else:
                pytest.fail(f"{moment} does not come in {job.title}, seed {seed}")
        assert not start.killed(job, None)
        assert_same(job, whole.out, tmp_path, f"with seed {seed}")
    assert count == 10


def assert_same(job: Job, whole: Path, out: Path, when: str) -> None:
    """Every byte of what the job made, and its record but for times; and nothing left behind."""
    one, other = (job_folder(place, job.key, job.is_run) for place in (whole, out))
    names = {path.name for path in one.iterdir()}
    assert {path.name for path in other.iterdir()} == names, when
    for name in (WEIGHTS, NETWORK, DISCREPANCY):
        assert (one / name).read_bytes() == (other / name).read_bytes(), f"{name} {when}"
    assert lines(one) == lines(other), when
    if job.is_run:
        assert record(one) == record(other), when


def lines(folder: Path) -> list[Any]:
    """The log of the epochs, without times."""
    return [_timeless(json.loads(line)) for line in (folder / PROGRESS).read_text().splitlines()]


def record(folder: Path) -> Any:
    """The record, without times, and without the memory of the process."""
    return _timeless(json.loads((folder / RECORD).read_text()))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in (*TIMES, *MEMORY)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
