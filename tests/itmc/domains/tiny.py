"""A tiny dataset of image files. It loads no torch: processes that are killed use it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from itmc.domains.catalog import DatasetSpec, DomainSpec

TINY = DatasetSpec(
    name="tiny",
    title="Tiny",
    classes=("dog", "cat"),  # the papers' order need not be the alphabet's
    domains={"photo": DomainSpec(letter="P"), "sketch": DomainSpec(letter="S")},
    stored_size=8,
)
COLOURS = {
    "dog/dog_0.png": (10, 10, 250),
    "dog/dog_1.png": (9, 9, 9),
    "cat/cat_0.png": (250, 10, 10),
    "cat/cat_1.png": (10, 250, 10),
}
"""Colour of each image of a tiny domain, in the order in which it is stored."""


def paint(path: Path, colour: tuple[int, ...] = (1, 2, 3)) -> Path:
    """An image file of one colour, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)
    return path


def tiny(root: Path, *domains: str, below: str = "") -> Path:
    """Two images of each class for ``domains`` (all by default); those of sketch are darker.

    ``below``: folders between a domain and its classes; ``{domain}`` stands for its name.
    """
    for domain in domains or TINY.domains:
        for name, colour in COLOURS.items():
            dark = 5 if domain == "sketch" else 0
            inside = root / domain / below.format(domain=domain)
            paint(inside / name, tuple(level - dark for level in colour))
    return root
