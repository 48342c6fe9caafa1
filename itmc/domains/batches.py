"""Batches for training: labelled source images, target images without labels.

A batch depends only on seed and step, so all methods of a seed see the same batches with the same
augmentation, and a run can be resumed at any step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from itmc.domains.augment import DataConfig, augmented
from itmc.domains.store import Domain
from itmc.seeding import generator


@dataclass(frozen=True)
class Labelled:
    """Images ``(N, S, S, 3)`` uint8 with labels ``(N,)``: of the source, or for evaluation only."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    """Which rows of the arrays belong to this set."""

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Unlabelled:
    """Target images as training sees them: there is no label to peek at."""

    images: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Batch:
    """One training step: float images ``(N, 3, S, S)`` of both domains, source labels ``(N,)``."""

    source: Tensor
    labels: Tensor
    target: Tensor


def split_source(domain: Domain, holdout: float, seed: int) -> tuple[Labelled, Labelled]:
    """Training and validation part of the source: ``holdout`` of each class is kept out.

    Every class keeps at least one image to train on.
    """
    random = generator("holdout", domain.name, seed)
    kept_out = []
    for label in np.unique(domain.labels):
        members = random.permutation(np.flatnonzero(domain.labels == label))
        count = min(round(holdout * len(members)), len(members) - 1)
        kept_out.append(members[:count])
    validation = np.sort(np.concatenate(kept_out))
    training = np.setdiff1d(np.arange(len(domain.labels)), validation)
    return (
        Labelled(domain.images, domain.labels, training),
        Labelled(domain.images, domain.labels, validation),
    )


class Batches:
    """The batches of one task and seed, by step."""

    def __init__(
        self,
        source: Labelled,
        target: Unlabelled,
        data: DataConfig,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.source, self.target = source, target
        self._data, self._size, self._seed, self._device = data, batch_size, seed, device

    def at(self, step: int) -> Batch:
        """The batch of ``step`` (counted from 0 over all epochs)."""
        rows = self.source.indices[_rows(len(self.source), self._size, step, "source", self._seed)]
        source = augmented(self.source.images[rows], self._data, self._random("source", step))
        labels = torch.from_numpy(self.source.labels[rows])
        rows = _rows(len(self.target), self._size, step, "target", self._seed)
        target = augmented(self.target.images[rows], self._data, self._random("target", step))
        return Batch(
            source.to(self._device, non_blocking=True),
            labels.to(self._device, non_blocking=True),
            target.to(self._device, non_blocking=True),
        )

    def first(self, count: int) -> Iterator[Batch]:
        """The first ``count`` batches: to estimate importance or BatchNorm statistics with."""
        return (self.at(step) for step in range(count))

    def _random(self, side: str, step: int) -> np.random.Generator:
        return generator("augment", side, self._seed, step)


def _rows(length: int, size: int, step: int, side: str, seed: int) -> np.ndarray:
    """Positions ``step * size`` onwards in an endless row of permutations of ``length`` images."""
    positions = np.arange(step * size, (step + 1) * size)
    rounds = positions // length
    return np.concatenate(
        [
            _order(length, int(r), side, seed)[positions[rounds == r] % length]
            for r in np.unique(rounds)
        ]
    )


@lru_cache(maxsize=8)
def _order(length: int, round_: int, side: str, seed: int) -> np.ndarray:
    return generator("order", side, seed, round_).permutation(length)
