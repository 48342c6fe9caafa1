"""The store of prepared domains: square uint8 images decoded once, with a manifest.

``<store>/<dataset>/<domain>/`` holds ``manifest.json``, ``labels.npy`` (class of each image),
``tested.npy`` (whether it is in an official test part), ``pixels.npy`` (sha256 of each decoded
image), ``files.txt`` (sha256 and name of the file each comes from), and the images:
``images-*.npy``, or ``encoded-*.bin`` with ``where.npy``. A folder gets its name when all of that
is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from itmc.config import Frozen, digest
from itmc.domains.images import Encoded, Images, Mapped, load_array
from itmc.errors import UsageError

FORMAT = 2
MANIFEST, LABELS, TESTED, PIXELS = "manifest.json", "labels.npy", "tested.npy", "pixels.npy"
FILES, WHERE = "files.txt", "where.npy"
Kind = Literal["arrays", "jpeg"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Decoded to arrays, or kept as the files that they came in and decoded whenever they are read."""


class StoreError(UsageError):
    """The store is full, or cannot be written."""


@dataclass(frozen=True)
class Domain:
    """A prepared domain."""

    name: str
    images: Images
    """``(N, S, S, 3)`` uint8 RGB."""
    labels: NDArray[np.int64]
    """``(N,)``: index of the class; all -1 where nobody knows them."""
    digest: str
    """Of all images and labels: equal digests are equal data, wherever it was prepared."""
    trained: NDArray[np.int64] | None = None
    """Rows to train on, where there is an official test part; ``None``: all."""
    tested: NDArray[np.int64] | None = None
    """Rows to judge on, where there is an official test part; ``None``: all."""
    gaps: tuple[str, ...] = ()
    """How it differs from the official data."""

    @property
    def labelled(self) -> bool:
        """Whether the classes are known."""
        return bool((self.labels >= 0).all())


class Manifest(Frozen):
    """What a prepared domain is."""

    format: int
    dataset: str
    domain: str
    kind: Kind
    count: int
    classes: tuple[str, ...]
    size: int
    """Side of an image in pixels."""
    filter: str
    """How it was brought to that size."""
    rows_per_file: int
    digest: str
    origin: str
    """Identity of what it was prepared from."""
    gaps: tuple[str, ...]
    """How it differs from the official data."""
    versions: dict[str, str]
    """Of the libraries that decoded it."""
    bytes: int
    """On disk."""


def default_store() -> Path:
    """Where prepared domains live: ``$ITMC_STORE``, or the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ITMC_STORE") or cache / "itmc-bench")


def content_digest(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], tested: NDArray[np.bool_]
) -> str:
    """Sha256 of a domain's content: sha256 of each image ``(N, 32)``, classes, and test part."""
    total = hashlib.sha256(pixels.tobytes())
    total.update(labels.astype("<i8").tobytes())
    if tested.any():
        total.update(np.packbits(tested).tobytes())
    return total.hexdigest()


def is_prepared(place: Path) -> bool:
    """Whether a domain is there, of whatever version and state."""
    return (place / MANIFEST).exists()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest`` with its own checksum."""
    content: dict[str, Any] = manifest.model_dump(mode="json")
    content["checksum"] = digest(content)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(place: Path) -> Manifest:
    """The manifest of a prepared domain; UsageError if it is of another version or was altered."""
    try:
        content: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise UsageError(
                f"the prepared domain {str(place)!r} is of another version of this program (format "
                f"{content.get('format')}, not {FORMAT}); {_repair(place)}"
            )
        if content.pop("checksum", None) != digest(content):
            raise ValueError(f"{MANIFEST} was altered")
        return Manifest.model_validate(content)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise damaged(place, error) from error


def open_domain(place: Path) -> Domain:
    """Open a prepared domain; nothing is decoded. UsageError names what is wrong with it."""
    manifest = read_manifest(place)
    try:
        labels = _column(place / LABELS, np.int64, (manifest.count,))
        tested = _column(place / TESTED, np.bool_, (manifest.count,))
        pixels = pixel_digests(place, manifest)
        if content_digest(pixels, labels, tested) != manifest.digest:
            raise ValueError("its labels or digests are not those of the manifest")
        images = _images(place, manifest)
    except (OSError, ValueError) as error:
        raise damaged(place, error) from error
    has_test_part = bool(tested.any())
    return Domain(
        manifest.domain,
        images,
        labels,
        manifest.digest,
        np.flatnonzero(~tested) if has_test_part else None,
        np.flatnonzero(tested) if has_test_part else None,
        manifest.gaps,
    )


def pixel_digests(place: Path, manifest: Manifest) -> NDArray[np.uint8]:
    """Sha256 of each decoded image, ``(N, 32)``; OSError or ValueError if they are damaged."""
    digests: NDArray[np.uint8] = _column(place / PIXELS, np.uint8, (manifest.count, 32))
    return digests


def file_names(place: Path, manifest: Manifest) -> list[str]:
    """The name of the file that each image comes from; OSError or ValueError if damaged."""
    return [name for _, name in files_of(place, manifest)]


def files_of(place: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """Sha256 (hex) and name of the file that each image comes from; raises as ``file_names``."""
    lines = (place / FILES).read_text(encoding="utf-8").split("\n")
    files = [(digest, name) for digest, _, name in (x.partition("  ") for x in lines if x)]
    if len(files) != manifest.count:
        raise ValueError(f"{FILES} names {len(files)} images, not {manifest.count}")
    return files


def shard_names(kind: Kind, count: int, rows_per_file: int) -> list[str]:
    """The files of ``count`` images."""
    pattern = "images-{:05d}.npy" if kind == "arrays" else "encoded-{:05d}.bin"
    return [pattern.format(index) for index in range(-(-count // rows_per_file))]


def damaged(place: Path, error: BaseException | str) -> UsageError:
    """The error of a prepared domain that is not as it was written."""
    reason = " ".join(str(error).split())
    return UsageError(f"the prepared domain {str(place)!r} is damaged ({reason}); {_repair(place)}")


def _repair(place: Path) -> str:
    return "delete that folder and prepare the dataset again (python -m suites.data prepare ...)"


def _column(path: Path, kind: Any, shape: Sequence[int]) -> Any:
    column = load_array(path)
    if column.dtype != kind or column.shape != tuple(shape):
        raise ValueError(f"{path.name} holds {column.dtype} {column.shape}")
    return column


def _images(place: Path, manifest: Manifest) -> Images:
    names = shard_names(manifest.kind, manifest.count, manifest.rows_per_file)
    files = [place / name for name in names]
    if manifest.kind == "arrays":
        return Mapped(files, manifest.rows_per_file, manifest.count, manifest.size)
    where = _column(place / WHERE, np.int64, (manifest.count, 3))
    names = file_names(place, manifest)
    return Encoded(files, where, manifest.size, lambda row: names[row])
