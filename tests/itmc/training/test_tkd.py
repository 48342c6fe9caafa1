"""TKD: the loss is the formula, its parts follow their ramps, and no KD reaches the teacher."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from itmc.domains.batches import Batch
from itmc.tkd import TKD, TKDConfig
from itmc.training.adapt import learner
from itmc.training.config import TrainingConfig
from itmc.training.forward import both_domains
from itmc.training.stage import Context, Learner
from tests.itmc.training import tiny

Array = NDArray[np.float64]
PROGRESS = 0.3


def pair(task: Context, config: TKDConfig) -> tuple[TKD, Learner, Learner]:
    """TKD with a teacher and a student that differ, both in train mode."""
    student_term = config.discrepancy if config.student_discrepancy else None
    teacher = learner(task.fresh_network(), config.discrepancy, task)
    student = learner(tiny.context(seed=1).fresh_network(), student_term, task)
    return TKD(config, task), teacher, student


def gradients(of: Learner) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in of.network.parameters()]


def backward(losses: dict[str, torch.Tensor]) -> None:
    torch.autograd.backward(torch.stack(list(losses.values())).sum())


@pytest.mark.parametrize("logits", ["reuse", "fresh"])
def test_the_students_losses_give_the_teacher_no_gradient(logits: str) -> None:
    task = tiny.context()
    tkd, teacher, student = pair(task, TKDConfig.model_validate({"teacher_logits": logits}))
    batch = task.batches.at(0)
    _, source, target = tkd.teacher_losses(teacher, batch, PROGRESS)
    backward(tkd.student_losses(student, source, target, batch, PROGRESS))
    assert all(g is None or not g.any() for g in gradients(teacher))
    assert all(g is not None and g.any() for g in gradients(student))


def test_beside_the_students_losses_the_teacher_learns_from_its_own_alone() -> None:
    task = tiny.context()
    batch = task.batches.at(0)
    tkd, teacher, student = pair(task, TKDConfig())
    losses, source, target = tkd.teacher_losses(teacher, batch, PROGRESS)
    backward(losses | tkd.student_losses(student, source, target, batch, PROGRESS))
    together = gradients(teacher)
    tkd, teacher, _ = pair(task, TKDConfig())
    backward(tkd.teacher_losses(teacher, batch, PROGRESS)[0])
    for one, other in zip(together, gradients(teacher), strict=True):
        assert one is not None and other is not None and torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "bn"),
    [
        ({}, "joint"),
        ({"beta_first": 0.1, "beta_last": 0.8, "temperature": 2.0, "weight": 0.7}, "split"),
        ({"target_kd": False, "student_discrepancy": False}, "joint"),
        ({"ramp": False, "teacher_logits": "fresh"}, "joint"),
        ({"beta_ramp": "linear", "beta_first": 0.0}, "joint"),
    ],
)
def test_losses_are_the_formulas(changes: dict[str, Any], bn: str) -> None:
    task = tiny.context(bn=bn)
    config = TKDConfig.model_validate(changes)
    batch = task.batches.at(0)
    tkd, teacher, student = pair(task, config)
    before = tiny.snapshot(teacher.network)
    t, s = (outputs(of, batch, task) for of in (teacher, student))
    guide = outputs(teacher, batch, task, evaluating=True)
    guide = guide if config.teacher_logits == "fresh" else t
    teacher.network.load_state_dict(before)  # each pass in train mode moves the statistics

    gamma = 2 / (1 + math.exp(-10 * PROGRESS)) - 1 if config.ramp else 1.0
    first, last = config.beta_first, config.beta_last
    is_linear = config.beta_ramp == "linear"
    beta = first + PROGRESS * (last - first) if is_linear else first * (last / first) ** PROGRESS
    d_teacher, d_student = (config.weight * gamma * mk_mmd(o["f_s"], o["f_t"]) for o in (t, s))
    own = cross_entropy(s["z_s"], batch) + (d_student if config.student_discrepancy else 0.0)
    guidance = kd(s["z_s"], guide["z_s"], config.temperature)
    if config.target_kd:
        guidance += kd(s["z_t"], guide["z_t"], config.temperature)

    teachers, source, target = tkd.teacher_losses(teacher, batch, PROGRESS)
    students = tkd.student_losses(student, source, target, batch, PROGRESS)
    assert total(teachers) == pytest.approx(cross_entropy(t["z_s"], batch) + d_teacher, abs=1e-5)
    assert total(students) == pytest.approx((1 - beta) * own + beta * guidance, abs=1e-5)
    assert d_teacher > 1e-3  # the term is not lost in the tolerance


def test_fresh_logits_are_those_of_eval_mode_and_leave_train_mode_on() -> None:
    task = tiny.context()
    tkd, teacher, _ = pair(task, TKDConfig(teacher_logits="fresh"))
    batch = task.batches.at(0)
    _, source, target = tkd.teacher_losses(teacher, batch, PROGRESS)
    assert all(module.training for module in teacher.network.modules())
    teacher.network.eval()
    with torch.no_grad():
        assert torch.allclose(source.logits, teacher.network(batch.source).logits, atol=1e-5)
        assert torch.allclose(target.logits, teacher.network(batch.target).logits, atol=1e-5)


def test_beta_goes_geometrically_from_the_first_to_the_last() -> None:
    config = TKDConfig(beta_first=0.1, beta_last=0.9)
    assert [config.beta(p) for p in (0, 0.5, 1)] == pytest.approx([0.1, 0.3, 0.9])
    assert TKDConfig(beta_first=0, beta_last=0.8).beta(0.25) == pytest.approx(0.2)


def test_gamma_goes_from_0_to_1() -> None:
    ramp = TrainingConfig().gamma
    assert [ramp(p) for p in (0, 0.1, 0.5, 1)] == pytest.approx([0, 0.462117, 0.986614, 0.999909])


def total(losses: dict[str, torch.Tensor]) -> float:
    return sum(float(loss.detach().double()) for loss in losses.values())


def outputs(of: Learner, batch: Batch, task: Context, evaluating: bool = False) -> dict[str, Array]:
    """Features and logits on source and target, as they come out of the network."""
    of.network.train(not evaluating)
    with torch.no_grad():
        source, target = both_domains(of.network, batch, task)
    of.network.train()
    values = {"f_s": source.features, "z_s": source.logits}
    values |= {"f_t": target.features, "z_t": target.logits}
    return {name: value.double().numpy() for name, value in values.items()}


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def cross_entropy(logits: Array, batch: Batch) -> float:
    return float(-log_softmax(logits)[np.arange(len(logits)), batch.labels.numpy()].mean())


def kd(student: Array, teacher: Array, tau: float) -> float:
    """tau^2 KL(teacher || student)."""
    p, q = log_softmax(teacher / tau), log_softmax(student / tau)
    return float(tau**2 * (np.exp(p) * (p - q)).sum(1).mean())


def mk_mmd(source: Array, target: Array) -> float:
    """The sum of five Gaussian kernels around the mean squared distance of the joint batch."""
    joint, n = np.concatenate([source, target]), len(source)
    distance = ((joint[:, None] - joint[None]) ** 2).sum(2)
    mean = distance.sum() / (len(joint) * (len(joint) - 1))
    kernel = np.sum([np.exp(-distance / (mean * f)) for f in (0.25, 0.5, 1, 2, 4)], axis=0)
    return float(kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean())
