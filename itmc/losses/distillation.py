"""Knowledge distillation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """tau^2 * KL(teacher || student) of softened predictions (Hinton et al. 2015).

    Both are ``(N, C)``; the mean over the batch. The teacher's logits are detached here, so that no
    caller can send a gradient into the teacher.
    """
    student = (student_logits.float() / temperature).log_softmax(1)
    teacher = (teacher_logits.detach().float() / temperature).log_softmax(1)
    divergence = F.kl_div(student, teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2
