"""Two domains of synthetic images for measuring: as JPEG files, and prepared in a store.

The store is made of the files by the code that prepares every dataset, so both ways to read them
give the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from itmc.domains.own import OwnDataset, own_dataset
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from itmc.domains.store import Domain

CLASSES = 31
IMAGES = 256
"""Images of each domain."""
# At an input of 224 pixels the files have Office-31's 300 (amazon), and 256 are stored.
_FILE_SIDE, _STORED_SIDE = 300 / 224, 256 / 224
_QUALITY = 90
# A colour's deviation around 128, and how much of it all three channels share.
_CONTRAST, _GREY = 50.0, 0.9


@dataclass(frozen=True)
class Domains:
    """The files ``<domain>/<class>/*.jpg`` below ``files``, and the same images prepared."""

    files: Path
    source: Domain
    target: Domain
    stored_size: int
    """Side of the prepared images in pixels."""
    file_bytes: float
    """Of a JPEG file, on average."""


def make_domains(folder: Path, image_size: int) -> Domains:
    """Draw and prepare ``source`` and ``target`` in ``folder``, for inputs of ``image_size``."""
    files, stored = folder / "files", round(image_size * _STORED_SIDE)
    random = np.random.default_rng(0)
    for name in ("source", "target"):
        for index in range(IMAGES):
            place = files / name / f"class_{index % CLASSES:02}"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(_picture(random, round(image_size * _FILE_SIDE)))
            picture.save(place / f"{index:04}.jpg", quality=_QUALITY)
    spec = own_dataset(OwnDataset(path=files, stored_size=stored))
    opened = prepare(spec, ["source", "target"], folder / "store", Silent(), origin=files)
    sizes = [path.stat().st_size for path in files.rglob("*.jpg")]
    return Domains(files, opened["source"], opened["target"], stored, float(np.mean(sizes)))


def _picture(random: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """``(side, side, 3)`` RGB with the spectrum of natural images: amplitude falls as 1 / f."""
    grey, *colours = (_pink(random, side) for _ in range(4))
    channels = [_GREY * grey + (1 - _GREY) * colour for colour in colours]
    levels = 128 + _CONTRAST * np.stack(channels, axis=2)
    pixels: NDArray[np.uint8] = levels.clip(0, 255).astype(np.uint8)
    return pixels


def _pink(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Noise of amplitude 1 / f, of mean 0 and deviation 1, ``(side, side)``."""
    spectrum = np.fft.rfft2(random.standard_normal((side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency, s=(side, side))
    scaled: NDArray[np.float64] = noise / noise.std()
    return scaled
