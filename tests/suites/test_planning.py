"""Plans of large grids: the same names as ever, and nothing worked out twice."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from itmc.config import canonical, digest
from itmc.domains.images import Mapped
from itmc.domains.progress import Silent
from itmc.training.method import CORE_VERSION, GROUPS, Node, selected
from suites.config import Places, RunConfig, load_suite
from suites.plan import Job, Plan, grid, plan
from suites.waiting import Waiting
from tests.suites.conftest import prepared


def planned(store: Path, **changes: Any) -> Plan:
    suite = load_suite("digits", {"seeds": [0, 7], "compression": [0.5, 0.9]} | changes)
    places = Places(out=store / "out", data=prepared(store))
    return plan(grid(suite, selected(list(GROUPS)), places, Silent()))


def sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stage_key(run: RunConfig, node: Node) -> str:
    """As it is defined: everything is written out for each stage of each run."""
    whole = run.model_dump(mode="json")
    network = whole["network"]
    parts = ("protocol", "dataset", "digests", "source", "target", "seed", "data", "training")
    return sha256(
        {
            "kind": node.stage.kind,
            "version": [CORE_VERSION, node.stage.version],
            "knobs": node.knobs.model_dump(mode="json"),
            "inputs": {role: stage_key(run, before) for role, before in node.inputs.items()},
            "common": {name: whole[name] for name in parts},
            "network": (node.network == "teacher" and whole["teacher"]) or network,
            "guide": whole["teacher"] if node.stage.guided else None,
        }
    )


@pytest.mark.parametrize(
    "changes", [{}, {"teacher": {"backbone": "resnet18"}}, {"protocol": "paper", "tasks": ["all"]}]
)
def test_runs_and_stages_are_called_by_the_hash_of_what_determines_them(
    changes: dict[str, Any], store: Path
) -> None:
    made = planned(store, **changes)
    assert len(made.runs) > 200
    names = {job.key for job in made.jobs}
    for run in (job.run for job in made.runs):
        last = stage_key(run, run.recipe())
        # Where its task stands among others is no part of it: one domain more moves that.
        assert run.key == sha256([run.model_dump(mode="json", exclude={"task_index"}), last])
        read = RunConfig.model_validate_json(run.model_dump_json())  # as a worker gets it
        assert read.key == run.key and read.seed == run.seed
        assert {stage_key(run, node) for node in run.recipe().walk()} <= names | {last}


def test_a_digest_is_what_it_always_was() -> None:
    value = {"b": [1, 0.5, None, "ü\n"], "a": {"d": True, "c": 1e-9}}
    assert digest(value) == "9e58fdea5b2026a36c0ef9d0244273eb1d82c0afbcf639f5650d6bbf74e51e2c"
    assert digest(value | {"a": canonical(value["a"])}) == digest(value)


def test_a_stage_that_runs_share_is_hashed_once(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    original = Node._hash

    def counted(node: Node, *arguments: Any) -> str:
        hashed.append(original(node, *arguments))
        return hashed[-1]

    monkeypatch.setattr(Node, "_hash", counted)
    seeds = list(range(100, 120))  # which no other test has planned
    made = planned(store, seeds=seeds, training={"lr": 0.0123})
    last = {job.run.stage_key(job.run.recipe()) for job in made.runs}
    assert set(hashed) == {job.key for job in made.stages} | last
    assert max(Counter(hashed).values()) <= 2  # by a student and by a teacher of its network
    recipes = {id(job.run.recipe()) for job in made.runs}
    assert len(recipes) * len(seeds) * 3 == len(made.runs)  # three tasks


def test_planning_reads_no_image(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(store)
    monkeypatch.setattr(Mapped, "_read", lambda *_: pytest.fail("an image was read"))
    assert planned(store).runs


def test_users_are_the_runs_that_need_a_stage(store: Path) -> None:
    made = planned(store)
    needs = {job.key: job.needs for job in made.jobs}

    def before(key: str) -> set[str]:
        return set(needs[key]).union(*(before(need) for need in needs[key]))

    all_needed = [before(run.key) for run in made.runs]
    for stage in made.stages:
        assert made.users(stage) == sum(stage.key in needed for needed in all_needed) > 0


def test_a_copy_with_other_values_has_another_name(store: Path) -> None:
    run = planned(store).runs[0].run
    assert run.model_copy(update={"seed": 5}).key == run.with_seed(5).key != run.key
    assert run.model_copy(update={"target": "hand"}).key != run.key


def job(key: str, *needs: str) -> Job:
    return Job(key, None, True, needs, 0.0, 0, key)  # type: ignore[arg-type]


def test_what_waits_comes_in_the_order_of_the_plan() -> None:
    jobs = [job("a"), job("b", "a"), job("c"), job("d", "a", "c"), job("e", "done")]
    waiting = Waiting({one.key: one for one in jobs})
    a, c = waiting.pop_ready(), waiting.pop_ready()
    assert a is jobs[0] and c is jobs[2]
    waiting.finished("c")
    waiting.put_back(a)
    assert waiting.pop_ready() is a
    waiting.finished("a")
    assert [waiting.pop_ready() for _ in range(3)] == [jobs[1], jobs[3], jobs[4]]
    assert waiting.pop_ready() is None and len(waiting) == 0


def test_what_needs_a_failed_job_is_taken_out() -> None:
    jobs = [job("a"), job("b", "a"), job("c", "b"), job("d")]
    waiting = Waiting({one.key: one for one in jobs})
    assert waiting.pop_ready() is jobs[0]
    assert waiting.pop_users("a") == [jobs[1]]
    assert waiting.pop_users("b") == [jobs[2]]
    assert waiting.pop_ready() is jobs[3] and len(waiting) == 0
    waiting.clear()
    assert waiting.pop_ready() is None


def test_an_ablation_that_is_itmc_itself_is_not_trained_again(store: Path) -> None:
    """In the suite of digits D is MCC for all, so that the ablation called so changes nothing."""
    names = {job.run.method for job in planned(store).runs}
    assert {"itmc", "itmc_dan"} <= names and "itmc_mcc" not in names
    places = Places(out=store / "out", data=prepared(store))
    alone = grid(load_suite("digits", {}), selected(["itmc_mcc"]), places, Silent())
    assert {run.method for run in alone} == {"itmc_mcc"}  # where nothing else stands for it


def test_a_run_keeps_its_name_when_a_task_is_added_before_its_own(store: Path) -> None:
    run = planned(store).runs[0].run
    moved = run.model_copy(update={"task_index": run.task_index + 5})
    assert moved.key == run.key and moved.model_copy(update={"seed": 99}).key != run.key
