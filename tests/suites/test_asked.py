"""Records say what re-creates their runs and how students came about; plans, what is to come."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from results.aggregate import tables
from results.records import read
from suites import tune
from suites.asked import asked, whole_command
from suites.run import _parser
from tests.suites.conftest import SMALL, Answer
from tests.suites.test_tune import suite_file

Call = Callable[..., Answer]


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))]


def plans(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("plans/*.json"))]


@pytest.mark.parametrize(
    "options",
    [
        ("--methods", "itmc,kd,dan_student,source_only", "--set", "itmc.beta_first=0.4",
         "--set", "kd.alpha=0.5", "--set", "training.lr=0.02", "--compression", "0.5,0.75"),
        ("--methods", "dan,itmc_frozen_teacher,tcp", "--set", "itmc.beta_last=0.8",
         "--protocol", "paper", "--compression", "0.6", "--seeds", "3"),
        ("--methods", "kd,dan_student", "--teacher", "digits_convnet", "--teacher-weights", "none",
         "--compression", "0.5123456"),
        # Of what ablations override, or have no part in, their own commands say nothing.
        ("--methods", "itmc,itmc_one_shot,itmc_tau_1,acp_only", "--set", "itmc.schedule=linear",
         "--set", "itmc.temperature=2", "--compression", "0.5"),
    ],
)  # fmt: skip
def test_the_command_of_a_record_does_that_run_and_no_other(
    here: Call, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert here("digits", *SMALL, *options, "--out", tmp_path).code == 0
    made = records(tmp_path)
    assert made
    for record in made:
        python, _, module, *words = record["command"]
        assert (python, module) == ("python", "suites.run")
        answer = here(*words, "--out", tmp_path, "--dry-run")
        assert answer.code == 0, answer.err
        (line,) = [text for text in answer.out.split("runs:")[1].splitlines() if "FLOPs" in text][
            :-1
        ]
        assert line.strip().startswith(record["run"])
        assert line.endswith("finished")


def test_the_record_of_a_trial_says_the_tuning(tmp_path: Path) -> None:
    path = suite_file(tmp_path)
    assert tune.main([str(path), "--methods", "dan", "--out", str(tmp_path / "out")]) == 0
    commands = {shlex.join(record["command"]) for record in records(tmp_path / "out")}
    assert commands == {f"python -m suites.tune {path} --precision fp32"}


def test_the_history_is_that_of_the_student_from_its_start(here: Call, tmp_path: Path) -> None:
    methods = "itmc,kd,dan_student,dan,prune_then_adapt"
    options = ("--methods", methods, "--compression", "0.5", "--out", tmp_path)
    assert here("digits", *SMALL, *options, "--epochs", "4").code == 0
    made = {record["method"]["name"]: record for record in records(tmp_path)}
    stages = {name: record["history"]["stage"] for name, record in made.items()}
    # The suite's four epochs unpruned, or eight for a student; no pretraining.
    assert stages["dan"] == ["adapt"] * 4
    assert stages["itmc"] == ["adapt"] * 2 + ["itmc"] * 6
    assert stages["kd"] == ["adapt"] * 4 + ["kd"] * 4
    assert stages["dan_student"] == stages["prune_then_adapt"] == ["adapt"] * 8
    for name, record in made.items():
        history = record["history"]
        assert {len(column) for column in history.values()} == {len(stages[name])}
        for metric in ("overall", "mean_class"):
            last = record["accuracy"]["last"][metric]
            assert history[metric][-1] == pytest.approx(last, abs=0.0006)
        assert history["removed"][-1] == pytest.approx(record["compression"]["reached"], abs=1e-5)
    assert made["itmc"]["history"]["removed"][:2] == [0.0] * 2
    assert made["itmc"]["history"]["removed"][2] > 0
    assert made["dan_student"]["history"]["removed"][0] == pytest.approx(0.5, abs=0.01)


def test_widths_are_told_layer_by_layer(here: Call, tmp_path: Path) -> None:
    options = ("--methods", "itmc,dan", "--compression", "0.5", "--out", tmp_path)
    assert here("digits", *SMALL, *options).code == 0
    made = {record["method"]["name"]: record for record in records(tmp_path)}
    layers = made["itmc"]["compression"]["layers"]
    widths = json.loads((tmp_path / made["itmc"]["run"] / "student.json").read_text())["widths"]
    for name, (kept, of) in layers.items():
        shape = widths[name]
        assert kept == shape.get("out_channels", shape.get("out_features"))
        assert kept <= of
    assert any(kept < of for kept, of in layers.values())
    assert all(kept == of for kept, of in made["dan"]["compression"]["layers"].values())
    assert [of for _, of in layers.values()] == [
        of for _, of in made["dan"]["compression"]["layers"].values()
    ]


def test_what_a_student_is_unpruned(here: Call, tmp_path: Path) -> None:
    methods = "itmc,itmc_jan,kd,cdan_student,mobileda,mean_teacher,prune_then_adapt,dan"
    options = ("--methods", methods, "--compression", "0.5", "--out", tmp_path)
    by = ("itmc.discrepancy=dan", "kd.teacher=dan", "mobileda.align=coral",
          "prune_then_adapt.discrepancy=mcc")  # fmt: skip
    choices = [word for choice in by for word in ("--set", choice)]
    assert here("digits", *SMALL, *options, *choices).code == 0
    found = {r["method"]["name"]: r["method"]["unpruned"] for r in records(tmp_path)}
    assert found == {
        "itmc": "dan",
        "itmc_jan": "jan",
        "kd": "dan",
        "cdan_student": "cdan",
        "mobileda": None,  # by CORAL, of which there is no reference
        "mean_teacher": None,  # by its own consistency
        "prune_then_adapt": "mcc",
        "dan": None,
    }


def test_a_plan_names_what_is_to_come_and_tables_say_so(here: Call, tmp_path: Path) -> None:
    options = ("--methods", "kd,dan_student", "--compression", "0.5", "--seeds", "0,1")
    assert here("digits", *SMALL, *options, "--out", tmp_path, "--dry-run").code == 0
    assert plans(tmp_path) == []
    assert here("digits", *SMALL, *options, "--out", tmp_path).code == 0
    (plan,) = plans(tmp_path)
    assert plan["command"][:4] == ["python", "-m", "suites.run", "digits"]
    assert str(tmp_path) not in plan["command"]
    assert {run["run"] for run in plan["runs"]} == {path.parent.name for path in
                                                    tmp_path.glob("*/record.json")}  # fmt: skip
    assert read([tmp_path]).missing.empty
    gone = next(r for r in records(tmp_path) if (r["method"]["name"], r["seed"]) == ("kd", 1))
    (tmp_path / gone["run"] / "record.json").unlink()
    (table,) = tables(read([tmp_path]))
    assert any("Of the 4 runs asked for, 1 are missing: 1 unfinished" in n for n in table.notes)


def test_the_same_command_replaces_its_plan_another_stands_beside_it(
    here: Call, tmp_path: Path
) -> None:
    options = ("digits", *SMALL, "--methods", "dan", "--out", tmp_path)
    for _ in range(2):
        assert here(*options).code == 0
    assert len(plans(tmp_path)) == 1
    assert here(*options, "--seeds", "1").code == 0
    assert len(plans(tmp_path)) == 2


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # for a busy machine
@given(
    st.dictionaries(
        st.sampled_from(["--backbone", "--weights", "--epochs", "--methods", "--seeds", "--set"]),
        st.integers(1, 99).map(str),
    )
)
def test_a_command_is_read_as_what_it_was_made_of(given_options: dict[str, str]) -> None:
    words = [word for option in given_options.items() for word in option]
    parse = _parser().parse_args
    options = parse(["digits", *words, "--out", "/elsewhere", "--jobs", "2", "--device", "cpu"])
    module, *again = asked(options)
    assert module == "suites.run"
    shared = set(given_options) - {"--methods", "--seeds"}
    assert {word for word in again if word.startswith("--")} == shared
    whole = parse(list(whole_command(options)[3:]))
    there = {name: value for name, value in vars(options).items() if name not in
             ("out", "jobs", "device")}  # fmt: skip
    assert {name: getattr(whole, name) for name in there} == there
