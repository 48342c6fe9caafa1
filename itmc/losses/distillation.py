"""What a student learns from a teacher's logits: distillation, and self-ensembling's consistency.

The teacher's logits are detached here, so that no caller can send a gradient into the teacher.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from itmc.losses.binary import one_against_others, others
from itmc.losses.precision import at_least_float32


def kd(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, trust: float = 0.0
) -> Tensor:
    """tau^2 * KL(teacher || student) of softened predictions (Hinton et al. 2015).

    Both are ``(N, C)``. The mean over the batch, in which an image weighs as much as the teacher's
    largest probability of it, not softened, to the power of ``trust``: with 0 all weigh the same.
    """
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    by_image = F.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="none"
    ).sum(1)
    if trust == 0:
        return by_image.mean() * temperature**2
    weights = at_least_float32(teacher_logits.detach()).softmax(1).amax(1) ** trust
    return (weights * by_image).sum() / weights.sum() * temperature**2


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    classes: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """tau^2 * (alpha * TCKD + beta * NCKD), decoupled KD (Zhao et al., CVPR 2022, eqs. 5-7).

    Logits are ``(N, C)``; ``classes`` ``(N,)`` is the true class, or a pseudo label. TCKD is the
    divergence of that class against all others together, NCKD the one among the others.
    """
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    of_class = _divergence(
        one_against_others(student, classes), one_against_others(teacher, classes)
    )
    among_others = _divergence(
        others(student, classes).log_softmax(1), others(teacher, classes).log_softmax(1)
    )
    return (alpha * of_class + beta * among_others) * temperature**2


def consistency(student_logits: Tensor, teacher_logits: Tensor, threshold: float) -> Tensor:
    """Squared difference of probabilities, of confident images (French et al., ICLR 2018, 3.1-3.2).

    Both are ``(N, C)``; the mean over classes, then over all images, where those count as zero
    whose teacher's largest probability is not above ``threshold``.
    """
    student = at_least_float32(student_logits).softmax(1)
    teacher = at_least_float32(teacher_logits.detach()).softmax(1)
    return ((student - teacher).square().mean(1) * _confident(teacher, threshold)).mean()


def class_balance(student_logits: Tensor, teacher_logits: Tensor, threshold: float) -> Tensor:
    """Binary cross-entropy of the mean prediction to the uniform one (French et al. 2018, 3.4).

    Both are ``(N, C)``; summed over the classes and scaled by the share of confident images, as in
    the authors' code. Least, not zero, where the student's mean prediction is uniform.
    """
    log_probabilities = at_least_float32(student_logits).log_softmax(1)
    classes = log_probabilities.shape[1]
    log_sum = log_probabilities.logsumexp(0)  # the mean's but for log N, which normalising removes
    each = torch.arange(classes, device=log_sum.device)
    is_class, is_not = one_against_others(log_sum.expand(classes, classes), each).unbind(1)
    cross_entropy = -(is_class / classes + is_not * (1 - 1 / classes)).sum()
    teacher = at_least_float32(teacher_logits.detach()).softmax(1)
    return cross_entropy * _confident(teacher, threshold).mean()


def _softened(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return (
        at_least_float32(student) / temperature,
        at_least_float32(teacher.detach()) / temperature,
    )


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities, the mean over the batch."""
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean")


def _confident(probabilities: Tensor, threshold: float) -> Tensor:
    """1 for each row whose largest probability is above ``threshold``, else 0: ``(N,)``."""
    return (probabilities.amax(1) > threshold).to(probabilities.dtype)
