"""Stored images by row: both kinds are alike, and neither fills the memory."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from itmc.domains.decode import BrokenImageError
from itmc.domains.images import Encoded, Images, Mapped, load_array

COUNT, SIDE, ROWS = 7, 4, 3
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)


def mapped(folder: Path) -> Mapped:
    files = []
    for start in range(0, COUNT, ROWS):
        files.append(folder / f"{start}.npy")
        np.save(files[-1], PIXELS[start : start + ROWS])
    return Mapped(files, ROWS, COUNT, SIDE)


def encoded(folder: Path) -> Encoded:
    where, contents = [], [b"", b"", b""]
    for row in range(COUNT):
        out = io.BytesIO()
        Image.fromarray(PIXELS[row]).save(out, "PNG")
        shard = row // ROWS
        where.append((shard, len(contents[shard]), len(out.getvalue())))
        contents[shard] += out.getvalue()
    files = [folder / f"{shard}.bin" for shard in range(3)]
    for path, content in zip(files, contents, strict=True):
        path.write_bytes(content)
    return Encoded(files, np.array(where), SIDE, lambda row: f"photo/{row}.png")


@pytest.fixture(params=[mapped, encoded], scope="module")
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Images:
    found: Images = request.param(tmp_path_factory.mktemp("shards"))
    return found


def test_the_shape_is_that_of_an_array(images: Images) -> None:
    assert images.shape == PIXELS.shape and len(images) == COUNT


@pytest.mark.parametrize(
    "rows",
    [0, 6, -1, -7, np.int64(4), slice(None), slice(2, 5), slice(None, None, -2), slice(5, 2),
     np.array([6, 0, 3, 3]), np.array([-1, 2]), np.array([], np.int64), np.arange(COUNT) > 4],
)  # fmt: skip
def test_rows_are_chosen_as_of_an_array(images: Images, rows: int) -> None:
    found = images[rows]
    assert found.dtype == np.uint8 and np.array_equal(found, PIXELS[rows])


@given(st.lists(st.integers(-COUNT, COUNT - 1), max_size=9))
def test_any_rows_are_chosen_as_of_an_array(images: Images, rows: list[int]) -> None:
    chosen = np.array(rows, np.int64)
    assert np.array_equal(images[chosen], PIXELS[chosen])


@pytest.mark.parametrize("row", [COUNT, -COUNT - 1])
def test_a_row_that_is_not_there_is_an_index_error(images: Images, row: int) -> None:
    with pytest.raises(IndexError):
        images[row]
    with pytest.raises(IndexError):
        images[np.array([0, row])]


def test_what_is_returned_is_a_copy(images: Images) -> None:
    images[2:3][:] = 0
    assert np.array_equal(images[2:3], PIXELS[2:3])


def test_all_become_one_array_or_come_one_by_one(images: Images) -> None:
    assert np.array_equal(np.asarray(images), PIXELS)
    assert all(np.array_equal(one, other) for one, other in zip(images, PIXELS, strict=True))


def test_a_mapped_file_of_another_shape_or_kind_is_refused(tmp_path: Path) -> None:
    mapped(tmp_path)
    files = [tmp_path / f"{start}.npy" for start in range(0, COUNT, ROWS)]
    with pytest.raises(ValueError, match=r"6\.npy holds uint8 \(1, 4, 4, 3\)"):
        Mapped(files, ROWS, COUNT + 1, SIDE)
    np.save(files[0], PIXELS[:ROWS].astype(np.float32))
    with pytest.raises(ValueError, match=r"0\.npy holds float32"):
        Mapped(files, ROWS, COUNT, SIDE)


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("change", [-1, 1])
def test_an_encoded_file_of_another_length_is_refused(
    shard: int, change: int, tmp_path: Path
) -> None:
    found = encoded(tmp_path)
    path = tmp_path / f"{shard}.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] if change < 0 else content + b"\0")
    with pytest.raises(ValueError, match=rf"{shard}\.bin is {len(content) + change} bytes long"):
        Encoded([tmp_path / f"{n}.bin" for n in range(3)], found._where, SIDE, str)


@pytest.mark.parametrize("where", [(3, 0, 1), (0, -1, 1), (-1, 0, 1)])
def test_images_that_lie_nowhere_are_refused(where: tuple[int, ...], tmp_path: Path) -> None:
    found = encoded(tmp_path)
    found._where[4] = where
    with pytest.raises(ValueError, match="not known where"):
        Encoded([tmp_path / f"{n}.bin" for n in range(3)], found._where, SIDE, str)


def test_an_encoded_image_is_kept_as_it_came_and_named_if_it_is_broken(tmp_path: Path) -> None:
    found = encoded(tmp_path)
    assert Image.open(io.BytesIO(found.content(4))).size == (SIDE, SIDE)
    with (tmp_path / "1.bin").open("r+b") as file:
        file.write(b"\0" * 8)
    with pytest.raises(BrokenImageError, match=r"'photo/3\.png'"):
        found[:]


def test_a_damaged_array_is_a_value_error_whatever_byte_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(4))
    content = path.read_bytes()
    refused = 0
    for where in range(len(content) - 32):  # before the numbers themselves
        for value in (0, 39, 40, 48, 80, 255):
            path.write_bytes(content[:where] + bytes([value]) + content[where + 1 :])
            try:
                load_array(path)
            except ValueError:
                refused += 1
    assert refused > 300


READING = """
    import sys
    from pathlib import Path
    import numpy as np
    from itmc.domains import images
    from itmc.domains.images import Mapped

    def resident(what):
        (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if what in l)
        return int(line.split()[1]) >> 10  # MiB

    rows, count, side = 1024, 2560, 256
    files = [Path(sys.argv[1]) / f"{index}.npy" for index in range(3)]
    for index, path in enumerate(files):  # of holes: it takes no room on the disk
        shape = (min(rows, count - index * rows), side, side, 3)
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + int(np.prod(shape)))
    images._RESIDENT = int(sys.argv[2]) << 20
    found = Mapped(files, rows, count, side)
    before = resident("VmRSS")
    for start in range(0, count, 32):
        assert found[start : start + 32].sum() == 0
    print(resident("VmHWM") - before)
"""


@pytest.mark.parametrize(("allowed", "least", "most"), [(128, 0, 200), (4096, 450, 600)])
def test_reading_a_domain_does_not_fill_the_memory(
    allowed: int, least: int, most: int, tmp_path: Path
) -> None:
    """480 MiB of images stay mapped as far as is allowed; the second case shows it is measured."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READING), tmp_path, str(allowed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert least <= int(done.stdout) <= most
