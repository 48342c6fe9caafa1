"""A run of two processes: one record, one student, and a checkpoint that both resume from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from itmc.domains.store import Domain, open_domain
from itmc.networks import load
from suites import worker
from suites.config import Places, RunConfig
from suites.plan import plan
from tests.itmc.processes import Together, started
from tests.suites.conftest import prepared
from tests.suites.tiny_runs import config, ever_saving, silent


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    with started() as processes:
        yield processes


def few(place: Path) -> Domain:
    whole = open_domain(place)
    return Domain(whole.name, whole.images[:200], whole.labels[:200], digest=whole.name)


def execute(run: RunConfig, key: str, places: Places, stop: int | None = None) -> str:
    """The reports of a job, or why it was stopped after so many epochs."""
    reports: list[int] = []

    def report(done: int, _: int) -> None:
        reports.append(done)
        if done == stop and len(reports) > 1:
            raise InterruptedError(f"after {done}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "open_domain", few)
        worker.execute(run, key, places, report, silent, ever_saving())
    return str(reports)


@pytest.fixture(scope="module")
def done(
    together: Together, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunConfig, Places]:
    """A run of ITMC by two processes, its shared stages too."""
    run = config("itmc")
    # Few events, far apart: whether one that is nearly met takes place depends on rounding.
    run = run.model_copy(update={"knobs": run.knobs | {"teacher_lead": 1.0}})
    places = Places(out=tmp_path_factory.mktemp("out"), data=prepared(store), threads=1)
    for job in plan([run]).jobs:
        together.alike(execute, job.run, job.key, places)
    return run, places


def record(run: RunConfig, places: Places) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((places.out / run.key / "record.json").read_text())
    return made


def test_the_record_is_that_of_one_process(done: tuple[RunConfig, Places], tmp_path: Path) -> None:
    run, places = done
    alone = places.model_copy(update={"out": tmp_path / "out"})
    for job in plan([run]).jobs:
        execute(job.run, job.key, alone)
    made, expected = record(run, places), record(run, alone)
    assert (made["environment"]["processes"], expected["environment"]["processes"]) == (2, 1)
    assert made["environment"].keys() == expected["environment"].keys()
    for name in ("images", "forward_images", "backward_images"):
        assert made["effort"][name] == expected["effort"][name] > 0
    assert made["compression"]["reached"] == pytest.approx(0.75, abs=0.01)
    assert sorted(f.name for f in (places.out / run.key).iterdir() if f.name[0] != ".") == sorted(
        f.name for f in (tmp_path / "out" / run.key).iterdir() if f.name[0] != "."
    )


def test_the_student_is_an_ordinary_network(done: tuple[RunConfig, Places]) -> None:
    run, places = done
    student = load(places.out / run.key)
    norms = [m for m in student.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {type(norm) for norm in norms} == {nn.BatchNorm1d, nn.BatchNorm2d}
    assert student(torch.zeros(2, 3, 16, 16)).logits.shape == (2, 10)


def test_a_finished_run_is_left_alone(together: Together, done: tuple[RunConfig, Places]) -> None:
    run, places = done
    before = {f.name: f.stat().st_mtime_ns for f in (places.out / run.key).iterdir()}
    assert together.alike(execute, run, run.key, places) == ["[]", "[]"]
    assert {f.name: f.stat().st_mtime_ns for f in (places.out / run.key).iterdir()} == before


def test_both_resume_from_one_checkpoint(
    together: Together, done: tuple[RunConfig, Places], tmp_path: Path
) -> None:
    run, places = done
    shutil.copytree(places.out / "stages", tmp_path / "out" / "stages")
    again = places.model_copy(update={"out": tmp_path / "out"})
    for error in together(execute, run, run.key, again, 2):
        assert isinstance(error, InterruptedError)
    assert [answer[:2] for answer in together.alike(execute, run, run.key, again)] == ["[2", "[2"]
    student = [where.out / run.key / "student.safetensors" for where in (places, again)]
    assert student[0].read_bytes() == student[1].read_bytes()
    assert len(record(run, again)["history"]["stage"]) == len(
        record(run, places)["history"]["stage"]
    )


def test_an_odd_batch_is_one_clear_failure(
    together: Together, done: tuple[RunConfig, Places], tmp_path: Path
) -> None:
    run, places = done
    training = run.training.model_copy(update={"batch_size": 15})
    odd = run.model_copy(update={"training": training})
    job = plan([odd]).jobs[0]
    answers = together(execute, job.run, job.key, places.model_copy(update={"out": tmp_path}))
    assert ["batch_size 15" in str(answer) for answer in answers] == [True, True]
