"""One class against all others, in logits."""

from __future__ import annotations

import torch
from torch import Tensor


def others(logits: Tensor, classes: Tensor) -> Tensor:
    """Each row without its class: ``(N, C)`` and ``(N,)`` give ``(N, C - 1)``."""
    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    # From the class on, what follows moves up by one.
    return logits.gather(1, places + (places >= classes.unsqueeze(1)).long())


def one_against_others(logits: Tensor, classes: Tensor) -> Tensor:
    """``(N, 2)``: log p and log(1 - p), with p each row's softmax at its class.

    ``logits`` is ``(N, C)``, ``classes`` ``(N,)``. 1 - p is never formed, which would round to 0
    where p is nearly 1.
    """
    chosen = logits.gather(1, classes.unsqueeze(1)).squeeze(1)
    return torch.stack([chosen, others(logits, classes).logsumexp(1)], 1).log_softmax(1)
