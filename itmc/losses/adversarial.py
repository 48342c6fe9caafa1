"""Adversarial alignment: gradient reversal, the domain discriminator, CDAN's conditioning."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmc.losses.precision import at_least_float32


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """The identity forward; backward, ``-strength`` times the gradient (Ganin et al. 2016)."""
    reversed_: Tensor = _Reverse.apply(features, strength)
    return reversed_


def discriminator(inputs: int, hidden: int) -> nn.Sequential:
    """A domain classifier with two hidden layers: ``(N, inputs)`` to one logit, ``(N, 1)``."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


def domain_loss(logits: Tensor, sources: int, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of telling the first ``sources`` rows (source, 1) from the rest (0).

    ``logits`` is ``(N, 1)``; ``weights`` ``(N,)`` is normalised to mean 1 in each domain, so that
    source and target count alike (CDAN+E).
    """
    logits = at_least_float32(logits.squeeze(1))
    truth = torch.zeros_like(logits)
    truth[:sources] = 1
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if weights is not None:
        shares = weights / torch.cat(
            [part.mean().expand_as(part) for part in (weights[:sources], weights[sources:])]
        )
        losses = losses * shares
    return (losses[:sources].mean() + losses[sources:].mean()) / 2


def multilinear(features: Tensor, probabilities: Tensor) -> Tensor:
    """CDAN's multilinear map (Long et al., NeurIPS 2018, eq. 4): the outer product, flattened.

    ``(N, F)`` and ``(N, C)`` give ``(N, F * C)``.
    """
    return (probabilities.unsqueeze(2) * features.unsqueeze(1)).flatten(1)


class RandomMultilinear(nn.Module):
    """Randomised multilinear map (Long et al. 2018, eq. 6), for when the outer product is large.

    Two fixed Gaussian projections to ``outputs`` dimensions, multiplied element by element.
    """

    of_features: Tensor
    of_classes: Tensor

    def __init__(self, features: int, classes: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("of_features", torch.randn(features, outputs))
        self.register_buffer("of_classes", torch.randn(classes, outputs))

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        projected = (features @ self.of_features) * (probabilities @ self.of_classes)
        scaled: Tensor = projected / projected.shape[1] ** 0.5
        return scaled
