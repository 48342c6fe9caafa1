"""``--teacher``: another network guides the student in the methods that have a teacher."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from itmc.cost import count_macs
from itmc.domains.progress import Silent
from itmc.networks.build import NetworkConfig, build, example
from itmc.networks.spec import load_network
from results.details import GUIDANCE
from suites.display import display
from suites.folders import PROGRESS, RECORD
from suites.planning import planned
from suites.run import _parser
from tests.suites.conftest import SMALL, Call

Cli = Callable[..., subprocess.CompletedProcess[str]]
METHODS = "kd,itmc,dan_student"
COMMAND = ("digits", "--methods", METHODS, "--compression", "0.5", *SMALL)
OTHER = NetworkConfig(backbone="mobilenet_v3_small", bottleneck=64, classes=10, image_size=32)


@pytest.fixture(scope="module")
def guided(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three methods beside a MobileNetV3 that guides two of them, and what was printed."""
    out = tmp_path_factory.mktemp("guided") / "out"
    done = cli(*COMMAND, "--teacher", OTHER.backbone, "--teacher-weights", "none", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def records(out: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in out.glob("*/record.json")]
    return {record["method"]["name"]: record for record in found}


def test_the_student_keeps_its_backbone_and_its_budget(guided: tuple[Path, str]) -> None:
    out, printed = guided
    teacher = count_macs(build(OTHER), example(OTHER))
    for name, record in records(out).items():
        student, config = load_network(out / record["run"])
        assert config.backbone == record["network"]["backbone"] == "digits_convnet"
        macs = count_macs(student, example(config))
        unpruned = count_macs(build(config), example(config))
        assert 1 - macs / unpruned == pytest.approx(0.5, abs=0.01)
        if name == "dan_student":
            assert record["teacher"] is None
            assert record["cost"]["teacher"]["macs"] == unpruned
        else:
            assert record["teacher"]["backbone"] == "mobilenet_v3_small"
            assert record["cost"]["teacher"]["macs"] == teacher
            # What passes through a larger teacher counts.
            assert (
                record["effort"]["forward_macs"]
                > records(out)["dan_student"]["effort"]["forward_macs"]
            )
    assert "ITMC (teacher mobilenet_v3_small)" in printed and "DAN student" in printed
    assert "DAN student (teacher" not in printed


def test_the_teacher_is_adapted_as_itself(guided: tuple[Path, str]) -> None:
    out, _ = guided
    backbones = [
        json.loads((path / "student.json").read_text())["network"]["backbone"]
        for path in (out / "stages").iterdir()
    ]
    # Each network: its pretraining, and its adaptations, for kd and as far as ITMC's lead goes.
    assert sorted(backbones) == ["digits_convnet"] * 3 + ["mobilenet_v3_small"] * 3


def test_what_has_no_teacher_is_not_computed_again(guided: tuple[Path, str], here: Call) -> None:
    out, _ = guided
    plan = here(*COMMAND, "--out", out, "--dry-run").out
    finished = [line for line in plan.splitlines() if line.endswith(", finished")]
    assert sum("dan_student" in line for line in finished) == 1
    assert not any(" kd " in line or " itmc " in line for line in finished)


def test_a_file_of_weights_is_loaded_into_the_teacher(
    here: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import mobilenet_v3_small

    file, out = tmp_path / "weights.pth", tmp_path / "out"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(mobilenet_v3_small().state_dict(), file)
    answer = here(
        *COMMAND, "--methods", "mobileda", "--teacher", OTHER.backbone, "--teacher-weights", file,
        "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (record,) = records(out).values()
    assert record["teacher"]["weights"] == "weights.pth"
    assert len(record["teacher"]["weights_sha256"]) == 64
    # A teacher with weights needs no pretraining: only its training on the source is a stage.
    titles = here(
        *COMMAND, "--methods", "mobileda", "--teacher", OTHER.backbone, "--teacher-weights", file,
        "--dry-run",
    ).out  # fmt: skip
    assert "3 shared stages:" in titles


def test_a_transformer_may_teach(here: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = here(
        *COMMAND, "--methods", "kd", "--teacher", "timm/pvt_v2_b0", "--teacher-weights", "none",
        "--epochs", "1", "--set", "training.steps_per_epoch=2", "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert records(out)["kd"]["teacher"]["backbone"] == "timm/pvt_v2_b0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits", "--teacher-weights", "none"], "--teacher-weights needs --teacher too"),
        (["digits", "--teacher", "resnet81"], "did you mean"),
        (["digits", "--teacher", OTHER.backbone, "--teacher-weights", "none",
          "--methods", "tcp"], "no chosen method has a teacher; with --teacher choose of: "),
        (["digits", "--teacher", OTHER.backbone, "--teacher-weights", "no.pth"], "no such file"),
        (["office31", "--teacher", OTHER.backbone], "needs --teacher-weights too"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(here: Call, arguments: list[str], said: str) -> None:
    answer = here(*arguments, "--dry-run")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("suites.run: ") and said in answer.err


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        ("kd", "note: 1 finished run was not judged with their teacher; delete them or choose"),
        ("kd,itmc", "note: 2 finished runs were not judged with their teacher; delete"),
        ("dan_student", ""),
    ],
)
def test_what_is_finished_is_not_judged_any_more(
    finished: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = _parser().parse_args([*COMMAND, "--judge-teacher", "--out", str(tmp_path)])
    asked = planned(options, Silent())
    for job in asked.plan.runs:
        (tmp_path / job.key).mkdir()
        # One that has been judged: of a target without labels it says nothing.
        epoch = "{}" if job.run.method in finished.split(",") else '{"guidance": null}'
        (tmp_path / job.key / PROGRESS).write_text(f'{{"guidance": {{}}}}\n{epoch}\n')
        (tmp_path / job.key / RECORD).write_text("{}")
    with display() as screen:
        screen.begin(asked.plan, asked.places)
        screen.begin(asked.plan, asked.places.model_copy(update={"judge_teacher": False}))
    notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == bool(said) and all(note.startswith(said) for note in notes)


def test_judging_the_teacher_changes_nothing_else(cli: Cli, tmp_path: Path) -> None:
    ask = ("digits", "--methods", "kd,itmc,dan_student", "--compression", "0.5", *SMALL)
    for out, more in (("plain", ()), ("judged", ("--judge-teacher",))):
        done = cli(*ask, *more, "--out", tmp_path / out)
        assert done.returncode == 0, done.stderr
    plain, judged = records(tmp_path / "plain"), records(tmp_path / "judged")
    for name, record in plain.items():
        other = judged[name]
        assert (record["run"], record["accuracy"]) == (other["run"], other["accuracy"])
        assert other["command"] == record["command"]
        beside = other["history"].keys() - record["history"].keys()
        assert beside == (set() if name == "dan_student" else set(GUIDANCE))
        assert all(other["history"][column] == kept for column, kept in record["history"].items())
    # The teacher of KD is frozen; that of ITMC learns.
    frozen = judged["kd"]["history"]["teacher"]
    assert len({accuracy for accuracy in frozen if accuracy is not None}) == 1
