"""The options for precision, layout and threads, from the command line to the record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from itmc.training.control import Control, Stopped
from suites import options, planning
from suites.config import RunConfig
from suites.options import Machine, jobs_of
from suites.plan import plan
from suites.run import _parser
from suites.worker import execute
from tests.compiler import compiler as compiler
from tests.suites.conftest import SMALL, Answer, Call
from tests.suites.tiny_runs import STEPS, config, few_images, places, silent

GRID = ("digits", "--methods", "dan", *SMALL)


class Silent:
    """Nobody is told of progress."""

    def say(self, text: str) -> None:
        """Nothing."""


def run_of(suite: Path, *given: str, device: Any = "cpu") -> RunConfig:
    """The one run of a suite's command on a machine with ``device``."""
    words = [str(suite), "--methods", "dan", *SMALL, *given]
    asked = planning.planned(_parser().parse_args(words), Silent(), Machine(device, 1))
    (run,) = asked.plan.runs
    return run.run


@pytest.fixture
def undecided(tmp_path: Path) -> Path:
    """A suite that leaves the precision to the machine."""
    path = tmp_path / "undecided.yaml"
    path.write_text("extends: digits\ntraining: {precision: auto}\n")
    return path


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("given", "kernels"),
    [
        (("--no-channels-last",), "torch"),
        ((), "native"),
        (("--kernels", "native"), "native"),
        (("--kernels", "torch"), "torch"),
    ],
)
def test_records_say_what_was_computed_with(
    given: tuple[str, ...], kernels: str, here: Call, tmp_path: Path
) -> None:
    how = ("--precision", "bf16", "--threads", "2", *given)
    answer: Answer = here(*GRID, *how, "--out", tmp_path)
    assert answer.code == 0, answer.err
    (path,) = tmp_path.glob("*/record.json")
    made = json.loads(path.read_text())
    environment = made["environment"]
    assert (environment["precision"], environment["threads"]) == ("bf16", 2)
    assert environment["channels_last"] == ("--no-channels-last" not in given)
    assert not environment["compile"]
    assert environment["kernels"] == kernels
    assert made["training"]["precision"] == "bf16"
    assert "--precision bf16" in shlex.join(made["command"])


@pytest.mark.parametrize("fast", [True, False])
def test_what_the_suite_leaves_open_the_processor_decides(
    undecided: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    assert run_of(undecided).training.precision == ("bf16" if fast else "fp32")
    assert run_of(undecided, "--precision", "fp32").training.precision == "fp32"
    assert run_of(undecided, "--precision", "bf16").training.precision == "bf16"


def test_runs_of_another_precision_are_other_runs(undecided: Path) -> None:
    keys = {run_of(undecided, "--precision", name).key for name in ("fp32", "bf16")}
    assert len(keys) == 2


def test_what_sums_in_another_order_only_is_the_same_run(undecided: Path) -> None:
    how = ("--precision", "fp32", "--threads", "2", "--no-channels-last", "--compile")
    assert run_of(undecided, *how).key == run_of(undecided, "--precision", "fp32").key
    keys = {run_of(undecided, "--precision", "bf16", "--kernels", k).key for k in ("torch", "auto")}
    assert len(keys) == 1


def test_a_run_is_of_a_settled_precision() -> None:
    run = config("dan")
    open_still = run.training.model_copy(update={"precision": "auto"})
    with pytest.raises(ValidationError, match="settled before a run is planned"):
        RunConfig.model_validate(run.model_dump() | {"training": open_still.model_dump()})


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("--precision", "fp16"), "argument --precision: invalid choice: 'fp16'"),
        (("--set", "training.precision=bf16"), "--set 'training.precision=bf16': the precision is"),
        (("--kernels", "cuda"), "argument --kernels: invalid choice: 'cuda'"),
        (("--threads", "0"), "argument --threads: '0' is not allowed; a whole number >= 1"),
    ],
)
def test_wrong_values_are_told_in_a_line(here: Call, given: tuple[str, str], line: str) -> None:
    answer: Answer = here(*GRID, *given)
    assert answer.code == 2
    assert answer.err.startswith(f"suites.run: {line}") and answer.err.count("\n") == 1


class StoppingLate(Control):
    """Asks for the end after so many steps of a run."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def after_step(self, save: Callable[[], None]) -> None:
        self._left -= 1
        if self._left == 0:
            self.stop()
        super().after_step(save)


@pytest.mark.parametrize(
    ("method", "precision", "channels_last", "kernels"),
    [
        ("itmc", "bf16", True, "native"),
        ("itmc", "bf16", True, "torch"),
        ("kd", "fp32", False, "torch"),
        ("itmc", "bf16", False, "torch"),
    ],
)
@pytest.mark.usefixtures("compiler")
def test_a_run_is_taken_up_to_the_bit(
    method: str, precision: str, channels_last: bool, kernels: str, tmp_path: Path, store: Path
) -> None:
    run = config(method, epochs=3)
    training = run.training.model_copy(update={"precision": precision})
    run = run.model_copy(update={"training": training})
    weights = []
    with few_images():
        for name, stops in (("whole", []), ("stopped", [5, STEPS])):
            where = places(tmp_path / name, store).model_copy(
                update={"channels_last": channels_last, "kernels": kernels}
            )
            for job in plan([run]).jobs:
                for steps in stops if job.is_run else []:
                    with pytest.raises(Stopped):
                        execute(job.run, job.key, where, silent, silent, StoppingLate(steps))
                execute(job.run, job.key, where, silent, silent)
            weights.append((where.out / run.key / "student.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_runs_of_more_threads_are_fewer_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "cores", lambda: 8)
    assert [jobs_of(None, "cpu", threads) for threads in (None, 1, 3, 8, 16)] == [8, 8, 2, 1, 1]
    assert jobs_of(5, "cpu", 4) == 5 and jobs_of(None, "cuda", 4) == 1
