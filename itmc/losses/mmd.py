"""Maximum mean discrepancies: MK-MMD (DAN) and joint MMD (JAN)."""

from __future__ import annotations

import torch
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
