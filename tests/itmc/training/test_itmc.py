"""The alternation of TKD and ACP, and how often a step of any method goes through a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import baselines  # noqa: F401 - registers them
import itmc.ablations  # noqa: F401
from itmc.domains.batches import Batch
from itmc.errors import UsageError
from itmc.itmc import Alternate
from itmc.networks.build import Network
from itmc.networks.spec import widths_of
from itmc.training.adapt import Adapt
from itmc.training.loop import train
from itmc.training.method import Setting, Start, knobs_of, method, methods
from itmc.training.stage import Handover, Stage
from tests.itmc.training import tiny

OWN = Setting({}, "the student's network")
ALONE, TAUGHT = {"student": 1}, {"student": 1, "teacher": 1}
PASSES = {
    **dict.fromkeys(("source_only", "dan", "dann", "cdan", "cdan_e", "jan", "mcc", "mdd"), ALONE),
    **dict.fromkeys(("dan_student", "cdan_student", "mcc_student", "tcp", "acp_only"), ALONE),
    **dict.fromkeys(("prune_then_adapt", "adapt_then_prune"), ALONE),
    **dict.fromkeys(("kd", "dkd", "kd_stda", "mobileda", "admp", "tkd_only"), TAUGHT),
    "mean_teacher": {"student": 1, "average": 1},
}
"""Forward passes of a step, by role."""


@pytest.mark.parametrize(
    ("method", "bn", "knobs", "expected"),
    [
        ("itmc", "joint", {}, {"teacher": 1, "student": 1}),
        ("itmc", "split", {}, {"teacher": 2, "student": 2}),
        ("itmc", "joint", {"teacher_logits": "fresh"}, {"teacher": 2, "student": 1}),
        ("itmc", "joint", {"target_kd": False}, {"teacher": 1, "student": 1}),
        ("cdan", "split", {}, {"student": 2}),
        *[(name, "joint", {}, expected) for name, expected in PASSES.items()],
    ],
)
def test_forward_passes_of_a_step(
    method: str, bn: str, knobs: dict[str, Any], expected: dict[str, int]
) -> None:
    task = tiny.context(bn=bn)
    stage = tiny.stage_of(tiny.recipe(method, **knobs), task)
    counts = dict.fromkeys(tiny.learners(stage), 0)
    for role, network in tiny.learners(stage).items():

        def count(_: Any, inputs: tuple[torch.Tensor], role: str = role) -> None:
            counts[role] += len(inputs[0]) > 1  # a single image is traced for its MACs, once

        network.register_forward_pre_hook(count)
    tiny.one_step(stage, task.batches.at(0), progress=0.5)
    assert counts == expected


def test_the_passes_of_every_method_are_pinned() -> None:
    told = {name for name, method in methods().items() if not method.changes}
    assert told == {"itmc", *PASSES}


@pytest.mark.parametrize("method", ["itmc", "kd", "cdan", "adapt_then_prune"])
def test_each_step_is_in_train_mode_though_evaluation_was_not(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny.context(epochs=2)
    knobs = {"teacher_lead": 1.0} if method == "itmc" else {}  # 2 epochs are left
    stage = tiny.stage_of(tiny.recipe(method, **knobs), task)
    modes: list[bool] = []
    original = type(stage).losses

    def losses(self: Stage, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        trained = [m for one in self.learners.values() for m in one.modules()]
        modes.append(all(part.training for module in trained for part in module.modules()))
        frozen = [part for guide in self.guides.values() for part in guide.modules()]
        modes.append(not any(part.training for part in frozen))
        return original(self, batch, progress)

    def evaluate(network: Network) -> dict[str, Any]:
        network.eval()  # and never back: the loop must not rely on it
        return {}

    monkeypatch.setattr(type(stage), "losses", losses)
    train(stage, tmp_path, evaluate, lambda done, epochs: None)
    assert modes == [True] * 2 * 2 * 3  # of 2 epochs of 3 steps


def test_kds_teacher_stays_as_it_was_to_the_bit(tmp_path: Path) -> None:
    stage = tiny.stage_of(tiny.recipe("kd"), tiny.context())
    teacher = stage.guides["teacher"]
    before = tiny.snapshot(teacher)
    tiny.run(stage, tmp_path)
    assert tiny.same(before, teacher.state_dict())


def test_itmcs_teacher_lives_and_only_the_student_is_pruned(tmp_path: Path) -> None:
    task = tiny.context()
    stage = tiny.stage_of(tiny.recipe("itmc", compression=0.75), task)
    teacher, student = (stage.learners[role].network for role in ("teacher", "student"))
    unpruned, before = widths_of(teacher), tiny.snapshot(teacher)
    tiny.run(stage, tmp_path)
    assert widths_of(teacher) == unpruned
    assert widths_of(student) != unpruned
    assert not torch.equal(before["head.weight"], teacher.state_dict()["head.weight"])


def test_a_teacher_of_rate_0_keeps_its_weights() -> None:
    task = tiny.context()
    stage = tiny.stage_of(tiny.recipe("itmc", teacher_rate=0.0), task)
    assert set(stage.learners) == {"student"}
    before = tiny.snapshot(stage.guides["guide"])
    tiny.one_step(stage, task.batches.at(0), progress=0.5)
    assert tiny.same(before, stage.guides["guide"].state_dict())  # its BatchNorm's too
    assert not any(module.training for module in stage.guides["guide"].modules())


@pytest.mark.parametrize(("settle", "factor"), [(1.0, 2.0), (0.25, 1.25), (3.0, 4.0)])
def test_a_teacher_settles_in_even_steps(settle: float, factor: float) -> None:
    task = tiny.context()
    knobs = {"teacher_rate": 2.0, "teacher_settle": settle, "teacher_lead": 0.5}
    stage = tiny.stage_of(tiny.recipe("itmc", **knobs), task)
    teacher = stage.learners["teacher"].network
    before = tiny.snapshot(teacher)["backbone.features.0.weight"].double()
    stage.train_mode()
    losses = stage.losses(task.batches.at(0), 0.5)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    weight = teacher.get_parameter("backbone.features.0.weight")
    assert weight.grad is not None
    training, gradient = task.training, weight.grad.double() + task.training.weight_decay * before
    stage.update(0.5)
    # The first step of Nesterov's momentum; the teacher's own schedule is three quarters done.
    rate = factor * training.lr * (1 + training.lr_gamma * 0.75) ** -training.lr_power
    expected = before - rate * (1 + training.momentum) * gradient
    assert torch.allclose(weight.double(), expected, atol=1e-7)


def test_the_teachers_average_guides_and_follows_it() -> None:
    task, decay = tiny.context(), 0.75
    stage = tiny.stage_of(tiny.recipe("itmc", teacher_average=decay, teacher_rate=1.0), task)
    teacher, guide = stage.learners["teacher"].network, stage.guides["guide"]
    before = tiny.snapshot(guide)
    assert tiny.same(before, teacher.state_dict())
    tiny.one_step(stage, task.batches.at(0), progress=0.5)
    now = teacher.state_dict()
    for name, _ in teacher.named_parameters():
        expected = decay * before[name].double() + (1 - decay) * now[name].double()
        assert torch.allclose(guide.state_dict()[name].double(), expected, atol=1e-6)
    assert not tiny.same(dict(guide.named_parameters()), dict(teacher.named_parameters()))
    assert tiny.same(dict(guide.named_buffers()), dict(teacher.named_buffers()))


def test_the_student_learns_from_the_average_and_not_from_the_teacher() -> None:
    task = tiny.context()
    batch = task.batches.at(0)
    stage = tiny.stage_of(tiny.recipe("itmc", teacher_average=0.9), task)
    usual = stage.losses(batch, 0.5)
    with torch.no_grad():
        for parameter in stage.guides["guide"].parameters():
            parameter.mul_(2)
    changed = stage.losses(batch, 0.5)
    guided, before = (losses["student_kd_target"].item() for losses in (changed, usual))
    assert guided != pytest.approx(before)
    assert changed["teacher_ce"].item() == pytest.approx(usual["teacher_ce"].item())


@pytest.mark.parametrize("name", ["itmc", "tkd_only"])
@pytest.mark.parametrize("other", [{"teacher_rate": 0.0}, {"teacher_logits": "fresh"}])
def test_an_average_is_of_a_live_teacher_and_has_its_own_pass(
    name: str, other: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="teacher_average"):
        knobs_of(name, {"teacher_average": 0.9} | other)


def test_the_teacher_goes_on_where_its_lead_ended() -> None:
    """Its discrepancy has the weight of its own position in the schedule, not of the student's."""
    task = tiny.context()
    batch = task.batches.at(0)
    by_lead = {
        lead: tiny.stage_of(tiny.recipe("itmc", teacher_lead=lead), task).losses(batch, 0.0)
        for lead in (0.0, 0.25)
    }
    assert by_lead[0.0]["teacher_discrepancy"] == 0
    assert by_lead[0.25]["teacher_discrepancy"] > 0
    assert by_lead[0.25]["student_discrepancy"] == 0


