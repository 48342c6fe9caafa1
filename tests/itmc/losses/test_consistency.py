"""Self-ensembling's consistency and class balance against loops in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from itmc.losses.distillation import class_balance, consistency

Loss = Callable[[Tensor, Tensor, float], Tensor]
LOSSES = pytest.mark.parametrize("loss", [consistency, class_balance])


def values(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=random, dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(z) for z in row]
    return [power / sum(powers) for power in powers]


def looped_consistency(student: Tensor, teacher: Tensor, threshold: float) -> float:
    """Mean over all images of the mean squared difference, zero where the teacher is unsure."""
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        s, t = softmax(s_row), softmax(t_row)
        if max(t) > threshold:
            total += sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)
    return total / len(student)


def looped_balance(student: Tensor, teacher: Tensor, threshold: float) -> float:
    """Sum over classes of the cross-entropy of (1 / C, 1 - 1 / C) to (mean p, 1 - mean p)."""
    rows = [softmax(row) for row in student.tolist()]
    classes = len(rows[0])
    total = 0.0
    for c in range(classes):
        p = sum(row[c] for row in rows) / len(rows)
        total -= math.log(p) / classes + (1 - 1 / classes) * math.log(1 - p)
    confident = [max(softmax(row)) > threshold for row in teacher.tolist()]
    return total * sum(confident) / len(confident)


LOOPS = {consistency: looped_consistency, class_balance: looped_balance}


@LOSSES
@pytest.mark.parametrize(("count", "classes"), [(8, 4), (8, 2), (1, 3)])
@pytest.mark.parametrize("threshold", [0.0, 0.8])
def test_both_are_their_loops(loss: Loss, threshold: float, count: int, classes: int) -> None:
    student, teacher = values(count, classes), 2 * values(count, classes, seed=5)
    expected = LOOPS[loss](student, teacher, threshold)
    assert loss(student, teacher, threshold).item() == pytest.approx(expected, rel=1e-10)


@LOSSES
def test_the_threshold_parts_these_images(loss: Loss) -> None:
    """Else the test above would not see it."""
    student, teacher = values(8, 4), 2 * values(8, 4, seed=5)
    expected = [LOOPS[loss](student, teacher, threshold) for threshold in (0.0, 0.8, 1.0)]
    assert expected[0] > expected[1] > expected[2] == 0
    assert loss(student, teacher, 1.0).item() == 0


@LOSSES
def test_a_teacher_at_the_threshold_is_not_above_it(loss: Loss) -> None:
    student, teacher = values(2, 2), torch.zeros(2, 2).double()
    assert loss(student, teacher, 0.5).item() == 0
    assert loss(student, teacher, 0.4999).item() > 0


def test_equal_logits_are_consistent_up_to_a_constant() -> None:
    logits = values(4, 3)
    assert consistency(logits, logits + 5, 0.0).item() == pytest.approx(0, abs=1e-12)


def test_teacher_and_student_may_be_swapped_where_all_are_confident() -> None:
    student, teacher = values(4, 3), values(4, 3, seed=1)
    there, back = consistency(student, teacher, 0.0), consistency(teacher, student, 0.0)
    assert there.item() == pytest.approx(back.item(), rel=1e-12)


def test_balance_is_least_for_a_uniform_mean_however_certain_each_image() -> None:
    even, teacher = 3 * torch.eye(4).double(), 9 * torch.eye(4).double()
    least = 4 * -(math.log(1 / 4) / 4 + 3 / 4 * math.log(3 / 4))
    assert class_balance(even, teacher, 0.9).item() == pytest.approx(least, rel=1e-10)
    assert class_balance(even[[0, 0, 1, 2]], teacher, 0.9).item() > least + 0.01


def test_balance_stays_finite_where_all_images_are_of_one_class() -> None:
    student = torch.tensor([[300.0, 0.0, 0.0]], requires_grad=True)
    loss = class_balance(student, student, 0.9)
    loss.backward()
    # The first class: -2/3 log(2 e^-300); each of the others: -1/3 log e^-300.
    assert loss.item() == pytest.approx(400 - 2 / 3 * math.log(2), rel=1e-5)
    assert student.grad is not None and student.grad.isfinite().all()


@LOSSES
def test_no_gradient_reaches_the_teacher(loss: Loss) -> None:
    student, teacher = values(4, 3).requires_grad_(), values(4, 3, seed=1).requires_grad_()
    loss(student, teacher, 0.4).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().max() > 0


@LOSSES
def test_the_student_gets_the_gradient_of_the_value(loss: Loss) -> None:
    student, teacher = values(4, 3).requires_grad_(), values(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, 0.6), (student,))


@LOSSES
@given(seed=st.integers(0, 10_000), count=st.integers(1, 5), classes=st.integers(2, 5))
def test_neither_is_negative_in_any_order(loss: Loss, seed: int, count: int, classes: int) -> None:
    student, teacher = values(count, classes, seed=seed), values(count, classes, seed=seed + 1)
    found = loss(student, teacher, 0.6).item()
    assert found >= 0
    for turned in (
        [x.flip(0) for x in (student, teacher)],
        [x.flip(1) for x in (student, teacher)],
    ):
        assert loss(*turned, 0.6).item() == pytest.approx(found, rel=1e-9, abs=1e-12)


@LOSSES
def test_bfloat16_is_raised_before_it_is_softened(loss: Loss) -> None:
    student, teacher = values(8, 4).bfloat16(), values(8, 4, seed=1).bfloat16()
    found = loss(student, teacher, 0.6)
    assert found.dtype == torch.float32
    expected = LOOPS[loss](student.double(), teacher.double(), 0.6)
    assert found.item() == pytest.approx(expected, rel=1e-5)
