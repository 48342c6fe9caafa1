"""Decoupled KD against a loop in float64: its two parts, and what KD is made of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from itmc.losses.distillation import dkd, kd


def values(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=random, dtype=torch.float64)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def looped_parts(
    student: Tensor, teacher: Tensor, classes: Tensor, temperature: float
) -> list[tuple[float, float, float]]:
    """Of each image: TCKD, NCKD and the teacher's probability of its class."""
    parts = []
    for s_row, t_row, c in zip(student.tolist(), teacher.tolist(), classes.tolist(), strict=True):
        s, t = softmax(s_row, temperature), softmax(t_row, temperature)
        of_class = divergence([t[c], 1 - t[c]], [s[c], 1 - s[c]])
        rest = [i for i in range(len(s)) if i != c]
        among = divergence([t[i] / (1 - t[c]) for i in rest], [s[i] / (1 - s[c]) for i in rest])
        parts.append((of_class, among, t[c]))
    return parts


def looped_dkd(
    student: Tensor,
    teacher: Tensor,
    classes: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
) -> float:
    parts = looped_parts(student, teacher, classes, temperature)
    total = sum(alpha * of_class + beta * among for of_class, among, _ in parts)
    return temperature**2 * total / len(parts)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (1.0, 0.0), (0.0, 2.0)])
@pytest.mark.parametrize(("count", "temperature"), [(5, 4.0), (5, 1.0), (1, 2.0)])
def test_dkd_is_the_loop(count: int, temperature: float, alpha: float, beta: float) -> None:
    student, teacher, classes = values(count, 4), values(count, 4, seed=1), torch.arange(count) % 3
    found = dkd(student, teacher, classes, alpha, beta, temperature).item()
    expected = looped_dkd(student, teacher, classes, alpha, beta, temperature)
    assert expected > 0.01
    assert found == pytest.approx(expected, rel=1e-10)


def test_kd_is_the_first_part_and_a_share_of_the_second() -> None:
    student, teacher, classes = values(6, 4), values(6, 4, seed=1), torch.arange(6) % 4
    shares = [1 - p for _, _, p in looped_parts(student, teacher, classes, 4.0)]
    rows = [
        dkd(student[i : i + 1], teacher[i : i + 1], classes[i : i + 1], 1.0, shares[i], 4.0).item()
        for i in range(6)
    ]
    assert kd(student, teacher, 4.0).item() == pytest.approx(sum(rows) / 6, rel=1e-10)


def test_of_two_classes_there_are_no_others_to_tell_apart() -> None:
    student, teacher, classes = values(4, 2), values(4, 2, seed=1), torch.tensor([0, 1, 1, 0])
    assert dkd(student, teacher, classes, 0.0, 8.0, 4.0).item() == 0
    found = dkd(student, teacher, classes, 1.0, 8.0, 4.0).item()
    assert found == pytest.approx(kd(student, teacher, 4.0).item(), rel=1e-10)


def test_equal_logits_cost_nothing_up_to_a_constant() -> None:
    logits = values(4, 3)
    found = dkd(logits, logits + 5, torch.tensor([0, 1, 2, 2]), 1.0, 8.0, 4.0)
    assert found.item() == pytest.approx(0, abs=1e-12)


def test_the_classs_own_logit_does_not_reach_the_second_part() -> None:
    student, teacher, classes = values(3, 4), values(3, 4, seed=1), torch.tensor([0, 2, 3])
    expected = dkd(student, teacher, classes, 0.0, 1.0, 4.0).item()
    moved = student.clone()
    moved[torch.arange(3), classes] += 5000.0  # more than a mask by subtraction would bear
    assert dkd(moved, teacher, classes, 0.0, 1.0, 4.0).item() == expected


def test_a_certain_teacher_gives_a_finite_loss_and_gradient() -> None:
    student = torch.zeros(1, 3, requires_grad=True)
    teacher = torch.tensor([[500.0, 1.0, 0.0]])
    loss = dkd(student, teacher, torch.tensor([0]), 1.0, 1.0, 1.0)
    loss.backward()
    p = math.e / (1 + math.e)
    expected = math.log(3) + divergence([p, 1 - p], [0.5, 0.5])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert student.grad is not None and student.grad.isfinite().all()


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = values(4, 3).requires_grad_(), values(4, 3, seed=1).requires_grad_()
    dkd(student, teacher, torch.tensor([0, 1, 2, 2]), 1.0, 8.0, 4.0).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().max() > 0


def test_the_student_gets_the_gradient_of_the_value() -> None:
    teacher, classes = values(3, 4, seed=1), torch.tensor([0, 3, 1])
    student = values(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: dkd(z, teacher, classes, 1.0, 8.0, 4.0), (student,))


@given(seed=st.integers(0, 10_000), count=st.integers(1, 5), classes=st.integers(2, 5))
def test_it_is_not_negative_in_any_order(seed: int, count: int, classes: int) -> None:
    random = torch.Generator().manual_seed(seed)
    student, teacher = values(count, classes, seed=seed), values(count, classes, seed=seed + 1)
    truth = torch.randint(classes, (count,), generator=random)
    loss = dkd(student, teacher, truth, 1.0, 2.0, 2.0).item()
    assert loss > -1e-12
    images, names = (torch.randperm(n, generator=random) for n in (count, classes))
    turned = dkd(student[images], teacher[images], truth[images], 1.0, 2.0, 2.0).item()
    assert turned == pytest.approx(loss, rel=1e-9, abs=1e-12)
    renamed = dkd(student[:, names], teacher[:, names], names.argsort()[truth], 1.0, 2.0, 2.0)
    assert renamed.item() == pytest.approx(loss, rel=1e-9, abs=1e-12)


def test_bfloat16_is_raised_before_it_is_softened() -> None:
    student, teacher = values(6, 4).bfloat16(), values(6, 4, seed=1).bfloat16()
    classes = torch.arange(6) % 4
    loss = dkd(student, teacher, classes, 1.0, 8.0, 4.0)
    assert loss.dtype == torch.float32
    expected = looped_dkd(student.double(), teacher.double(), classes, 1.0, 8.0, 4.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
