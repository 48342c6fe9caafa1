"""Steps, pruning and whole stages of two processes are those of one with the same batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

import baselines
import itmc.ablations
import itmc.itmc
from itmc.domains.batches import Batch
from itmc.networks.spec import widths_of
from itmc.parallel import world
from itmc.pruning import importance
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import Taylor
from itmc.pruning.shrink import kept_layers
from itmc.training import forward
from itmc.training.adapt import Adapt
from itmc.training.method import Node, methods
from itmc.training.stage import Stage
from tests.itmc.processes import Tensors, Together, assert_close, started
from tests.itmc.training.tiny import context, recipe, run, stage_of

assert baselines and itmc.ablations and itmc.itmc  # registered, in the processes too
DISCREPANCIES = ("dan", "jan", "lmmd", "coral", "mcc", "dann", "cdan", "cdan_e", "mdd")
STUDENTS = (
    *(n for n, method in methods().items() if method.compressed and not method.changes),
    "itmc_survivors",  # a loss that the others have not
)


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    with started() as processes:
        yield processes


def without_norms(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(4, child.num_features))
            elif isinstance(child, nn.BatchNorm1d):
                setattr(parent, name, nn.LayerNorm(child.num_features))


def backward(stage: Stage, batch: Batch) -> Tensors:
    """Losses, and the gradients of all that learns, after the backward pass of a step."""
    stage.train_mode()
    losses = stage.losses(batch, 0.5)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    stage.sum_gradients()
    found = {f"loss {name}": loss.detach() for name, loss in losses.items()}
    for role, learner in stage.learners.items():
        for i, module in enumerate(learner.modules()):
            for name, parameter in module.named_parameters():
                if parameter.grad is not None:
                    found[f"{role} {i} {name}"] = parameter.grad
    if masks := getattr(stage, "masks", None):
        found |= {f"mask {name}": value.grad for name, value in masks.soft.values.items()}
    return found


def adapting(discrepancy: str | None, norms: bool = True, **training: Any) -> tuple[Stage, Batch]:
    task = context(**training)
    stage = stage_of(Adapt.node(None, discrepancy=discrepancy, ramp=False), task)
    if not norms:
        without_norms(stage.student)
    return stage, task.batches.at(1)


def adaptation(discrepancy: str | None, norms: bool, bn: str) -> Tensors:
    return backward(*adapting(discrepancy, norms, bn=bn))


def distillation(discrepancy: str) -> Tensors:
    """Teacher and student of ITMC, without BatchNorm."""
    task = context()
    stage = stage_of(recipe("itmc", discrepancy=discrepancy), task)
    for learner in stage.learners.values():
        without_norms(learner.network)
    return backward(stage, task.batches.at(1))


def by_parts(discrepancy: str | None) -> Tensors:
    """What DistributedDataParallel would do: the mean of the gradients of each part's own loss."""
    stage, batch = adapting(discrepancy, norms=False)
    own = Batch(batch.source, batch.labels[world().part(len(batch.labels))], batch.target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, "gathered", lambda rows: rows)
        found = backward(stage, own)
    return {k: v / world().size for k, v in found.items() if not k.startswith("loss")}


@pytest.mark.parametrize("discrepancy", [None, *DISCREPANCIES])
def test_gradients_are_those_of_one_process(together: Together, discrepancy: str | None) -> None:
    expected = adaptation(discrepancy, False, "joint")
    # Much larger than the tolerance, so that a wrong one shows.
    assert max(float(value.abs().max()) for value in expected.values()) > 1e-2
    for found in together.alike(adaptation, discrepancy, False, "joint"):
        assert_close(found, expected)


@pytest.mark.parametrize("discrepancy", ["dan", "cdan"])
@pytest.mark.parametrize("bn", ["joint", "split"])
def test_gradients_through_batchnorm_are_those_of_one_process(
    together: Together, discrepancy: str, bn: str
) -> None:
    expected = adaptation(discrepancy, True, bn)
    for found in together.alike(adaptation, discrepancy, True, bn):
        assert_close(found, expected)


@pytest.mark.parametrize("discrepancy", ["dan", "cdan"])
def test_gradients_of_tkd_are_those_of_one_process(together: Together, discrepancy: str) -> None:
    expected = distillation(discrepancy)
    assert {"loss student_kd_target", "loss teacher_discrepancy"} <= expected.keys()
    for found in together.alike(distillation, discrepancy):
        assert_close(found, expected)


