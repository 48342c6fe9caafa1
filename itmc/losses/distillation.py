"""Knowledge distillation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from itmc.losses.precision import at_least_float32


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """tau^2 * KL(teacher || student) of softened predictions (Hinton et al. 2015).

    Both are ``(N, C)``; the mean over the batch. The teacher's logits are detached here, so that no
    caller can send a gradient into the teacher.
    """
    student = (at_least_float32(student_logits) / temperature).log_softmax(1)
    teacher = (at_least_float32(teacher_logits.detach()) / temperature).log_softmax(1)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2
