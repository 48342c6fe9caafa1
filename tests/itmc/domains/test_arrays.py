"""MNIST, USPS and SVHN as they were published: read rightly, and refused where damaged."""

from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from itmc.domains.arrays import Format, array_files, read_arrays
from itmc.domains.layouts import AbsentError
from itmc.errors import UsageError
from tests.shared import at_hand

RANDOM = np.random.default_rng(0)
PARTS = {
    "train-images-idx3-ubyte.gz": RANDOM.integers(0, 256, (5, 4, 3), np.uint8),
    "train-labels-idx1-ubyte.gz": np.array([3, 1, 4, 1, 5], np.uint8),
    "t10k-images-idx3-ubyte.gz": RANDOM.integers(0, 256, (2, 4, 3), np.uint8),
    "t10k-labels-idx1-ubyte.gz": np.array([9, 0], np.uint8),
}


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(
        array.tobytes()
    )  # fmt: skip


def mnist(root: Path, packed: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, array in PARTS.items():
        content = gzip.compress(idx(array)) if packed else idx(array)
        (root / (name if packed else name.removesuffix(".gz"))).write_bytes(content)
    return root


def svhn(root: Path, labels: list[int], **changes: object) -> Path:
    for part, count in (("train", len(labels) - 1), ("test", 1)):
        images = np.arange(count * 3072).astype(np.uint8).reshape(count, 32, 32, 3)
        chosen = labels[:-1] if part == "train" else labels[-1:]
        content = {"X": images.transpose(1, 2, 3, 0), "y": np.array(chosen, np.uint8)[:, None]}
        savemat(root / f"{part}_32x32.mat", content | changes)
    return root


def usps(root: Path, form: str, levels: NDArray[np.int64], labels: list[int]) -> Path:
    """Rows of 256 values from 0 to 2000, which stand for -1 to 1; the last row is for testing."""
    lines = []
    for label, row in zip(labels, levels, strict=True):
        values = [f"{level / 1000 - 1:.3f}" for level in row]
        if form == "bz2":
            cells = [f"{index}:{value}" for index, value in enumerate(values, start=1)]
            lines.append(f"{label + 1} {' '.join(cells)} \n")
        else:
            lines.append(f"{label}.0000 {' '.join(values)} \n")
    names = ("usps.bz2", "usps.t.bz2") if form == "bz2" else ("zip.train.gz", "zip.test.gz")
    pack = bz2.compress if form == "bz2" else gzip.compress
    root.mkdir(exist_ok=True)
    for name, chosen in zip(names, (lines[:-1], lines[-1:]), strict=True):
        (root / name).write_bytes(pack("".join(chosen).encode()))
    return root


LEVELS = RANDOM.integers(0, 2001, (4, 256))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_mnist_is_read_with_its_test_part_last(packed: bool, below: str, tmp_path: Path) -> None:
    mnist(tmp_path / below, packed)
    found = read_arrays("mnist", tmp_path)
    images = [PARTS[f"{part}-images-idx3-ubyte.gz"] for part in ("train", "t10k")]
    assert np.array_equal(found.images, np.concatenate(images)) and found.tested == 2
    assert found.labels.tolist() == [3, 1, 4, 1, 5, 9, 0] and found.labels.dtype == np.int64
    assert found.files == array_files("mnist", tmp_path) and len(found.files) == 4


@pytest.mark.parametrize("kind", ["mnist", "usps", "svhn"])
def test_a_missing_file_is_named(kind: Format, tmp_path: Path) -> None:
    names = {"mnist": "train-images-idx3-ubyte.gz or train-images-idx3-ubyte",
             "usps": "usps.bz2 or zip.train.gz", "svhn": "train_32x32.mat"}  # fmt: skip
    with pytest.raises(AbsentError, match=f"has no file {names[kind]}, at most 3 folders deep"):
        read_arrays(kind, tmp_path)


def test_one_missing_file_of_four_is_named(tmp_path: Path) -> None:
    (mnist(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(AbsentError, match=r"t10k-labels-idx1-ubyte\.gz"):
        read_arrays("mnist", tmp_path)


GOOD = idx(PARTS["train-labels-idx1-ubyte.gz"])


def _packed(content: bytes) -> bytes:
    """Without the time of day: these stand in the names of tests, alike in each process."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_packed(b"\0\0\x0d\1" + GOOD[4:]), "train-labels-idx1-ubyte.gz is no IDX file"),
        (_packed(GOOD + b"\0"), "train-labels-idx1-ubyte.gz has 6 values, not 5"),
        (_packed(GOOD[:-2]), "has 3 values, not 5"),
        (_packed(GOOD[:6]), "cannot be read"),
        (_packed(b""), "is no IDX file"),
        (_packed(GOOD)[:-9], "cannot be read"),
        (GOOD, "[Nn]ot a gzipped file"),
        (b"", "cannot be read"),
        (_packed(idx(np.array([3, 1, 4, 1], np.uint8))), "do not go with labels"),
        (_packed(idx(np.array([3, 1, 4, 1, 10], np.uint8))), "labels other than 0 to 9"),
        (_packed(idx(PARTS["train-images-idx3-ubyte.gz"])), "do not go with labels"),
    ],
)
def test_a_damaged_mnist_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (mnist(tmp_path) / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(UsageError, match=f"mnist.*{reason}.*get"):
        read_arrays("mnist", tmp_path)


def test_an_image_that_moved_from_one_part_to_the_other_is_noticed(tmp_path: Path) -> None:
    """The sum of all is still right then, but labels and images are not of one another."""
    mnist(tmp_path)
    for name, part in (("train-images", slice(0, 4)), ("t10k-labels", slice(0, 1))):
        (path,) = tmp_path.glob(f"{name}*")
        path.write_bytes(gzip.compress(idx(PARTS[path.name][part])))
    with pytest.raises(UsageError, match="do not go with labels"):
        read_arrays("mnist", tmp_path)


def test_files_without_images_are_refused(tmp_path: Path) -> None:
    for name, array in PARTS.items():
        (tmp_path / name).write_bytes(gzip.compress(idx(array[:0])))
    with pytest.raises(UsageError, match="mnist"):
        read_arrays("mnist", tmp_path)


def test_both_forms_of_usps_are_the_same(tmp_path: Path) -> None:
    labels = [0, 9, 5, 1]
    one, other = (
        read_arrays("usps", usps(tmp_path / form, form, LEVELS, labels)) for form in ("bz2", "gz")
    )
    assert np.array_equal(one.images, other.images) and one.images.shape == (4, 16, 16)
    assert one.labels.tolist() == other.labels.tolist() == labels
    assert one.tested == other.tested == 1


def test_usps_goes_from_0_to_255(tmp_path: Path) -> None:
    levels = np.zeros((2, 256), np.int64)
    levels[0, :3] = 2000, 1000, 4
    found = read_arrays("usps", usps(tmp_path, "gz", levels, [1, 2])).images
    assert found[0, 0, :4].tolist() == [255, 127, 0, 0]


@pytest.mark.parametrize(
    "text",
    ["", "6.0 0.5 0.5\n", "6.0 " + "1.5 " * 256, "6.0 " + "nan " * 256, "inf " + "0 " * 256,
     "six " + "0 " * 256, "6.0 " + "0 " * 256 + "\n6.0 0 0\n", "caf\xe9"],
)  # fmt: skip
def test_a_damaged_usps_file_is_refused(text: str, tmp_path: Path) -> None:
    usps(tmp_path, "gz", LEVELS, [0, 1, 2, 3])
    (tmp_path / "zip.train.gz").write_bytes(gzip.compress(text.encode("latin-1")))
    with pytest.raises(UsageError, match=r"the files of usps in '.*' cannot be read"):
        read_arrays("usps", tmp_path)


def test_a_cut_off_usps_file_is_refused(tmp_path: Path) -> None:
    usps(tmp_path, "bz2", LEVELS, [0, 1, 2, 3])
    (tmp_path / "usps.bz2").write_bytes((tmp_path / "usps.bz2").read_bytes()[:-20])
    with pytest.raises(UsageError, match="usps"):
        read_arrays("usps", tmp_path)


def test_a_usps_label_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="labels other than 0 to 9"):
        read_arrays("usps", usps(tmp_path, "gz", LEVELS, [0, 1, 2, 10]))


def test_svhn_has_its_zeros_as_class_0_and_its_axes_in_order(tmp_path: Path) -> None:
    found = read_arrays("svhn", svhn(tmp_path, [10, 1, 9]))
    assert found.labels.tolist() == [0, 1, 9] and found.tested == 1
    expected = np.arange(2 * 3072).astype(np.uint8).reshape(2, 32, 32, 3)
    assert np.array_equal(found.images[:2], expected) and found.images.shape == (3, 32, 32, 3)


@pytest.mark.parametrize("label", [11, 20])
def test_an_svhn_label_out_of_range_is_refused(label: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="labels other than 0 to 9"):
        read_arrays("svhn", svhn(tmp_path, [10, label, 9]))


@pytest.mark.parametrize("images", [np.zeros((32, 32, 3, 2)), np.zeros((32, 32, 2), np.uint8)])
def test_svhn_images_of_another_kind_are_refused(images: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no colour images of 32 x 32 pixels"):
        read_arrays("svhn", svhn(tmp_path, [1, 2, 3], X=images))


@pytest.mark.parametrize("length", [0, 1, 100, 150, 400])
def test_a_cut_off_svhn_file_is_refused(length: int, tmp_path: Path) -> None:
    path = svhn(tmp_path, [1, 2, 3]) / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UsageError, match=r"the files of svhn in '.*' cannot be read"):
        read_arrays("svhn", tmp_path)


@pytest.fixture
def published() -> Path:
    """The real files; without them tests are skipped, or fail where they are required."""
    return at_hand("data/digits")


@pytest.mark.shared
def test_the_published_mnist_has_the_mean_and_deviation_that_everybody_uses(
    published: Path,
) -> None:
    found = read_arrays("mnist", published)
    assert (found.images.shape, found.tested) == ((70000, 28, 28), 10000)
    trained = found.images[:60000] / np.float32(255)
    assert abs(trained.mean() - 0.1307) < 1e-4 and abs(trained.std() - 0.3081) < 1e-4
    assert np.bincount(found.labels[-10000:]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


@pytest.mark.shared
def test_the_published_usps_is_what_others_made_of_it(published: Path) -> None:
    found = read_arrays("usps", published)
    assert (found.images.shape, found.tested) == ((9298, 16, 16), 2007)
    with np.load(published / "usps/usps.npz") as expected:
        for key, mine in (("x", found.images), ("y", found.labels)):
            assert np.array_equal(mine[:7291], expected[f"{key}_train"])
            assert np.array_equal(mine[7291:], expected[f"{key}_test"])
