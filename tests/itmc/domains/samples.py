"""Images to resample and to jitter: noise, and photographs."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from itmc.seeding import generator

KINDS = ("noise", "photographs")


def images(kind: str, count: int, side: int) -> Tensor:
    """``(count, side, side, 3)`` uint8; photographs are pieces of scikit-learn's two."""
    if kind == "noise":
        drawn = generator("noise", side).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        return torch.from_numpy(drawn)
    photographs = load_sample_images().images
    pieces = [
        photographs[i % 2][20 : 20 + side, 37 * i % 300 : 37 * i % 300 + side] for i in range(count)
    ]
    return torch.from_numpy(np.stack(pieces))


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two batches in grey levels."""
    assert found.shape == expected.shape
    return (found.float() - expected.float()).abs().max().item()
