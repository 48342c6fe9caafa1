"""Maximum mean discrepancies: MK-MMD (DAN), joint MMD (JAN) and local MMD (DSAN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from itmc.losses.precision import at_least_float32

# Bandwidths around the mean squared distance, a factor of two apart (Long et al. 2015, sec. 4.1).
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# JAN's fixed bandwidth of the kernel on predicted probabilities (Long et al. 2017, authors' code).
JAN_SIGMA = 1.68


def mk_mmd(source: Tensor, target: Tensor) -> Tensor:
    """Squared multi-kernel MMD (Long et al., ICML 2015, eq. 2), the biased estimate, so >= 0.

    ``source`` is ``(N, F)``, ``target`` ``(M, F)``; Gaussian kernels exp(-d / s), summed, with
    s the mean squared distance d of the joint batch times ``FACTORS``. No gradient flows
    through the bandwidth. The paper weighs the kernels to a sum of 1; the field's code, and so
    this, adds them up, which is a trade-off lambda of 5 in the paper's terms.
    """
    return _mmd(_multi_kernel(at_least_float32(torch.cat([source, target]))), len(source))


def jmmd(
    source: tuple[Tensor, Tensor],
    target: tuple[Tensor, Tensor],
) -> Tensor:
    """Squared joint MMD (Long et al., ICML 2017, eq. 9), the biased estimate.

    Each domain gives features ``(N, F)`` and probabilities ``(N, C)``; the kernels of the two
    are multiplied. The kernel on probabilities has the fixed bandwidth of the authors' code.
    """
    features = at_least_float32(torch.cat([source[0], target[0]]))
    probabilities = at_least_float32(torch.cat([source[1], target[1]]))
    kernel = _multi_kernel(features) * torch.exp(-_squared_distances(probabilities) / JAN_SIGMA)
    return _mmd(kernel, len(source[0]))


def lmmd(source: Tensor, target: Tensor, labels: Tensor, probabilities: Tensor) -> Tensor:
    """Squared local MMD (Zhu et al., TNNLS 2020, eqs. 5-8): one MMD a class, averaged.

    ``source`` is ``(N, F)`` with ``labels`` ``(N,)``, ``target`` ``(M, F)`` with ``probabilities``
    ``(M, C)``, which get no gradient. A class's images weigh by their share of it: the source's by
    label, the target's by probability. The kernel is that of ``mk_mmd``.

    As in the authors' code the mean is over the classes (the paper: over all C) that some source
    image has as its label and some target image as its likeliest; without any, zero.
    """
    kernel = _multi_kernel(at_least_float32(torch.cat([source, target])))
    of_target = probabilities.detach().to(kernel.dtype)
    classes = of_target.shape[1]
    of_source = F.one_hot(labels, classes).to(kernel.dtype)
    predicted = F.one_hot(of_target.argmax(1), classes).amax(0)
    counts = of_source.amax(0) * predicted
    weights = torch.cat([_shares(of_source), -_shares(of_target)]) * counts
    # w^T K w with one sign a domain is the MMD: within source + within target - 2 * across.
    return (kernel * (weights @ weights.T)).sum() / counts.sum().clamp_min(1)


def _shares(memberships: Tensor) -> Tensor:
    """Each image's part of each class, ``(N, C)``: columns that sum to 1, or stay zero."""
    total = memberships.sum(0)
    return memberships / total.clamp_min(torch.finfo(total.dtype).tiny)


def _mmd(kernel: Tensor, sources: int) -> Tensor:
    within_source = kernel[:sources, :sources].mean()
    within_target = kernel[sources:, sources:].mean()
    across = kernel[:sources, sources:].mean()
    return within_source + within_target - 2 * across


def _multi_kernel(samples: Tensor) -> Tensor:
    distances = _squared_distances(samples)
    count = len(samples)
    mean = distances.detach().sum() / max(1, count * (count - 1))  # the diagonal is zero
    mean = mean.clamp_min(torch.finfo(mean.dtype).eps)  # all samples alike: the kernel is 1
    return torch.stack([torch.exp(-distances / (mean * factor)) for factor in FACTORS]).sum(0)


def _squared_distances(samples: Tensor) -> Tensor:
    return (samples.unsqueeze(0) - samples.unsqueeze(1)).square().sum(2)
