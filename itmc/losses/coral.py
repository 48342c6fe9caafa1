"""Correlation alignment."""

from __future__ import annotations

from torch import Tensor

from itmc.losses.precision import at_least_float32


def coral(source: Tensor, target: Tensor) -> Tensor:
    """|C_s - C_t|_F^2 / (4 F^2) of the covariances (Sun and Saenko, Deep CORAL, 2016, eq. 1).

    ``source`` is ``(N, F)``, ``target`` ``(M, F)``; the covariances have N - 1 and M - 1 in their
    denominators. One image alone has none: it counts as zero.
    """
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(samples: Tensor) -> Tensor:
    samples = at_least_float32(samples)
    centred = samples - samples.mean(0)
    covariance: Tensor = centred.T @ centred / max(1, len(samples) - 1)
    return covariance
