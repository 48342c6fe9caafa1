"""Losses on the target's predictions: entropy and minimum class confusion."""

from __future__ import annotations

import torch
from torch import Tensor

from itmc.losses.precision import at_least_float32

MCC_TEMPERATURE = 2.5


def entropy(logits: Tensor) -> Tensor:
    """Entropy (nats) of each row's softmax: ``(N, C)`` to ``(N,)``."""
    log_probabilities = at_least_float32(logits).log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


def minimum_class_confusion(logits: Tensor, temperature: float = MCC_TEMPERATURE) -> Tensor:
    """MCC (Jin et al., ECCV 2020, eqs. 2-6): how much classes are confused with one another.

    ``logits`` of target images, ``(N, C)``. Certain examples weigh more; the class correlation
    is normalised by row, and what lies off its diagonal is averaged over the classes. As in the
    authors' code the weights carry no gradient.
    """
    softened = at_least_float32(logits) / temperature
    probabilities = softened.softmax(1)
    certainty = 1 + torch.exp(-entropy(softened.detach()))
    weights = len(logits) * certainty / certainty.sum()
    correlation = (probabilities * weights.unsqueeze(1)).T @ probabilities
    # A class that no image takes for possible, to the last bit, is confused with none.
    total = correlation.sum(1, keepdim=True).clamp_min(torch.finfo(correlation.dtype).tiny)
    confusion = correlation / total
    return (confusion.sum() - confusion.trace()) / logits.shape[1]
