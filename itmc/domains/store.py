"""Domains decoded once: square uint8 images in a memory-mapped file, with a manifest.

``<store>/<dataset>/<domain>-<key>/`` holds ``images.npy``, ``labels.npy`` and ``manifest.json``,
which is written last. The key covers what the images are made from, so a changed folder is
prepared anew and a finished one is never decoded twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from itmc.config import digest
from itmc.domains import digits
from itmc.domains.catalog import DatasetSpec
from itmc.errors import UsageError

FORMAT = 1
FILTER = Image.Resampling.BILINEAR
_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})


@dataclass(frozen=True)
class Domain:
    """A prepared domain: images ``(N, S, S, 3)`` uint8 (memory-mapped), labels ``(N,)`` int64."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    digest: str


def default_store() -> Path:
    """Where prepared domains live: ``$ITMC_STORE``, or the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ITMC_STORE") or cache / "itmc-bench")


def prepare(
    spec: DatasetSpec,
    domain: str,
    data_root: Path | None,
    store: Path,
    say: Callable[[str], None],
) -> Domain:
    """Open ``domain`` from the store, decoding it first where it is not there yet.

    ``data_root`` is the folder with the user's copy (embedded datasets need none); ``say`` gets
    one line about what takes time. Raises UsageError for missing, empty or broken data.
    """
    files: list[tuple[Path, int]] = []
    if spec.kind == "embedded":
        key = f"v{digits.VERSION}"
    else:
        folder = _domain_folder(spec, domain, data_root)
        files = _list_images(spec, domain, folder)
        key = _key(spec, folder, files)
        if len(files) != spec.counts[domain]:
            say(
                f"warning: {spec.name}/{domain} has {len(files)} images, "
                f"{spec.counts[domain]} are official"
            )
    place = store / spec.name / f"{domain}-{key}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f".{place.name}.lock")):
            if not (place / "manifest.json").exists():
                say(f"preparing {spec.name}/{domain} ...")
                _write(spec, domain, files, place)
                _compare_with_published(spec, domain, place, say)
    except OSError as error:
        raise UsageError(
            f"the image store {str(store)!r} cannot be written ({error.strerror or error}); "
            "set ITMC_STORE to a folder that can"
        ) from error
    return _open(domain, place)


def _compare_with_published(
    spec: DatasetSpec, domain: str, place: Path, say: Callable[[str], None]
) -> None:
    """Embedded images are pinned to the byte; say so where these libraries draw others."""
    if spec.kind == "embedded" and _open(domain, place).digest != digits.DIGESTS[domain]:
        say(
            f"warning: {spec.name}/{domain} differs from the published images; install the "
            "versions of constraints.txt to compare with published results"
        )


def _open(domain: str, place: Path) -> Domain:
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        images = np.load(place / "images.npy", mmap_mode="r")
        labels = np.load(place / "labels.npy")
        if manifest["format"] != FORMAT or len(images) != len(labels):
            raise ValueError("the manifest does not describe these arrays")
        return Domain(domain, images, labels, manifest["digest"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"the prepared domain {str(place)!r} is damaged ({error}); delete that folder"
        ) from error


def _write(spec: DatasetSpec, domain: str, files: list[tuple[Path, int]], place: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".preparing-"))
    try:
        if spec.kind == "embedded":
            images, labels = digits.render(domain)
            np.save(temporary / "images.npy", images)
        else:
            labels = np.array([label for _, label in files], dtype=np.int64)
            images = _decode_all([path for path, _ in files], spec.stored_size, temporary)
        np.save(temporary / "labels.npy", labels)
        manifest = {
            "format": FORMAT,
            "dataset": spec.name,
            "domain": domain,
            "count": len(labels),
            "classes": list(spec.classes),
            "size": spec.stored_size,
            "filter": FILTER.name.lower(),
            "digest": _digest(images, labels),
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        shutil.rmtree(place, ignore_errors=True)  # what a killed preparation left, if anything
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decode_all(paths: list[Path], size: int, folder: Path) -> np.ndarray:
    images = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.uint8, shape=(len(paths), size, size, 3)
    )

    def fill(index: int) -> None:
        images[index] = decode(paths[index], size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter lock
        for _ in pool.map(fill, range(len(paths))):
            pass
    images.flush()
    return images


def decode(path: Path, size: int) -> np.ndarray:
    """One image as ``(size, size, 3)`` uint8 RGB; UsageError names the file if it is broken."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((size, size), FILTER))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"image {str(path)!r} cannot be decoded ({error}); replace or remove it"
        ) from error


def _domain_folder(spec: DatasetSpec, domain: str, data_root: Path | None) -> Path:
    if data_root is None:
        raise UsageError(f"{spec.name} needs --data-root, the folder with {_layout(spec)}")
    if not data_root.is_dir():
        raise UsageError(f"data root {str(data_root)!r} does not exist or is no folder")
    for folder in (data_root / domain / "images", data_root / domain):
        if folder.is_dir():
            return folder
    raise UsageError(
        f"data root {str(data_root)!r} has no domain folder {domain!r}; expected {_layout(spec)}"
    )


def _layout(spec: DatasetSpec) -> str:
    return (
        f"{{{','.join(spec.domains)}}}/images/<class>/* or {{{','.join(spec.domains)}}}/<class>/*"
    )


def _list_images(spec: DatasetSpec, domain: str, folder: Path) -> list[tuple[Path, int]]:
    files = [
        (path, label)
        for label, name in enumerate(spec.classes)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in _ENDINGS
    ]
    if not files:
        raise UsageError(
            f"domain folder {str(folder)!r} has no images; expected {folder.name}/<class>/*.jpg "
            f"for the {len(spec.classes)} classes of {spec.name}"
        )
    found = {label for _, label in files}
    if missing := [name for label, name in enumerate(spec.classes) if label not in found]:
        raise UsageError(
            f"{spec.name}/{domain} in {str(folder)!r} lacks {len(missing)} of "
            f"{len(spec.classes)} classes: {', '.join(missing)}"
        )
    return files


def _key(spec: DatasetSpec, folder: Path, files: list[tuple[Path, int]]) -> str:
    """Identity of a folder of images from names, sizes and times: cheap, and stale never."""
    listing = []
    for path, label in files:
        status = path.stat()
        name = path.relative_to(folder).as_posix()
        listing.append([name, label, status.st_size, status.st_mtime_ns])
    return digest([FORMAT, spec.stored_size, str(folder.resolve()), listing])[:16]


def _digest(images: np.ndarray, labels: np.ndarray) -> str:
    """Sha256 of the decoded content, the same wherever and whenever it was prepared."""
    total = hashlib.sha256()
    for start in range(0, len(images), 256):
        total.update(np.ascontiguousarray(images[start : start + 256]).tobytes())
    total.update(labels.astype("<i8").tobytes())
    return total.hexdigest()
