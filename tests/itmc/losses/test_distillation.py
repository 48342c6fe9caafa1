"""KD against a loop in float64: its direction, its scale, and who gets a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from itmc.losses.distillation import kd


def values(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=random, dtype=torch.float64)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def looped_kd(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """tau^2 times the mean over rows of sum_c t_c log(t_c / s_c)."""
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        s, t = softmax(s_row, temperature), softmax(t_row, temperature)
        total += sum(p * math.log(p / q) for p, q in zip(t, s, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize(("count", "temperature"), [(5, 4.0), (5, 1.0), (1, 2.0)])
def test_kd_is_the_loop(count: int, temperature: float) -> None:
    student, teacher = values(count, 4), values(count, 4, seed=1)
    found = kd(student, teacher, temperature).item()
    assert found == pytest.approx(looped_kd(student, teacher, temperature), rel=1e-12)


def test_images_that_the_teacher_is_sure_of_weigh_more() -> None:
    student, teacher, tau, trust = values(5, 4), values(5, 4, seed=1), 2.0, 3.0
    weights = [max(softmax(row, 1.0)) ** trust for row in teacher.tolist()]
    each = [looped_kd(student[i : i + 1], teacher[i : i + 1], tau) for i in range(5)]
    expected = sum(w * k for w, k in zip(weights, each, strict=True)) / sum(weights)
    assert kd(student, teacher, tau, trust).item() == pytest.approx(expected, rel=1e-12)
    assert kd(student, teacher, tau).item() != pytest.approx(expected, rel=1e-3)


def test_the_teacher_is_the_reference_of_the_divergence() -> None:
    # The teacher is torn between two classes, the student sure of one: KL(teacher || student)
    # is large, since the student denies what the teacher allows; the other direction is small.
    teacher, student = torch.tensor([[10.0, 10.0, 0.0]]), torch.tensor([[20.0, 0.0, 0.0]])
    right = looped_kd(student.double(), teacher.double(), 1.0)
    reversed_ = looped_kd(teacher.double(), student.double(), 1.0)
    assert right > 10 * reversed_
    assert kd(student, teacher, 1.0).item() == pytest.approx(right, rel=1e-5)


def test_equal_logits_cost_nothing_up_to_a_constant() -> None:
    logits = values(4, 3)
    assert kd(logits, logits + 5, 4.0).item() == pytest.approx(0, abs=1e-12)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = values(4, 3).requires_grad_(), values(4, 3, seed=1).requires_grad_()
    kd(student, teacher, 4.0).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().max() > 0


def test_the_student_gets_the_gradient_of_the_value() -> None:
    teacher = values(3, 4, seed=1)
    student = values(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: kd(z, teacher, 4.0), (student,))


def test_the_gradient_is_tau_times_the_difference_of_softened_predictions() -> None:
    student, teacher, tau = values(3, 4).requires_grad_(), values(3, 4, seed=1), 4.0
    kd(student, teacher, tau).backward()
    expected = tau * ((student / tau).softmax(1) - (teacher / tau).softmax(1)) / 3
    assert torch.allclose(student.grad, expected, rtol=1e-10)


def test_bfloat16_is_raised_before_it_is_softened() -> None:
    student, teacher = values(6, 4).bfloat16(), values(6, 4, seed=1).bfloat16()
    loss = kd(student, teacher, 4.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(looped_kd(student.double(), teacher.double(), 4), rel=1e-5)