@pytest.mark.parametrize("lead", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_teacher_goes_on_where_its_lead_ended_in_whole_epochs(lead: float) -> None:
    """A quarter of six epochs is two: what follows starts at a third, not at a quarter."""
    node = tiny.recipe("itmc", teacher_lead=lead)
    stage = tiny.stage_of(node, tiny.context(epochs=6))
    assert isinstance(stage, Alternate)
    assert stage._teacher_progress(0.0) == pytest.approx(stage.first_epoch / 6)
    assert stage._teacher_progress(1.0) == 1.0


@pytest.mark.parametrize(("lead", "epochs"), [(0.0, None), (0.5, 4), (1.0, 8)])
def test_teacher_lead_is_a_stage_before(lead: float, epochs: int | None) -> None:
    task = tiny.context(epochs=8)
    start = Adapt.node(None, network="teacher", pretraining=True)
    node = tiny.recipe("itmc", teacher_lead=lead)
    teacher = node.inputs["teacher"]
    assert teacher.identity(OWN) == node.inputs["student"].identity(OWN)  # one shared stage
    if epochs is None:
        assert teacher.identity(OWN) == start.identity(OWN)
    else:
        assert teacher.inputs.keys() == {"network"}
        assert teacher.inputs["network"].identity(OWN) == start.identity(OWN)
        assert teacher.stage.length(teacher.knobs, task.training) == epochs
    # What the lead has left of the 16 epochs that a student has in all.
    assert tiny.stage_of(node, task).epochs == 16 - (epochs or 0)


def test_a_fully_led_teacher_is_the_stage_that_dan_and_kd_share() -> None:
    teacher = tiny.recipe("itmc", teacher_lead=1.0).inputs["teacher"]
    assert teacher.identity(OWN) == tiny.recipe("dan").identity(OWN)
    assert teacher.identity(OWN) == tiny.recipe("kd").inputs["teacher"].identity(OWN)


@pytest.mark.parametrize("start", ["adapted", "initial"])
def test_the_student_starts(start: str) -> None:
    node = tiny.recipe("itmc", student_start=start, teacher_lead=0.5)
    student, teacher = (node.inputs[role].identity(OWN) for role in ("student", "teacher"))
    assert (student == teacher) == (start == "adapted")


def test_a_teacher_of_another_network_adapts_beside_the_student() -> None:
    node = tiny.recipe("itmc")
    other = replace(OWN, teacher="another network")
    student, teacher = (node.inputs[role] for role in ("student", "teacher"))
    assert student.identity(other) == student.identity(OWN) == teacher.identity(OWN)
    assert teacher.identity(other) != teacher.identity(OWN)
    assert node.identity(other) != node.identity(OWN)
    narrow = tiny.recipe("dan_student")  # knows no teacher
    assert narrow.identity(other) == narrow.identity(OWN)


def test_from_pretrained_weights_an_initial_student_has_them() -> None:
    """Without a shared pretraining the initial weights are those that the network is built with."""
    knobs = knobs_of("itmc", {"student_start": "initial"})
    node = method("itmc").recipe(knobs, 0.5, Start(None, None))
    assert set(node.inputs) == {"teacher"}
    task = tiny.context()
    adapted = tiny.context(1).fresh_network()
    stage = node.stage(node.knobs, task, {"teacher": Handover(adapted, {})})
    assert tiny.same(stage.student.state_dict(), task.fresh_network().state_dict())
    assert tiny.same(stage.learners["teacher"].network.state_dict(), adapted.state_dict())
