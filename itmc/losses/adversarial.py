"""Adversarial alignment: gradient reversal, domain discriminators, CDAN's maps, MDD's margin."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmc.losses.binary import one_against_others
from itmc.losses.precision import at_least_float32

# The paper takes 2, 3 or 4, the authors' library 4 (Zhang et al., ICML 2019).
MDD_MARGIN = 4.0


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


def adversary(inputs: int, hidden: int, classes: int) -> nn.Sequential:
    """MDD's second classifier: ``(N, inputs)`` to logits ``(N, classes)``."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def domain_loss(logits: Tensor, sources: int, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of telling the first ``sources`` rows (source, 1) from the rest (0).

    ``logits`` is ``(N, 1)``; ``weights`` ``(N,)`` is normalised to mean 1 in each domain, as in
    the code of CDAN+E's authors, so that source and target count alike.
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


def margin_disparity(
    adversary_source: Tensor,
    predicted_source: Tensor,
    adversary_target: Tensor,
    predicted_target: Tensor,
    margin: float = MDD_MARGIN,
) -> Tensor:
    """What MDD's adversary lowers (Zhang et al., ICML 2019): minus the margin disparity.

    margin * mean -log p(source) + mean -log(1 - p(target)), with p the softmax of the adversary's
    logits ``(N, C)`` at the class ``(N,)`` that the main classifier predicts: the adversary is to
    agree with it on the source and to disagree on the target.
    """
    agree = F.cross_entropy(at_least_float32(adversary_source), predicted_source)
    disagree = one_against_others(at_least_float32(adversary_target), predicted_target)[:, 1]
    return margin * agree - disagree.mean()


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
