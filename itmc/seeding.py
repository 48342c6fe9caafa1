"""Randomness that depends on what it is for, never on what ran before it.

Every draw comes from a counter-based generator keyed by its purpose, such as
``("source", "order", seed, epoch)``. So a batch depends only on seed and step: runs can be resumed
in the middle, and all methods see the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where torch's global generators are: the CPU's, and the one of a CUDA ``device``."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put torch's global generators where ``random_state`` found them; others stay as they are."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def seeded(*key: Key) -> Iterator[None]:
    """Inside, torch's global CPU generator follows ``key``; afterwards it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*key))
        yield
