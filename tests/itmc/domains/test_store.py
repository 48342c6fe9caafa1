"""The store of decoded domains: what it reads, what it refuses, and that it decodes once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itmc.domains import store
from itmc.domains.catalog import DatasetSpec
from itmc.domains.store import Domain, decode, prepare
from itmc.errors import UsageError

SPEC = DatasetSpec(
    name="tiny",
    kind="folder",
    counts={"photo": 4, "sketch": 4},
    letters={"photo": "P", "sketch": "S"},
    classes=("dog", "cat"),  # the papers' order need not be the alphabet's
    stored_size=8,
)
COLOURS = {
    "cat_0": (250, 10, 10),
    "cat_1": (10, 250, 10),
    "dog_0": (10, 10, 250),
    "dog_1": (9, 9, 9),
}


def make(root: Path, domain: str = "photo", below: str = "") -> Path:
    """Two images of one colour for each class."""
    for name, colour in COLOURS.items():
        folder = root / domain / below / name[:3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), colour).save(folder / f"{name}.png")
    return root


def opened(root: Path | None, place: Path, said: list[str] | None = None) -> Domain:
    return prepare(SPEC, "photo", root, place, (said if said is not None else []).append)


@pytest.mark.parametrize("below", ["", "images"])
def test_images_and_labels_come_in_the_order_of_classes_and_names(
    below: str, tmp_path: Path
) -> None:
    found = opened(make(tmp_path / "data", below=below), tmp_path / "store")
    assert found.images.shape == (4, 8, 8, 3) and found.images.dtype == np.uint8
    assert found.labels.tolist() == [0, 0, 1, 1]
    colours = [COLOURS[n] for n in ("dog_0", "dog_1", "cat_0", "cat_1")]
    assert [tuple(image[4, 4].tolist()) for image in found.images] == colours


def test_the_second_opening_decodes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def counting(path: Path, size: int) -> np.ndarray:
        calls.append(path)
        return decode(path, size)

    monkeypatch.setattr(store, "decode", counting)
    root = make(tmp_path / "data")
    first = opened(root, tmp_path / "store")
    assert len(calls) == 4
    second = opened(root, tmp_path / "store")
    assert len(calls) == 4
    assert np.array_equal(first.images, second.images) and first.digest == second.digest


def test_a_changed_folder_is_prepared_anew(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    before = opened(root, tmp_path / "store")
    path = root / "photo" / "cat" / "cat_0.png"
    Image.new("RGB", (12, 10), (1, 2, 3)).save(path)
    os.utime(path, ns=(1, 1))
    after = opened(root, tmp_path / "store")
    assert before.digest != after.digest
    assert after.images[2, 4, 4].tolist() == [1, 2, 3]


def test_the_digest_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    here = opened(make(tmp_path / "here"), tmp_path / "store")
    there = opened(make(tmp_path / "elsewhere", below="images"), tmp_path / "other" / "store")
    assert here.digest == there.digest


def test_the_digest_depends_on_the_labels_too(tmp_path: Path) -> None:
    here = opened(make(tmp_path / "here"), tmp_path / "store")
    swapped = make(tmp_path / "there") / "photo"
    (swapped / "cat").rename(swapped / "x")
    (swapped / "dog").rename(swapped / "cat")
    (swapped / "x").rename(swapped / "dog")
    assert opened(tmp_path / "there", tmp_path / "store").digest != here.digest


def test_an_unofficial_count_is_said_and_used(tmp_path: Path) -> None:
    root, said = make(tmp_path / "data"), []
    opened(root, tmp_path / "store", said)
    assert said == ["preparing tiny/photo ..."]
    (root / "photo" / "cat" / "cat_1.png").unlink()
    found = opened(root, tmp_path / "store", said)
    assert len(found.images) == 3
    assert "warning: tiny/photo has 3 images, 4 are official" in said


def test_a_truncated_jpeg_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    path = root / "photo" / "dog" / "broken.jpg"
    random = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(random).save(path)
    path.write_bytes(path.read_bytes()[:900])
    for _ in range(2):
        with pytest.raises(UsageError, match=r"broken\.jpg' cannot be decoded"):
            opened(root, tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.npy"))
    path.unlink()
    assert len(opened(root, tmp_path / "store").images) == 4


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "ppm", "webp"])
def test_wherever_a_file_is_cut_it_decodes_or_is_named(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{ending}"
    random = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(random).save(path)
    content = path.read_bytes()
    refused = 0
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        try:
            assert decode(path, 4).shape == (4, 4, 3)
        except UsageError as error:
            refused += path.name in str(error)
    assert refused > 10


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone' does not exist"):
        opened(tmp_path / "gone", tmp_path / "store")
    with pytest.raises(UsageError, match="--data-root"):
        opened(None, tmp_path / "store")


def test_a_missing_domain_is_named_with_the_expected_layout(tmp_path: Path) -> None:
    make(tmp_path / "data", "sketch")
    with pytest.raises(UsageError, match=r"no domain folder 'photo'.*\{photo,sketch\}/images"):
        opened(tmp_path / "data", tmp_path / "store")


def test_a_domain_without_images_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "photo" / "cat"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("nothing to see")
    with pytest.raises(UsageError, match="photo' has no images"):
        opened(tmp_path / "data", tmp_path / "store")


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    for path in (root / "photo" / "dog").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="lacks 1 of 2 classes: dog"):
        opened(root, tmp_path / "store")


def test_a_damaged_store_says_what_to_delete(tmp_path: Path) -> None:
    root = make(tmp_path / "data")
    opened(root, tmp_path / "store")
    (manifest,) = (tmp_path / "store").rglob("manifest.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(UsageError, match=r"damaged.*delete that folder"):
        opened(root, tmp_path / "store")
    manifest.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        opened(root, tmp_path / "store")


def test_a_store_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(UsageError, match="ITMC_STORE"):
        opened(make(tmp_path / "data"), tmp_path / "store")


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "ending"),
    [
        ("L", 100, (100, 100, 100), "png"),
        ("1", 1, (255, 255, 255), "png"),
        ("LA", (100, 50), (100, 100, 100), "png"),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30), "png"),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255), "jpg"),
    ],
)
def test_every_mode_becomes_rgb(
    mode: str, colour: object, expected: tuple[int, ...], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"image.{ending}"
    Image.new(mode, (6, 5), colour).save(path)  # type: ignore[arg-type]
    found = decode(path, 4)
    assert found.shape == (4, 4, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 4


def test_a_palette_is_resolved_before_resizing(tmp_path: Path) -> None:
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "palette.png")
    assert np.array_equal(np.unique(decode(tmp_path / "palette.png", 4).reshape(-1, 3), axis=0),
                          [[200, 100, 50]])  # fmt: skip


def test_images_are_squeezed_to_a_square_with_the_named_filter(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 256, (10, 16, 3), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "wide.png")
    expected = Image.fromarray(random).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(tmp_path / "wide.png", 8), np.asarray(expected))
