"""A run that is stopped anywhere and taken up again ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itmc.domains.batches import Batch, Batches
from itmc.errors import UsageError
from itmc.training.checkpoint import CHECKPOINT, PREVIOUS, PROGRESS
from suites import worker
from suites.config import Places, RunConfig
from suites.folders import RECORD, job_folder
from suites.plan import plan
from tests.suites.tiny_runs import (
    EPOCHS,
    assert_same_result,
    config,
    ever_saving,
    few_images,
    places,
    silent,
)

METHODS = ("itmc", "dan_student", "kd", "kd_stda", "tcp", "mean_teacher", "admp")
Report = Callable[[int, int], None]


class Interrupted(BaseException):
    """Like KeyboardInterrupt: nothing on the way may swallow it."""


@pytest.fixture(scope="module", autouse=True)
def _few_images() -> Iterator[None]:
    with few_images():
        yield


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """An out folder with the shared stages of all methods, and no run."""
    out = tmp_path_factory.mktemp("stages")
    for job in plan([config(method) for method in METHODS]).stages:
        worker.execute(job.run, job.key, places(out, store), silent, silent)
    return out


@pytest.fixture
def out(stages: Path, tmp_path: Path) -> Path:
    shutil.copytree(stages, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def uninterrupted(
    stages: Path, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a method's run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    shutil.copytree(stages, out)

    def folder(method: str) -> Path:
        run = config(method)
        worker.execute(run, run.key, places(out, store), silent, silent)
        return out / run.key

    return folder


def stopping_after(epochs: set[int]) -> Report:
    """Raises once at the end of each of ``epochs``, when their checkpoint has been written."""

    def report(done: int, _: int) -> None:
        if done in epochs:
            epochs.remove(done)
            raise Interrupted

    return report


def execute_until_finished(run: RunConfig, where: Places, report: Report) -> int:
    """How often the run had to be taken up again."""
    for attempt in range(20):
        try:
            worker.execute(run, run.key, where, report, silent, ever_saving())
        except Interrupted:
            continue
        return attempt
    raise AssertionError("it never finishes")


@pytest.mark.parametrize("method", METHODS)
def test_stopped_after_every_epoch_it_ends_the_same(
    method: str, uninterrupted: Callable[[str], Path], out: Path, store: Path
) -> None:
    run = config(method)
    node = run.recipe()
    epochs = node.stage.length(node.knobs, run.training)
    report = stopping_after(set(range(1, epochs + 1)))
    assert execute_until_finished(run, places(out, store), report) == epochs >= EPOCHS
    assert_same_result(uninterrupted(method), out / run.key)


def test_itmc_prunes_in_several_of_those_epochs(uninterrupted: Callable[[str], Path]) -> None:
    """Else the test above would not show that a pruned network is taken up."""
    lines = (uninterrupted("itmc") / "progress.jsonl").read_text().splitlines()
    macs = [json.loads(line)["macs"] for line in lines]
    assert macs[0] > macs[1] > macs[2] > macs[4] == macs[-1]  # e1 is 0.6 of the 8 that are left


@pytest.mark.parametrize("step", [0, 6])
def test_stopped_within_an_epoch_it_ends_the_same(
    step: int,
    uninterrupted: Callable[[str], Path],
    out: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = config("itmc")
    original, stopped = Batches.at, []

    def at(self: Batches, number: int) -> Batch:
        if number == step and not stopped:
            stopped.append(step)
            raise Interrupted
        return original(self, number)

    monkeypatch.setattr(Batches, "at", at)
    assert execute_until_finished(run, places(out, store), silent) == 1
    assert_same_result(uninterrupted("itmc"), out / run.key)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_damaged_checkpoint_costs_time_and_nothing_else(
    left: float, uninterrupted: Callable[[str], Path], out: Path, store: Path
) -> None:
    """The first time the one before it is gone on from; and then there is none."""
    run, where = config("dan_student"), places(out, store)
    for stop, names, start in ((2, [CHECKPOINT], 1), (2, [CHECKPOINT, PREVIOUS], 0)):
        with pytest.raises(Interrupted):
            worker.execute(run, run.key, where, stopping_after({stop}), silent, ever_saving())
        for name in names:
            file = out / run.key / name
            content = file.read_bytes()
            file.write_bytes(content[: int(left * len(content))])
        reports, said = list[int](), list[str]()
        with pytest.raises(Interrupted):
            worker.execute(run, run.key, where, _hearing(reports), said.append, ever_saving())
        assert reports == [start]
        assert len(said) == 1 and f"{CHECKPOINT} is refused: it is cut short" in said[0]
    worker.execute(run, run.key, where, silent, silent)
    assert_same_result(uninterrupted("dan_student"), out / run.key)


def _hearing(reports: list[int]) -> Report:
    """Stops when it has heard how many epochs are over, in ``reports``."""

    def report(done: int, _: int) -> None:
        reports.append(done)
        raise Interrupted

    return report


def test_a_finished_run_is_not_touched(uninterrupted: Callable[[str], Path], store: Path) -> None:
    folder = uninterrupted("dan_student")
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    run = config("dan_student")
    worker.execute(run, run.key, places(folder.parent, store), silent, silent)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before
    assert not {CHECKPOINT, PREVIOUS} & set(before)


def test_a_stage_before_that_has_lost_epochs_of_its_log_is_an_error(out: Path, store: Path) -> None:
    """Else the record would have a part of what the run has cost."""
    run = config("dan_student")
    (before,) = run.recipe().inputs.values()
    log = job_folder(out, run.stage_key(before), is_run=False) / PROGRESS
    log.write_bytes(log.read_bytes()[:-1])
    with pytest.raises(UsageError, match=f"{PROGRESS} in .* has 0 of 1 epochs; delete the folder"):
        worker.execute(run, run.key, places(out, store), silent, silent)
    assert not (out / run.key / RECORD).exists()
