"""Small folders of images in the layouts of datasets, and of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from itmc.domains.catalog import dataset


def fake(name: str, root: Path, folder: str, pattern: str = "frame_{:04}.jpg") -> Path:
    """The layout of a dataset with one image a class; ``folder`` is written with its parts."""
    random = np.random.default_rng(0)
    for domain in dataset(name).domains:
        for group in dataset(name).classes:
            place = root / folder.format(domain=domain, group=group)
            place.mkdir(parents=True)
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / pattern.format(1))
    return root


def collection(
    root: Path, domains: Sequence[str] = ("a", "b"), classes: Sequence[str] = ("x", "y", "z"),
    unlabelled: Sequence[str] = (),
) -> Path:  # fmt: skip
    """A user's folder: eight images a class, of one colour each; ``unlabelled`` lie in a heap."""
    random = np.random.default_rng(1)
    for domain in domains:
        for label, group in enumerate(classes):
            place = root / domain if domain in unlabelled else root / domain / group
            place.mkdir(parents=True, exist_ok=True)
            for number in range(8):
                pixels = random.integers(0, 100, (20, 20, 3), dtype=np.uint8)
                pixels[..., label] += 120
                Image.fromarray(pixels).save(place / f"{label}_{number}.jpg")
    return root
