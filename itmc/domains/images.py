"""Stored images by row, whatever their number: memory-mapped arrays, or files decoded on demand."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from itmc.domains.decode import decode, parallel

Pixels = NDArray[np.uint8]
Rows = int | slice | NDArray[np.int64]

_RESIDENT = 512 << 20
# Rows that are read between two looks at how much is mapped.
_TOGETHER = 256


def load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """The array in an ``.npy`` file; OSError or ValueError if it is missing or damaged."""
    try:
        array: np.ndarray = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        return array
    except (OSError, ValueError):
        raise
    except Exception as error:  # numpy parses the header with Python's own tokenizer
        raise ValueError(f"{path.name}: {error}") from error


class Images(Protocol):
    """All images of a domain, ``(N, S, S, 3)`` uint8 RGB, read by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, S, S, 3)``."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows, /) -> Pixels:
        """A copy of the images of ``rows``, ``(len(rows), S, S, 3)``, or of one, ``(S, S, 3)``."""


class _Stored(ABC):
    """What both kinds share: rows, and that no more than ``_RESIDENT`` bytes stay mapped.

    What is read through a memory map counts as the process's memory until the system wants it back;
    of a domain larger than the memory, or a job's share of it, that would be all of it. So it is
    given back now and then: the system still has it cached, if there is room.
    """

    def __init__(self, shards: Sequence[np.ndarray], count: int, size: int) -> None:
        self._shards, self.shape = shards, (count, size, size, 3)
        self._touched = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.uint8, copy=False)

    def __getitem__(self, rows: Rows) -> Pixels:
        if isinstance(rows, (int, np.integer)):
            one: Pixels = self[np.array([rows])][0]
            return one
        chosen = np.arange(len(self))[rows]
        return self._read(chosen)

    @abstractmethod
    def _read(self, rows: NDArray[np.int64]) -> Pixels:
        """Copies of the images of ``rows``."""

    def _release(self, touched: int) -> None:
        """Count ``touched`` bytes; give back what is mapped when they are too many."""
        self._touched += touched
        if self._touched < _RESIDENT:
            return
        for shard in self._shards:
            mapped: mmap.mmap | None = getattr(shard, "_mmap", None)
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)
        self._touched = 0


class Mapped(_Stored):
    """Decoded images in ``.npy`` files of so many rows each."""

    def __init__(self, files: Sequence[Path], rows_per_file: int, count: int, size: int) -> None:
        """Raises OSError or ValueError where a file is not what it should be."""
        shards = [load_array(path, "r") for path in files]
        for index, shard in enumerate(shards):
            rows = min(rows_per_file, count - index * rows_per_file)
            if shard.shape != (rows, size, size, 3) or shard.dtype != np.uint8:
                raise ValueError(f"{files[index].name} holds {shard.dtype} {shard.shape}")
        super().__init__(shards, count, size)
        self._rows_per_file = rows_per_file

    def _read(self, rows: NDArray[np.int64]) -> Pixels:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        files, inside = np.divmod(rows, self._rows_per_file)
        for start in range(0, len(rows), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            for index in np.unique(files[part]).tolist():
                here = start + np.flatnonzero(files[part] == index)
                # A view without the map's own class, whose indexing is slow.
                images[here] = self._shards[index].view(np.ndarray)[inside[here]]
            self._release(images[part].nbytes)
        return images


class Encoded(_Stored):
    """Image files one after the other, decoded by all cores whenever they are read."""

    def __init__(
        self, files: Sequence[Path], where: NDArray[np.int64], size: int, name: Callable[[int], str]
    ) -> None:
        """``where``: file, first byte and length of each image, ``(N, 3)``; ``name``: of a row.

        Raises OSError or ValueError where a file is not what it should be.
        """
        shards = [np.memmap(path, np.uint8, "r") for path in files]
        if (where < 0).any() or (where[:, 0] >= len(shards)).any():
            raise ValueError("it is not known where its images lie")
        for index, shard in enumerate(shards):
            inside = where[where[:, 0] == index]
            if (inside[:, 1] + inside[:, 2]).max(initial=0) != len(shard):
                raise ValueError(f"{files[index].name} is {len(shard)} bytes long")
        super().__init__(shards, len(where), size)
        self._where, self._name = where, name

    def content(self, row: int) -> bytes:
        """The file of an image."""
        index, start, length = self._where[row].tolist()
        content: bytes = self._shards[index][start : start + length].tobytes()
        return content

    def _read(self, rows: NDArray[np.int64]) -> Pixels:
        size = self.shape[1]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)

        def one(row: int) -> Pixels:
            return decode(self.content(row), size, self._name(row))

        for place, image in enumerate(parallel(one, rows.tolist())):
            images[place] = image
        self._release(int(self._where[rows, 2].sum()))
        return images
