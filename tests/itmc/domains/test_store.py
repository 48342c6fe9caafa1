"""Prepared domains: opened as they were written, and refused in one line if they were altered."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from itmc.domains.decode import decode
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from itmc.domains.store import (
    KINDS,
    Domain,
    Kind,
    default_store,
    file_names,
    is_prepared,
    open_domain,
    read_manifest,
)
from itmc.errors import UsageError
from tests.itmc.domains.tiny import COLOURS, TINY, paint, tiny


def prepared(tmp_path: Path, kind: Kind = "arrays") -> Path:
    """The folder of a prepared domain."""
    home = tmp_path / "store" / "tiny"
    prepare(TINY, ["photo"], home, Silent(), tiny(tmp_path / "data"), kind)
    return home / "photo"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return prepared(tmp_path, request.param)


def test_what_is_stored_is_what_decoding_gives(place: Path, tmp_path: Path) -> None:
    found = open_domain(place)
    paths = [tmp_path / "data/photo" / name for name in COLOURS]
    for path, image in zip(paths, found.images, strict=True):
        assert np.array_equal(image, decode(path.read_bytes(), 8, "x"))
    assert [tuple(image[4, 4]) for image in found.images] == list(COLOURS.values())
    assert found.labels.tolist() == [0, 0, 1, 1] and found.labels.dtype == np.int64
    assert (found.name, found.labelled, found.trained, found.tested) == ("photo", True, None, None)


def test_the_manifest_says_what_the_domain_is(place: Path) -> None:
    manifest = read_manifest(place)
    assert (manifest.dataset, manifest.domain, manifest.count) == ("tiny", "photo", 4)
    assert (manifest.classes, manifest.size, manifest.filter) == (("dog", "cat"), 8, "bilinear")
    assert manifest.gaps == () and set(manifest.versions) == {"pillow", "numpy"}
    assert file_names(place, manifest) == [f"photo/{name}" for name in COLOURS]
    others = sum(path.stat().st_size for path in place.iterdir() if path.name != "manifest.json")
    assert abs(manifest.bytes - others) < 1000


def test_the_files_are_recorded_with_their_sha256_as_sha256sum_does(place: Path) -> None:
    content = (place.parents[2] / "data/photo/dog/dog_0.png").read_bytes()
    first = (place / "files.txt").read_text().splitlines()[0]
    assert first == f"{hashlib.sha256(content).hexdigest()}  photo/dog/dog_0.png"


def test_kept_files_are_as_they_were(tmp_path: Path) -> None:
    place = prepared(tmp_path, "jpeg")
    contents = [(tmp_path / "data/photo" / name).read_bytes() for name in COLOURS]
    assert (place / "encoded-00000.bin").read_bytes() == b"".join(contents)


def refused(place: Path, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_domain(place)
    message = str(caught.value)
    assert repr(str(place)) in message and reason in message and "\n" not in message
    assert "delete that folder and prepare the dataset again" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": 3}, "manifest.json was altered"),
        ({"digest": "0" * 64}, "manifest.json was altered"),
        ({"gaps": ["none"]}, "manifest.json was altered"),
        ({"more": 1}, "manifest.json was altered"),
        ({"checksum": None}, "manifest.json was altered"),
        ({"format": 99}, "another version of this program (format 99, not 2)"),
        ({"format": None}, "another version of this program (format None, not 2)"),
    ],
)
def test_an_altered_manifest_is_refused(
    change: dict[str, object], reason: str, place: Path
) -> None:
    manifest = place / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    refused(place, reason)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_none_is_refused(content: bytes, place: Path) -> None:
    (place / "manifest.json").write_bytes(content)
    refused(place, "is damaged")


@pytest.mark.parametrize("name", ["labels.npy", "tested.npy", "pixels.npy"])
def test_altered_labels_and_digests_are_refused(name: str, place: Path) -> None:
    array = np.load(place / name)
    array[0] = 1
    np.save(place / name, array)
    refused(place, "labels or digests are not those of the manifest")
    np.save(place / name, array[:-1])
    refused(place, f"{name} holds")
    (place / name).write_bytes(b"\x93NUMPY")
    refused(place, "is damaged")
    (place / name).unlink()
    refused(place, "No such file")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_or_cut_off_shard_is_refused(kind: Kind, tmp_path: Path) -> None:
    place = prepared(tmp_path, kind)
    (shard,) = [*place.glob("images-*"), *place.glob("encoded-*")]
    content = shard.read_bytes()
    for length in (0, 50, len(content) - 1):
        shard.write_bytes(content[:length])
        refused(place, "is damaged")
    shard.unlink()
    refused(place, shard.name)


@pytest.mark.parametrize("name", ["where.npy", "files.txt"])
def test_kept_files_without_their_places_or_names_are_refused(name: str, tmp_path: Path) -> None:
    place = prepared(tmp_path, "jpeg")
    content = (place / name).read_bytes()
    (place / name).write_bytes(content[: len(content) // 2])
    refused(place, "is damaged")
    (place / name).unlink()
    refused(place, name)


def digest_of(root: Path, home: Path, kind: Kind = "arrays") -> str:
    return prepare(TINY, ["photo"], home, Silent(), root, kind)["photo"].digest


def test_the_digest_is_of_the_content_wherever_and_however_it_is_stored(tmp_path: Path) -> None:
    here, there = tiny(tmp_path / "here"), tiny(tmp_path / "elsewhere/deep", below="images")
    places = [(here, "a", "arrays"), (here, "b", "jpeg"), (there.parent, "c", "arrays")]
    digests = {digest_of(root, tmp_path / name, kind) for root, name, kind in places}  # type: ignore[arg-type]
    assert len(digests) == 1


def test_the_digest_depends_on_images_and_labels(tmp_path: Path) -> None:
    digests = [digest_of(tiny(tmp_path / "data"), tmp_path / "a")]
    paint(tmp_path / "data/photo/cat/cat_0.png", (1, 1, 1))
    digests.append(digest_of(tmp_path / "data", tmp_path / "b"))
    swapped = tiny(tmp_path / "swapped") / "photo"
    for name, other in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (swapped / name).rename(swapped / other)
    digests.append(digest_of(tmp_path / "swapped", tmp_path / "c"))
    assert len(set(digests)) == 3


def test_classes_in_other_scripts_are_stored_and_read(tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"classes": ("Hündin", "猫")})
    for name in spec.classes:
        paint(tmp_path / "data/photo" / name / "ä.png")
    prepare(spec, ["photo"], tmp_path / "store", Silent(), tmp_path / "data")
    manifest = read_manifest(tmp_path / "store/photo")
    assert manifest.classes == spec.classes
    assert file_names(tmp_path / "store/photo", manifest) == [
        "photo/Hündin/ä.png",
        "photo/猫/ä.png",
    ]
    assert "猫" in (tmp_path / "store/photo/manifest.json").read_text(encoding="utf-8")


def test_a_domain_that_is_open_can_be_read_after_it_is_replaced(place: Path) -> None:
    before = open_domain(place)
    expected = np.asarray(before.images).copy()
    root = place.parents[2] / "data"
    paint(root / "photo/cat/cat_0.png", (1, 1, 1))
    after = prepare(TINY, ["photo"], place.parent, Silent(), root)["photo"]
    assert np.array_equal(before.images[:], expected)
    assert {path.name for path in place.parent.iterdir()} == {"photo", ".lock"}
    assert after.digest != before.digest and after.images[2][4, 4].tolist() == [1, 1, 1]
    shutil.rmtree(place)
    assert np.array_equal(before.images[:], expected) and not is_prepared(place)


def test_the_store_is_in_the_users_cache_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ITMC_STORE", "/big/disk")
    assert default_store() == Path("/big/disk")
    monkeypatch.setenv("ITMC_STORE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_store() == Path("/cache/itmc-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_store() == Path("/home/me/.cache/itmc-bench")


def test_a_domain_without_labels_says_so() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert not Domain("photo", images, np.array([-1, -1]), "digest").labelled
