"""MNIST, USPS and SVHN in the files that they were published in, which are arrays, not images.

Each reader looks for its files by their official names, below the folder that it is given.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from itmc.domains.layouts import AbsentError
from itmc.errors import UsageError

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]
Format = Literal["mnist", "usps", "svhn"]
_DEPTH = 3
_USPS_SIDE = 16


@dataclass(frozen=True)
class Arrays:
    """A domain: images ``(N, h, w)`` or ``(N, h, w, 3)`` uint8, the test part last."""

    images: Bytes
    labels: Labels
    tested: int
    """How many, at the end, are the official test part."""
    files: tuple[Path, ...]


def read_arrays(kind: Format, root: Path) -> Arrays:
    """The arrays of a dataset published as ``kind``, from its files below ``root``.

    Raises UsageError where a file is missing, damaged, or not what its name says.
    """
    readers: Mapping[str, Callable[[Path], Arrays]] = {
        "mnist": _mnist, "usps": _usps, "svhn": _svhn,
    }  # fmt: skip
    try:
        arrays = readers[kind](root)
    except UsageError:
        raise
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, KeyError) as error:
        raise UsageError(
            f"the files of {kind} in {str(root)!r} cannot be read ({error}); get them again"
        ) from error
    if arrays.labels.min() < 0 or arrays.labels.max() > 9:
        raise UsageError(
            f"{kind} in {str(root)!r} has labels other than 0 to 9; get its files again"
        )
    return arrays


def array_files(kind: Format, root: Path) -> tuple[Path, ...]:
    """The files that ``read_arrays`` would read; UsageError names what is missing."""
    if kind == "mnist":
        return tuple(_find(root, (name, name.removesuffix(".gz"))) for name in _MNIST)
    if kind == "usps":
        return (
            _find(root, ("usps.bz2", "zip.train.gz")),
            _find(root, ("usps.t.bz2", "zip.test.gz")),
        )
    return tuple(_find(root, (f"{part}_32x32.mat",)) for part in ("train", "test"))


_MNIST = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _mnist(root: Path) -> Arrays:
    """LeCun's IDX files."""
    files = array_files("mnist", root)
    images, labels, test_images, test_labels = (_idx(path) for path in files)
    return _joined(images, labels, test_images, test_labels, files)


def _idx(path: Path) -> Bytes:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":  # uint8, as all of MNIST is
        raise ValueError(f"{path.name} is no IDX file of bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], ">u4").astype(np.int64)
    if len(content) - start != shape.prod():
        raise ValueError(f"{path.name} has {len(content) - start} values, not {shape.prod()}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _usps(root: Path) -> Arrays:
    """LIBSVM's files, or those of the book Elements of Statistical Learning.

    Values from -1 to 1 become 0 to 255 as torchvision has it; the two sources differ by one level
    here and there.
    """
    files = array_files("usps", root)
    parts = [_usps_part(path) for path in files]
    return _joined(*parts[0], *parts[1], files)


def _usps_part(path: Path) -> tuple[Bytes, Labels]:
    packed = path.read_bytes()
    libsvm = path.suffix == ".bz2"
    text = (bz2.decompress if libsvm else gzip.decompress)(packed).decode("ascii")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if libsvm:  # labels from 1 on; values as <index>:<value>
        labels = np.array([int(float(row[0])) - 1 for row in rows], np.int64)
        values = np.array([[float(cell.partition(":")[2]) for cell in row[1:]] for row in rows])
    else:
        labels = np.array([int(float(row[0])) for row in rows], np.int64)
        values = np.array([row[1:] for row in rows], np.float64)
    if values.shape[1:] != (_USPS_SIDE**2,) or not (np.abs(values) <= 1).all():
        raise ValueError(f"{path.name} has no rows of 256 values from -1 to 1")
    images = ((values + 1) / 2 * 255).astype(np.uint8)
    return images.reshape(-1, _USPS_SIDE, _USPS_SIDE), labels


def _svhn(root: Path) -> Arrays:
    """The cropped digits, MATLAB files: images (32, 32, 3, N), labels 1 to 10, which is 0."""
    from scipy.io import loadmat  # slow to import

    files = array_files("svhn", root)
    parts: list[Bytes] = []
    for path in files:
        try:
            content = loadmat(path)
        except Exception as error:  # its parser raises whatever it stumbles over
            raise ValueError(f"{path.name}: {error}") from error
        images, labels = content["X"], content["y"].ravel().astype(np.int64)
        if images.dtype != np.uint8 or images.shape[:3] != (32, 32, 3) or images.ndim != 4:
            raise ValueError(f"{path.name} has no colour images of 32 x 32 pixels")
        parts += [
            np.ascontiguousarray(images.transpose(3, 0, 1, 2)),
            np.where(labels == 10, 0, labels),
        ]
    return _joined(parts[0], parts[1], parts[2], parts[3], files)


def _joined(
    images: Bytes, labels: NDArray[np.integer], test_images: Bytes,
    test_labels: NDArray[np.integer], files: tuple[Path, ...],
) -> Arrays:  # fmt: skip
    for part, classes in ((images, labels), (test_images, test_labels)):
        if not len(part) or part.ndim < 3 or classes.shape != part.shape[:1]:
            raise ValueError(f"images {part.shape} do not go with labels {classes.shape}")
    return Arrays(
        np.concatenate([images, test_images]),
        np.concatenate([labels, test_labels]).astype(np.int64),
        len(test_images),
        files,
    )


def _find(root: Path, names: tuple[str, ...]) -> Path:
    for depth in range(_DEPTH + 1):
        for name in names:
            found = sorted(root.glob("/".join(["*"] * depth + [name])))
            if found:
                return found[0]
    raise AbsentError(
        f"{str(root)!r} has no file {' or '.join(names)}, at most {_DEPTH} folders deep"
    )
