"""Verifying: whatever changed in a prepared domain is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from itmc.domains import images
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from itmc.domains.store import KINDS, Kind
from itmc.domains.verify import verify
from tests.itmc.domains.tiny import TINY, tiny


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return prepared(tmp_path, request.param)


def prepared(tmp_path: Path, kind: Kind) -> Path:
    home = tmp_path / "store" / "tiny"
    prepare(TINY, ["photo"], home, Silent(), tiny(tmp_path / "data"), kind)
    return home / "photo"


def flip(path: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(bytes(content))


def faults(place: Path) -> list[str]:
    found = verify(place, Silent())
    assert all(repr(str(place)) in fault and "\n" not in fault for fault in found)
    return found


class Steps(Silent):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int | None]] = []

    def step(self, what: str, done: int, total: int | None, unit: str) -> None:
        self.seen.append((what, done, total))


def test_nothing_is_wrong_with_what_was_just_prepared(place: Path) -> None:
    steps = Steps()
    assert verify(place, steps) == []
    assert steps.seen[-1] == ("verifying tiny/photo", 4, 4)


def test_one_changed_pixel_is_found_and_its_image_named(tmp_path: Path) -> None:
    place = prepared(tmp_path, "arrays")
    (shard,) = place.glob("images-*.npy")
    flip(shard, -1)
    (fault,) = faults(place)
    assert "is damaged (image 'photo/cat/cat_1.png' was altered); delete that folder" in fault


def test_all_changed_images_are_named(tmp_path: Path) -> None:
    place = prepared(tmp_path, "arrays")
    (shard,) = place.glob("images-*.npy")
    for row in range(4):
        flip(shard, -1 - 192 * row)
    assert [fault.count(".png") for fault in faults(place)] == [1] * 4


def test_a_changed_byte_of_a_kept_file_is_found(tmp_path: Path) -> None:
    place = prepared(tmp_path, "jpeg")
    (shard,) = place.glob("encoded-*.bin")
    where = np.load(place / "where.npy")
    _, start, length = where[2]
    flip(shard, start + length // 2)  # amid the pixels
    (fault,) = faults(place)
    assert "image 'photo/cat/cat_0.png' was altered" in fault


def test_kept_files_that_no_longer_decode_are_found_with_the_others(tmp_path: Path) -> None:
    place = prepared(tmp_path, "jpeg")
    (shard,) = place.glob("encoded-*.bin")
    for _, start, _ in np.load(place / "where.npy")[[0, 3]]:
        flip(shard, start)
    assert [fault.split("'")[3] for fault in faults(place)] == [
        "photo/dog/dog_0.png",
        "photo/cat/cat_1.png",
    ]


@pytest.mark.parametrize("name", ["labels.npy", "tested.npy", "pixels.npy", "manifest.json"])
def test_a_change_of_what_lies_beside_the_images_is_found(name: str, place: Path) -> None:
    flip(place / name, -4)
    (fault,) = faults(place)
    assert "is damaged" in fault


@pytest.mark.parametrize("name", ["labels.npy", "pixels.npy", "files.txt", "manifest.json"])
def test_a_file_that_is_gone_or_cut_off_is_found(name: str, place: Path) -> None:
    content = (place / name).read_bytes()
    (place / name).write_bytes(content[: len(content) // 2])
    assert len(faults(place)) == 1
    (place / name).unlink()
    assert len(faults(place)) == 1


def test_a_file_that_decodes_otherwise_is_told_from_one_that_was_altered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = prepared(tmp_path, "jpeg")
    read = images.decode

    def brighter(content: bytes, size: int, name: str) -> np.ndarray:
        return read(content, size, name) ^ (1 if "cat_1" in name else 0)

    monkeypatch.setattr(images, "decode", brighter)
    (fault,) = faults(place)
    assert "'photo/cat/cat_1.png' decodes otherwise with Pillow" in fault