@pytest.mark.parametrize("discrepancy", ["dan", "jan", "coral", "mcc"])
def test_losses_of_parts_would_not_pass(together: Together, discrepancy: str) -> None:
    expected = by_parts(discrepancy)
    for found in together.alike(by_parts, discrepancy):
        with pytest.raises(AssertionError):
            assert_close(found, expected)


def test_a_loss_that_is_a_mean_over_images_is_that_of_its_parts(together: Together) -> None:
    """So what the test above finds wrong is the discrepancy."""
    for found in together.alike(by_parts, None):
        assert_close(found, by_parts(None))


def last_stage(name: str) -> tuple[Tensors, Any]:
    knobs: dict[str, Any] = {"noise": 0.0} if name == "mean_teacher" else {}
    task = context()
    stage = stage_of(recipe(name, **knobs), task)
    return backward(stage, task.batches.at(1)), widths_of(stage.student)


@pytest.mark.parametrize("name", STUDENTS)
def test_each_method_steps_and_shrinks_as_in_one_process(together: Together, name: str) -> None:
    expected, widths = last_stage(name)
    for found, widths_found in together.alike(last_stage, name):
        assert widths_found == widths
        assert_close(found, expected, 3e-5)  # the statistics of BatchNorm are re-estimated before


def trained(node: Node) -> dict[str, Any]:
    """A whole stage: its weights and log, but for seconds."""
    stage = stage_of(node, context())
    with tempfile.TemporaryDirectory() as folder:
        history = run(stage, Path(folder))
        written = sorted(file.name for file in Path(folder).iterdir())
    for entry in history:
        del entry["seconds"]
    weights = {k: v.clone() for k, v in stage.student.state_dict().items()}
    return {
        "weights": weights, "history": history, "written": written,
        "widths": widths_of(stage.student),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("itmc", {}),
        ("itmc", {"cost_aware": "latency", "schedule": "adaptive"}),
        ("tcp", {}),
        ("admp", {}),
    ],
)
def test_all_processes_prune_the_same(together: Together, name: str, knobs: dict[str, Any]) -> None:
    first, second = together.alike(trained, recipe(name, **knobs))
    assert first["widths"] == second["widths"]
    assert first["history"] == second["history"]
    assert all(torch.equal(first["weights"][k], second["weights"][k]) for k in first["weights"])
    assert first["written"] and not second["written"]
    assert sum(bool(e["events"].get("removed_channels")) for e in first["history"]) >= 1
    if "cost_aware" in knobs:  # measured, and so not to be repeated
        return
    alone = trained(recipe(name, **knobs))
    assert first["widths"] == alone["widths"]
    assert [e["effort"] for e in first["history"]] == [e["effort"] for e in alone["history"]]


def test_weights_after_a_stage_are_those_of_one_process(together: Together) -> None:
    """Within 1e-3 after 12 steps: rounding differs, and each step carries it on."""
    node = Adapt.node(None, discrepancy="cdan")
    first, _ = together.alike(trained, node)
    alone = trained(node)
    moved = context().fresh_network().state_dict()
    assert float((alone["weights"]["head.weight"] - moved["head.weight"]).abs().max()) > 0.05
    assert_close(first["weights"], alone["weights"], 1e-3)


def gates(criterion_name: str) -> Tensors:
    """Importance of a step, of CE and CDAN."""
    stage, batch = adapting("cdan")
    task = context()
    dependencies = Dependencies(stage.student, task.example, kept_layers(stage.student))
    criterion = cast(Taylor, importance.create(criterion_name))
    with criterion.watch(stage.student, dependencies.groups, len(batch.source)):
        losses = stage.losses(batch, 0.5)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    stage.sum_gradients()
    criterion.observe(stage.student, dependencies.groups)
    return criterion.scores(stage.student, dependencies.groups)


@pytest.mark.parametrize("criterion", ["taylor", "taylor_min"])
def test_importance_is_that_of_the_whole_batch(together: Together, criterion: str) -> None:
    for found in together.alike(gates, criterion):
        assert_close(found, gates(criterion))


def unlike(what: str) -> None:
    stage, _ = adapting("dan")
    stage.check_alike()
    if world().rank == 1 and what == "weights":
        nn.init.zeros_(stage.student.head.weight)
    elif world().rank == 1:
        cast(Any, stage.student.head).out_features = 3
    stage.check_alike()


@pytest.mark.parametrize(("what", "words"), [("weights", "weights of the"), ("widths", "pruned")])
def test_networks_that_part_are_noticed(together: Together, what: str, words: str) -> None:
    for error in together(unlike, what):
        assert isinstance(error, RuntimeError) and words in str(error)
