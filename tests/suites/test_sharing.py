"""Stages are computed once in a grid, and anew only where something that they depend on changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itmc.training.method import selected
from suites.config import Places, load_suite
from suites.plan import Plan, grid, plan
from tests.suites.conftest import SMALL, Call, prepared

METHODS = ["source_only", "dan", "kd", "dkd", "adapt_then_prune", "tcp", "mobileda", "itmc"]
Planned = Callable[..., Plan]


@pytest.fixture
def planned(tmp_path: Any, store: Any) -> Planned:
    """The plan of one task with these changes of the suite."""

    def make(names: list[str] = METHODS, **changes: Any) -> Plan:
        suite = load_suite("digits", {"tasks": ["hand->print"], "methods": {}} | changes)
        places = Places(out=tmp_path, data=prepared(store))
        return plan(grid(suite.model_copy(update={"methods": changes.get("methods", {})}),
                         selected(names), places, lambda _: None))  # fmt: skip

    return make


def keys(made: Plan) -> dict[str, str]:
    """Of each run, by its title."""
    return {job.title: job.key for job in made.runs}


def test_one_adapted_network_serves_all_that_start_from_it(planned: Planned) -> None:
    made = planned()
    users = sorted((stage.what, made.users(stage)) for stage in made.stages)
    # One pretraining for all; DAN is the reference, and what the others start from. ITMC does so
    # from half of its epochs, unless its lead is the whole.
    rest = [("pretrain", 8), ("train on source", 2)]
    assert users == [("adapt by dan", 1), ("adapt by dan", 5), *rest]
    led = planned(methods={"itmc": {"teacher_lead": 1.0}})
    assert sorted((stage.what, led.users(stage)) for stage in led.stages) == [
        ("adapt by dan", 6),
        *rest,
    ]


def test_a_discrepancy_is_the_same_in_a_reference_and_in_what_is_adapted_by_it(
    planned: Planned,
) -> None:
    """What it depends on besides is the suite's, so KD's teacher is the reference itself."""
    names, methods = ["mcc", "kd", "itmc"], {"kd": {"teacher": "mcc"}}
    made = planned(names, methods=methods)
    other = planned(names, methods=methods, training={"mcc_temperature": 2.0})
    for plan_ in (made, other):
        (reference,) = (job for job in plan_.runs if job.run.method == "mcc")
        (kd,) = (job for job in plan_.runs if job.run.method == "kd")
        last = reference.run.stage_key(reference.run.recipe())
        assert last in {kd.run.stage_key(node) for node in kd.run.recipe().walk()}
    assert not {job.key for job in made.jobs} & {job.key for job in other.jobs}


def test_the_plan_shows_what_is_shared(here: Call) -> None:
    shown = here("digits", "--methods", ",".join(METHODS), *SMALL, "--dry-run").out
    assert "adapt by mcc, hand->print seed 0" in shown and "for 4 runs" in shown
    assert "pretrain, hand->print seed 0" in shown and "for 8 runs" in shown


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"kd": {"temperature": 2.0}}, {"kd"}),
        ({"itmc": {"beta_last": 0.7}}, {"itmc"}),
        ({"itmc": {"teacher_rate": 0.0}}, {"itmc"}),
        ({"tcp": {"momentum": 0.5}}, {"tcp"}),
        ({"mobileda": {"alpha": 0.1}}, {"mobileda"}),
        ({"dkd": {"min_share": 0.3}}, {"dkd"}),
        ({"dan": {"weight": 0.5}}, {"dan"}),
        ({"kd": {"teacher_weight": 0.5}}, {"kd"}),
    ],
)
def test_a_knob_of_one_method_concerns_that_method_alone(
    planned: Planned, settings: dict[str, dict[str, Any]], changed: set[str]
) -> None:
    first, second = planned(), planned(methods=settings)
    before, after = keys(first), keys(second)
    assert {name.split()[0] for name in before if after[name] != before[name]} == changed
    # Shared stages of others stay; only what the changed method starts from may come in addition.
    assert {stage.key for stage in first.stages} <= {stage.key for stage in second.stages}


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"lr": 0.02}},
        {"data": {"source_holdout": 0.2}},
        {"network": {"bottleneck": 32}},
        {"seeds": [1]},
        {"protocol": "paper"},
    ],
)
def test_what_all_share_concerns_all(planned: Planned, changes: dict[str, Any]) -> None:
    before, after = planned(), planned(**changes)
    assert len(before.jobs) == len(after.jobs)
    assert {job.key for job in before.jobs}.isdisjoint(job.key for job in after.jobs)


def test_an_ablation_shares_what_it_does_not_change(planned: Planned) -> None:
    made = planned(["itmc", "itmc_tau_1", "itmc_frozen_teacher", "acp_only", "tkd_only"])
    assert [stage.what for stage in made.stages] == ["pretrain", "adapt by dan"]
    jan = planned(["itmc", "itmc_jan", "itmc_lead_75"])
    assert len(jan.stages) == 4  # one more by JAN, and one by DAN that ends later


def test_a_changed_knob_recomputes_its_run_and_nothing_else(here: Call, tmp_path: Any) -> None:
    command = ("digits", "--methods", "kd,dkd", *SMALL, "--compression", "0.5", "--out", tmp_path)
    assert here(*command).code == 0
    changed = here(*command, "--set", "kd.temperature=2", "--dry-run").out
    assert "to do: 1 of 4 jobs" in changed
    (line,) = (line for line in changed.splitlines() if "hand->print" in line and
               not line.endswith("finished"))  # fmt: skip
    assert " kd hand->print" in line


def test_without_sharing_each_run_has_all_its_stages_to_itself(planned: Planned) -> None:
    names = ["dan", "kd", "itmc"]
    shared, alone = planned(names), planned(names, share=False)
    assert {stage.what: alone.users(stage) for stage in alone.stages} == {
        "pretrain": 1,
        "adapt by dan": 1,
    }
    assert (len(shared.stages), len(alone.stages)) == (3, 6)  # ITMC's DAN ends earlier
    assert not set(keys(shared).values()) & set(keys(alone).values())
    assert sum(job.flops for job in alone.jobs) > sum(job.flops for job in shared.jobs)


def test_without_sharing_a_run_has_the_same_result(here: Call, tmp_path: Path) -> None:
    grid = ("digits", "--methods", "itmc", *SMALL)
    for how in ((), ("--no-share",)):
        assert here(*grid, *how, "--out", tmp_path).code == 0
    weights = {path.read_bytes() for path in tmp_path.glob("*/student.safetensors")}
    assert len(list(tmp_path.glob("*/record.json"))) == 2 and len(weights) == 1
    commands = [json.loads(p.read_text())["command"] for p in tmp_path.glob("*/record.json")]
    assert sorted("--no-share" in command for command in commands) == [False, True]
