"""A run that is asked to stop at any step goes on from that step, and ends the same to the bit."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor

import baselines  # noqa: F401 - registers them
from itmc.domains.batches import Batch
from itmc.itmc import Alternate
from itmc.training.checkpoint import CHECKPOINT, PROGRESS
from itmc.training.control import Control, Stopped
from itmc.training.method import methods
from suites import worker
from suites.config import Places
from suites.folders import recorded_failure
from suites.lease import LeaseLostError
from suites.plan import Job, plan
from tests.suites.tiny_runs import (
    STEPS,
    assert_same_result,
    config,
    few_images,
    places,
    silent,
)


@pytest.fixture(scope="module", autouse=True)
def _few_images() -> Iterator[None]:
    with few_images():
        yield


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, store: Path) -> tuple[Places, Places]:
    """Where jobs are never stopped, and where they are; what methods share is computed once."""
    base = tmp_path_factory.mktemp("stopping")
    return places(base / "whole", store), places(base / "stopped", store)


class After(Control):
    """Asks, after so many steps, for what ``ask`` asks."""

    def __init__(self, steps: int, ask: Callable[[Control], None] = Control.stop) -> None:
        super().__init__()
        self._left, self._ask = steps, ask

    def after_step(self, save: Callable[[], None]) -> None:
        self._left -= 1
        if self._left == 0:
            self._ask(self)
        super().after_step(save)


def stops(job: Job) -> Iterator[int]:
    """Steps between stops: the first and the last step of an epoch, and then drawn ones."""
    draws = random.Random(job.title)
    yield from (1, STEPS - 1, 1)
    while True:
        yield draws.randrange(1, 3 * STEPS)


def stopped_again_and_again(job: Job, where: Places) -> int:
    """Execute ``job`` to its end; returns how often it was stopped on the way."""
    folder = worker.job_folder(where.out, job.key, job.is_run)
    for count, steps in enumerate(stops(job)):
        try:
            worker.execute(job.run, job.key, where, silent, silent, After(steps))
        except Stopped:
            assert (folder / CHECKPOINT).exists() and not (folder / worker.FAILURE).exists()
        else:
            return count
    raise AssertionError("it never finishes")


def compute(method: str, whole: Places, stopped: Places) -> Iterator[tuple[Job, int]]:
    """Execute what ``method`` needs in both places; yields how often each job was stopped."""
    for job in plan([config(method, epochs=3)]).jobs:
        if worker.is_finished(whole.out, job.key, job.is_run):
            continue  # shared with a method before
        worker.execute(job.run, job.key, whole, silent, silent)
        yield job, stopped_again_and_again(job, stopped)


METHODS = [name for name, method in methods().items() if method.group != "ablations"]


@pytest.mark.parametrize("method", [*METHODS, "itmc_frozen_teacher", "itmc_taylor_min"])
def test_every_stage_stopped_within_epochs_ends_the_same(
    method: str, both: tuple[Places, Places]
) -> None:
    for job, times in compute(method, *both):
        trains = not job.is_run or methods()[method].compressed
        assert times >= 2 if trains else times == 0
        assert_same_result(*(worker.job_folder(p.out, job.key, job.is_run) for p in both))


def test_itmc_is_stopped_while_it_prunes(both: tuple[Places, Places]) -> None:
    """Else the test above would not show that the importance of half an epoch is kept."""
    list(compute("itmc", *both))
    run = config("itmc", epochs=3)
    lines = (both[1].out / run.key / PROGRESS).read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    # The lead has taken 2 of the 6 epochs of a student.
    pruned = [bool(epoch["events"]["removed_channels"]) for epoch in epochs]
    assert pruned == [True, True, False, False]


class Killed(BaseException):
    """Like a signal: nothing on the way may swallow it."""


def test_a_run_goes_on_from_what_was_saved_before_it_was_killed(
    both: tuple[Places, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = both[0]
    list(compute("itmc", *both))
    run = config("itmc", epochs=3)
    shutil.copytree(whole.out / "stages", tmp_path / "stages")
    where = whole.model_copy(update={"out": tmp_path})
    original, seen, again = Alternate.losses, [], []

    def losses(self: Alternate, batch: Batch, progress: float) -> dict[str, Tensor]:
        seen.append(progress)
        if len(seen) == STEPS + 4 and not again:  # two steps after what was saved
            raise Killed
        return original(self, batch, progress)

    monkeypatch.setattr(Alternate, "losses", losses)
    with pytest.raises(Killed):
        worker.execute(run, run.key, where, silent, silent, After(STEPS + 1, Control.save))
    assert seen[STEPS + 3] > seen[STEPS + 1]
    again.append(seen[STEPS + 1])
    seen.clear()
    worker.execute(run, run.key, where, silent, silent)
    assert seen[:1] == again
    assert_same_result(whole.out / run.key, tmp_path / run.key)


@pytest.mark.parametrize(
    ("raised", "message"),
    [(Stopped(), ("stopped",)), (LeaseLostError("taken over"), ("lost", "taken over"))],
)
def test_a_job_that_stops_is_no_failure(
    raised: Exception,
    message: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(worker, "execute", stop)
    monkeypatch.setattr(worker, "_redirect_output", silent)
    run = config("itmc")
    where = Places(out=tmp_path, data=tmp_path, threads=1)
    sent: list[tuple[str, ...]] = []
    connection = SimpleNamespace(send=sent.append)
    folder = tmp_path / run.key
    worker.child(run.model_dump_json(), where.model_dump_json(), folder, "itmc", connection)
    assert sent == [message] and list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_redirect_output", silent)
    where, folder = Places(out=tmp_path, data=tmp_path, threads=1), tmp_path / "0123"
    run = config("itmc").model_dump_json().replace('"lr":0.05', '"lr":null')
    sent: list[tuple[str, ...]] = []
    connection = SimpleNamespace(send=sent.append)
    worker.child(run, where.model_dump_json(), folder, "itmc", connection)
    ((word, reason),) = sent
    assert word == "failed" and recorded_failure(folder) == reason
    assert reason.startswith("ValidationError") and "RunConfig" in reason
