"""Batches for training: labelled source images, target images without labels.

A batch depends only on seed and step, so all methods of a seed see the same batches with the same
augmentation, and a run can be resumed at any step. There are no worker processes: images come from
the store by row, and are augmented as a batch on the device.

Where several processes train a run together, each gets its part of the images of that same batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from itmc.domains.augment import DataConfig, augmented
from itmc.domains.draws import COLUMNS
from itmc.domains.images import Images
from itmc.domains.store import Domain
from itmc.parallel import world
from itmc.seeding import generator

_CHUNK = 1024
_SHARE_OF_DEVICE = 0.4
"""Most that a domain may take of a GPU's free memory; the rest is for networks and activations."""


@dataclass(frozen=True)
class Labelled:
    """Images ``(N, S, S, 3)`` uint8 with labels ``(N,)``: of the source, or for evaluation only."""

    images: Images
    labels: np.ndarray
    indices: np.ndarray
    """Which rows of the arrays belong to this set."""

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Unlabelled:
    """Target images as training sees them: there is no label to peek at."""

    images: Images
    indices: np.ndarray
    """Which rows are trained on: not those of an official test part."""

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Batch:
    """One training step: float images ``(N, 3, S, S)`` of both domains, source labels ``(N,)``.

    Of P processes each has N / P of the images, and all the labels: losses are of gathered outputs.
    """

    source: Tensor
    labels: Tensor
    target: Tensor


def trained_rows(domain: Domain) -> np.ndarray:
    """Rows of ``domain`` to train on."""
    return np.arange(len(domain.images)) if domain.trained is None else domain.trained


def split_source(domain: Domain, holdout: float, seed: int) -> tuple[Labelled, Labelled]:
    """Training and validation part of the source: ``holdout`` of each class is kept out.

    Every class keeps at least one image to train on. An official test part is in neither.
    """
    random = generator("holdout", domain.name, seed)
    rows = trained_rows(domain)
    kept_out = []
    for label in np.unique(domain.labels[rows]):
        members = random.permutation(rows[domain.labels[rows] == label])
        count = min(round(holdout * len(members)), len(members) - 1)
        kept_out.append(members[:count])
    validation = np.sort(np.concatenate(kept_out))
    training = np.setdiff1d(rows, validation)
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
        """Raises UsageError where ``batch_size`` cannot be parted evenly between the processes."""
        self.source, self.target = source, target
        self._data, self._size, self._seed, self._device = data, batch_size, seed, device
        self._part = world().part(batch_size)
        self._source_images = on_device(source.images, device)
        self._target_images = on_device(target.images, device)

    def at(self, step: int) -> Batch:
        """The batch of ``step`` (counted from 0 over all epochs)."""
        rows = self._rows(self.source.indices, step, "source")
        source = self._augmented(self._source_images, rows, step, "source")
        labels = torch.from_numpy(self.source.labels[rows])
        rows = self._rows(self.target.indices, step, "target")
        target = self._augmented(self._target_images, rows, step, "target")
        return Batch(source, labels.to(self._device, non_blocking=True), target)

    def first(self, count: int) -> Iterator[Batch]:
        """The first ``count`` batches: to estimate importance or BatchNorm statistics with."""
        return (self.at(step) for step in range(count))

    def _rows(self, indices: np.ndarray, step: int, side: str) -> np.ndarray:
        """Rows of the images of ``step``."""
        rows: np.ndarray = indices[_positions(len(indices), self._size, step, side, self._seed)]
        return rows

    def _augmented(
        self, images: Fetched | Resident, rows: np.ndarray, step: int, side: str
    ) -> Tensor:
        """This process's part of ``rows``, as it is augmented in the whole batch."""
        random = generator("augment", side, self._seed, step)
        random.random((self._part.start, COLUMNS))  # what the images before it draw
        return augmented(images(rows[self._part]), self._data, random)


class Fetched:
    """Stored images brought to a device by row: ``(N, S, S, 3)`` uint8."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images, self._device = images, device

    def __call__(self, rows: np.ndarray) -> Tensor:
        """The images of ``rows``."""
        images = torch.from_numpy(np.ascontiguousarray(self._images[rows]))
        if self._device.type == "cuda":
            images = images.pin_memory()
        return images.to(self._device, non_blocking=True)


class Resident:
    """Images that lie in the memory of the device: nothing is copied to it in a step."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(images), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(images)))
            self._images[start : start + len(rows)] = torch.from_numpy(images[rows])

    def __call__(self, rows: np.ndarray) -> Tensor:
        """The images of ``rows``."""
        return self._images[torch.from_numpy(rows).to(self._images.device, non_blocking=True)]


def on_device(images: Images, device: torch.device) -> Fetched | Resident:
    """The images for training on ``device``: in its memory where it is a GPU and they fit."""
    if device.type == "cuda" and fits(images, torch.cuda.mem_get_info(device)[0]):
        return Resident(images, device)
    return Fetched(images, device)


def fits(images: Images, free: int) -> bool:
    """Whether a domain may take what it needs of ``free`` bytes."""
    return int(np.prod(images.shape)) <= _SHARE_OF_DEVICE * free


def _positions(length: int, size: int, step: int, side: str, seed: int) -> np.ndarray:
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
