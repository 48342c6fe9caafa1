"""Check that prepared domains are still what was written, image by image."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np

from itmc.domains import store
from itmc.domains.decode import BrokenImageError
from itmc.domains.images import Encoded, Images
from itmc.domains.progress import Progress
from itmc.domains.store import Manifest, open_domain, read_manifest
from itmc.errors import UsageError

_BATCH = 256


def verify(place: Path, progress: Progress) -> list[str]:
    """What is wrong with the prepared domain at ``place``, a line each; nothing if all is well.

    Every image is read, and decoded if it is kept as a file, and compared with the sha256 that the
    manifest vouches for.
    """
    try:
        manifest = read_manifest(place)
        domain = open_domain(place)
        expected = store.pixel_digests(place, manifest)
        files = store.files_of(place, manifest)
    except UsageError as error:
        return [str(error)]
    except (OSError, ValueError) as error:
        return [str(store.damaged(place, error))]
    what = f"verifying {manifest.dataset}/{manifest.domain}"
    wrong = []
    for start in range(0, manifest.count, _BATCH):
        progress.step(what, start, manifest.count, "images")
        rows = np.arange(start, min(start + _BATCH, manifest.count))
        found = _digests(domain.images, rows)
        wrong += [
            _fault(domain.images, row, *files[row], manifest)
            for row, digest in zip(rows.tolist(), found, strict=True)
            if digest != expected[row].tobytes()
        ]
    progress.step(what, manifest.count, manifest.count, "images")
    return [str(store.damaged(place, fault)) for fault in wrong]


def _fault(images: Images, row: int, digest: str, name: str, manifest: Manifest) -> str:
    """What is the matter with an image that is not as it was prepared.

    ``digest``: sha256 of its file. A file that is as it was may still be decoded otherwise.
    """
    if isinstance(images, Encoded) and hashlib.sha256(images.content(row)).hexdigest() == digest:
        then, now = manifest.versions["pillow"], metadata.version("pillow")
        return f"image {name!r} decodes otherwise with Pillow {now} than with {then} back then"
    return f"image {name!r} was altered"


def _digests(images: Images, rows: np.ndarray) -> list[bytes | None]:
    """Sha256 of the images of ``rows``; ``None`` for one that cannot be decoded any more."""
    try:
        return [hashlib.sha256(image.tobytes()).digest() for image in images[rows]]
    except BrokenImageError:
        if len(rows) == 1:
            return [None]
        return [digest for row in rows for digest in _digests(images, np.array([row]))]
