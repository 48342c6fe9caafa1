"""Write a domain to the store, shard by shard, so that a preparation killed half-way goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import IO

import numpy as np

from itmc.domains import store
from itmc.domains.contents import Contents, Picture
from itmc.domains.decode import FILTER, BrokenImageError, parallel, refuse_broken
from itmc.domains.progress import Progress
from itmc.domains.store import Kind, Manifest, StoreError
from itmc.files import write_atomic

_SHARD = 256 << 20
"""Bytes of decoded images a file: what is lost, at most, if a preparation is killed."""
_PLAN = "plan.json"


def write(contents: Contents, place: Path, kind: Kind, progress: Progress) -> None:
    """Prepare a domain in ``place``, which afterwards is whole, or as it was before.

    What a killed preparation of the same contents finished is taken over. Raises UsageError where
    images are broken, StoreError where the disk is full.
    """
    work = place.parent / f".preparing-{place.name}"
    try:
        _write(contents, place, work, kind, progress)
    except OSError as error:
        raise StoreError(
            f"the image store {str(place.parent)!r} cannot be written ({error.strerror or error}; "
            f"{_free(place.parent)} free); make room, or set ITMC_STORE to a folder that has it"
        ) from error


def _write(contents: Contents, place: Path, work: Path, kind: Kind, progress: Progress) -> None:
    rows = max(1, _SHARD // (contents.size**2 * 3))
    count = len(contents.labels)
    _take_over(contents, work, kind, rows)
    _check_room(contents, work, kind)
    what = f"preparing {contents.dataset}/{contents.domain}"
    broken: list[str] = []
    for index, name in enumerate(store.shard_names(kind, count, rows)):
        chosen = range(index * rows, min(count, (index + 1) * rows))
        progress.step(what, chosen.start, count, "images")
        if not (work / f"{name}.npz").exists():
            broken += _write_shard(contents, work / name, index, chosen, kind, progress, what)
    if broken:
        shutil.rmtree(work, ignore_errors=True)  # whoever mends an image makes other contents of it
    refuse_broken(broken, f"{contents.dataset}/{contents.domain}")
    progress.step(what, count, count, "images")
    _finish(contents, work, kind, rows)
    _replace(work, place)


def _take_over(contents: Contents, work: Path, kind: Kind, rows: int) -> None:
    """Keep what is finished in ``work`` if it is of the same contents; else begin anew."""
    plan = {
        "format": store.FORMAT, "kind": kind, "rows": rows, "size": contents.size,
        "origin": contents.origin, "versions": _versions(),
    }  # fmt: skip
    path = work / _PLAN
    try:
        if json.loads(path.read_text()) == plan:
            return
    except (OSError, ValueError):
        pass
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_atomic(path, json.dumps(plan).encode())


def _check_room(contents: Contents, work: Path, kind: Kind) -> None:
    """Refuse at once what would not fit; files kept as they are have no size known beforehand."""
    if kind != "arrays":
        return
    needed = len(contents.labels) * contents.size**2 * 3
    needed -= sum(path.stat().st_size for path in work.glob("images-*.npy"))
    free = shutil.disk_usage(work).free
    if needed > free:
        raise StoreError(
            f"{contents.dataset}/{contents.domain} takes {needed / 1e9:.1f} GB decoded, but the "
            f"image store {str(work.parent)!r} has {free / 1e9:.1f} GB free; make room, set "
            "ITMC_STORE to a folder that has it, or keep files as they are (--store jpeg)"
        )


def _write_shard(
    contents: Contents, path: Path, index: int, rows: range, kind: Kind, progress: Progress,
    what: str,
) -> list[str]:  # fmt: skip
    """Write the images of ``rows`` to ``path``, and their digests beside it, which marks the end.

    Returns what is broken; then nothing is kept.
    """
    broken: list[str] = []
    pixels, files, where = [], [], []
    temporary = path.with_name(f"{path.name}.part")

    def read(row: int) -> Picture | BrokenImageError:
        try:
            return contents.picture(row)
        except BrokenImageError as error:
            return error

    try:
        with temporary.open("wb") as file:
            if kind == "arrays":
                _write_header(file, (len(rows), contents.size, contents.size, 3))
            for row, picture in zip(rows, parallel(read, rows), strict=True):
                progress.step(what, row, len(contents.labels), "images")
                if isinstance(picture, BrokenImageError):
                    broken.append(str(picture))
                    continue
                where.append((index, file.tell(), len(picture.content)))
                file.write(picture.pixels.tobytes() if kind == "arrays" else picture.content)
                pixels.append(hashlib.sha256(picture.pixels.tobytes()).digest())
                files.append(hashlib.sha256(picture.content).digest())
            file.flush()
            os.fsync(file.fileno())
        if not broken:
            temporary.replace(path)
            _save_part(path, pixels, files, where)
    finally:
        temporary.unlink(missing_ok=True)
    return broken


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _save_part(
    path: Path, pixels: list[bytes], files: list[bytes], where: list[tuple[int, int, int]]
) -> None:
    part = path.with_name(f"{path.name}.npz")
    temporary = part.with_name(f".{part.name}")
    with temporary.open("wb") as file:
        np.savez(
            file,
            pixels=np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, 32),
            files=np.frombuffer(b"".join(files), np.uint8).reshape(-1, 32),
            where=np.array(where, np.int64),
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(part)


def _finish(contents: Contents, work: Path, kind: Kind, rows: int) -> None:
    """Everything beside the images; the manifest last."""
    names = store.shard_names(kind, len(contents.labels), rows)
    parts = [np.load(work / f"{name}.npz", allow_pickle=False) for name in names]
    pixels = np.concatenate([part["pixels"] for part in parts])
    digests = [row.tobytes().hex() for part in parts for row in part["files"]]
    np.save(work / store.LABELS, contents.labels)
    np.save(work / store.TESTED, contents.tested)
    np.save(work / store.PIXELS, pixels)
    lines = (f"{d}  {name}\n" for d, name in zip(digests, contents.names, strict=True))
    (work / store.FILES).write_text("".join(lines), encoding="utf-8")
    if kind == "jpeg":
        np.save(work / store.WHERE, np.concatenate([part["where"] for part in parts]))
    store.write_manifest(
        work,
        Manifest(
            format=store.FORMAT,
            dataset=contents.dataset,
            domain=contents.domain,
            kind=kind,
            count=len(contents.labels),
            classes=contents.classes,
            size=contents.size,
            filter=FILTER.name.lower(),
            rows_per_file=rows,
            digest=store.content_digest(pixels, contents.labels, contents.tested),
            origin=contents.origin,
            gaps=(*contents.gaps, *contents.check(digests)),
            versions=_versions(),
            bytes=sum(p.stat().st_size for p in work.iterdir() if p.suffix != ".npz"),
        ),
    )
    _sync(work)
    for name in names:
        (work / f"{name}.npz").unlink()
    (work / _PLAN).unlink()


def _sync(folder: Path) -> None:
    """Have all files on the disk before they get their name, should the power fail."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _replace(work: Path, place: Path) -> None:
    """Put ``work`` in the place of what is in ``place``; who has that open can go on reading it."""
    old = place.with_name(f".replaced-{place.name}")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    work.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("pillow", "numpy")}


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"
    except OSError:
        return "an unknown amount"
