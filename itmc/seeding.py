"""Randomness that depends on what it is for, never on what ran before it.

Every draw comes from a counter-based generator keyed by its purpose, such as
``("source", "order", seed, epoch)``. So a batch depends only on seed and step: runs can be resumed
in the middle, and all methods see the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Key = str | int


def seed_of(*key: Key) -> int:
    """A 63-bit seed derived from ``key``, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1


def generator(*key: Key) -> np.random.Generator:
    """A NumPy generator (Philox) that depends on ``key`` alone."""
    return np.random.Generator(np.random.Philox(key=seed_of(*key)))


@contextmanager
def seeded(*key: Key) -> Iterator[None]:
    """Inside, torch's global CPU generator follows ``key``; afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*key))
        yield
