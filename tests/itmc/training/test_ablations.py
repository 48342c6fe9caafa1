"""ITMC's ablations: each changes what it says and nothing else, and every knob has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import baselines  # noqa: F401 - registers them
from itmc.ablations import ACPOnly, TKDOnly
from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.itmc import ITMC
from itmc.training.method import Start, knobs_of, method, methods, settings_of
from tests.itmc.training import tiny

OF_ONE_KNOB = [name for name, known in methods().items() if known.changes]
ABLATIONS = [name for name, known in methods().items() if known.group == "ablations"]
TUNED = {"itmc": {"beta_last": 0.7, "min_share": 0.2, "criterion": "fpgm", "teacher_lead": 0.6}}


def test_every_knob_of_itmc_has_an_ablation() -> None:
    """But the one with which a small network cannot meet every budget."""
    changed = {knob for name in OF_ONE_KNOB for knob in methods()[name].changes}
    assert changed == set(ITMC.Knobs.model_fields) - {"round_to"}


@pytest.mark.parametrize("name", OF_ONE_KNOB)
def test_it_differs_from_itmc_in_what_it_changes(name: str) -> None:
    of_suite = {"itmc": {"discrepancy": "coral"}}  # which no ablation has
    usual, own = (knobs_of(n, settings_of(n, of_suite)).model_dump() for n in ("itmc", name))
    changes = dict(method(name).changes)
    assert {key: own[key] for key in own if own[key] != usual[key]} == changes != {}


@pytest.mark.parametrize("name", ABLATIONS)
def test_it_has_what_a_suite_sets_for_itmc(name: str) -> None:
    values = settings_of(name, TUNED)
    changes = method(name).changes
    expected: dict[str, Any] = {
        key: value for key, value in TUNED["itmc"].items() if key in method(name).Knobs.model_fields
    }
    assert values == expected | dict(changes)
    assert knobs_of(name, values).model_dump().items() >= values.items()


def test_what_a_suite_sets_for_the_ablation_itself_counts_most() -> None:
    settings = TUNED | {"itmc_tau_1": {"temperature": 2.0, "beta_last": 0.8}}
    values = settings_of("itmc_tau_1", settings)
    assert (values["temperature"], values["beta_last"], values["min_share"]) == (2.0, 0.8, 0.2)


@pytest.mark.parametrize("name", OF_ONE_KNOB)
def test_its_knobs_are_checked_as_itmcs_are(name: str) -> None:
    (key, *_) = method(name).changes
    bad: Any = "nothing" if isinstance(method(name).changes[key], str | bool) else -1
    with pytest.raises(UsageError, match=rf"{name}\.{key}"):
        knobs_of(name, {key: bad})


@pytest.mark.parametrize("name", ABLATIONS)
def test_it_meets_the_budget(name: str, tmp_path: Path) -> None:
    task = tiny.context(epochs=3)
    stage = tiny.stage_of(tiny.recipe(name, 0.5), task)
    tiny.run(stage, tmp_path)
    reached = 1 - count_macs(stage.student, task.example) / task.unpruned_macs
    assert reached == pytest.approx(0.5, abs=0.01)


def test_tkd_only_is_narrow_from_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    task = tiny.context()
    stage = tiny.stage_of(tiny.recipe("tkd_only", teacher_lead=1.0), task)
    before = count_macs(stage.student, task.example)
    history = tiny.run(stage, tmp_path)
    assert [entry["macs"] for entry in history] == [before] * 4
    # No event at all: even one that removes nothing estimates BatchNorm's statistics anew.
    assert not stage.acp._is_pruning() and stage.state()["acp"]["level"] is None
    assert set(stage.learners) == {"teacher", "student"}


def test_acp_only_has_no_teacher_and_prunes_in_steps(tmp_path: Path) -> None:
    stage = tiny.stage_of(tiny.recipe("acp_only"), tiny.context())
    history = tiny.run(stage, tmp_path)
    assert set(stage.learners) == {"student"} and not stage.guides
    assert len({entry["macs"] for entry in history}) > 1
    assert set(history[0]["losses"]) == {"source_ce", "discrepancy"}


def test_both_keep_to_the_lead_of_itmc() -> None:
    for one in (TKDOnly, ACPOnly):
        knobs = knobs_of(one.name, settings_of(one.name, TUNED))
        node = one.recipe(knobs, 0.5, Start(None, None))
        before = next(iter(node.inputs.values()))
        assert before.knobs.model_dump()["until"] == 0.6


@pytest.mark.parametrize("name", ["itmc", *ABLATIONS])
@pytest.mark.parametrize("epochs", [1, 3, 6])
def test_it_has_the_epochs_of_every_student(name: str, epochs: int) -> None:
    """Whatever the lead: what it does not take, the stage after it has.

    A student from its initial weights has no part in it: that is its teacher's.
    """
    task = tiny.context(epochs=epochs)
    node = tiny.recipe(name)
    of_student = [node, *(n for role, n in node.inputs.items() if role in ("student", "network"))]
    lengths = [n.stage.length(n.knobs, task.training) for n in of_student]
    shared = [n for n in of_student if getattr(n.knobs, "pretraining", False)]
    expected = 2 * epochs + len(shared)  # the pretraining is not of these
    if name == "itmc_initial_student":
        lead = node.inputs["teacher"]
        expected -= lead.stage.length(lead.knobs, task.training)
    assert sum(lengths) == expected
