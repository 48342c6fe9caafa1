"""Whether a copy is the official one: lacking, foreign and altered images are named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from itmc.domains.catalog import DatasetSpec, DomainSpec
from itmc.domains.layouts import list_domain
from itmc.domains.membership import Membership, altered, compare, members_digest, official_names
from tests.itmc.domains.tiny import paint, tiny

CLASSES = ("dog", "cat")
NAMES = ["dog/img_01.png", "dog/img_02.png", "cat/img_01.png"]


def spec(**photo: object) -> DatasetSpec:
    return DatasetSpec(
        name="tiny",
        classes=CLASSES,
        domains={"photo": DomainSpec.model_validate(photo)},
        numbered="img_{:02d}.png" if "per_class" in photo else None,
        checksums="tiny.sha256" if "per_class" in photo else None,
    )


NUMBERED = spec(count=3, per_class=(2, 1))


def copy_of(root: Path) -> Path:
    for name in NAMES:
        paint(root / "photo" / name)
    return root


def compared(spec: DatasetSpec, root: Path) -> Membership:
    return compare(spec, "photo", list_domain(spec, "photo", root))


def test_an_official_copy_has_no_gaps(tmp_path: Path) -> None:
    found = compared(NUMBERED, copy_of(tmp_path))
    assert found.gaps == () and official_names(NUMBERED, found.members) == NAMES


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (copy_of(tmp_path) / "photo/dog/img_02.png").unlink()
    found = compared(NUMBERED, tmp_path)
    assert found.gaps == ("1 official images are missing: dog/img_02.png",)
    assert len(found.members) == 2


def test_a_foreign_image_is_named_and_left_out(tmp_path: Path) -> None:
    paint(copy_of(tmp_path) / "photo/cat/img_02.png")
    found = compared(NUMBERED, tmp_path)
    assert found.gaps == ("1 images are no official ones: cat/img_02.png",)
    assert len(found.members) == 3


def test_a_second_image_of_one_name_is_named_and_left_out(tmp_path: Path) -> None:
    paint(copy_of(tmp_path) / "photo/cat/copy/img_01.png")
    found = compared(NUMBERED, tmp_path)
    assert found.gaps == ("1 images are no official ones: cat/img_01.png",)
    assert len(found.members) == 3


def test_altered_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in NAMES}
    start = {name: digest[:8] for name, digest in digests.items()}
    (tmp_path / "tiny.sha256").write_text(
        f"photo/dog {start[NAMES[0]]} {start[NAMES[1]]}\nphoto/cat {start[NAMES[2]]}\n"
    )
    monkeypatch.setattr("itmc.domains.catalog.DATASETS", tmp_path)
    assert altered(NUMBERED, "photo", digests) == []
    assert altered(NUMBERED, "photo", digests | {NAMES[1]: "0" * 64}) == [NAMES[1]]
    assert altered(spec(), "photo", {NAMES[1]: "0" * 64}) == []  # nothing is known of it


def test_another_number_of_images_is_told(tmp_path: Path) -> None:
    found = compared(spec(count=5), copy_of(tmp_path))
    assert found.gaps == ("it has 3 images, 5 are official",) and len(found.members) == 3
    assert compared(spec(), tmp_path).gaps == ()


def test_other_names_than_the_official_ones_are_told(tmp_path: Path) -> None:
    lines = "".join(f"{name}\n" for name in sorted(NAMES))
    official = spec(count=3, members=hashlib.sha256(lines.encode()).hexdigest())
    assert compared(official, copy_of(tmp_path)).gaps == ()
    (tmp_path / "photo/dog/img_02.png").rename(tmp_path / "photo/dog/img_03.png")
    told = ("the names of its 3 images are not those of the official list",)
    assert compared(official, tmp_path).gaps == told


def test_the_digest_of_members_is_the_same_for_every_layout(tmp_path: Path) -> None:
    layouts = [("here", ""), ("there", "images"), ("far/tiny", "images")]
    digests = {
        members_digest(NUMBERED, list_domain(NUMBERED, "photo", tiny(root, below=below)).members)
        for root, below in ((tmp_path / name, below) for name, below in layouts)
    }
    assert len(digests) == 1


def test_a_test_part_of_another_size_is_told(tmp_path: Path) -> None:
    official = DatasetSpec(
        name="tiny",
        classes=CLASSES,
        domains={"photo": DomainSpec(count=3, tested=2, lists=("a.txt",), tested_lists=("b.txt",))},
    )
    copy_of(tmp_path)
    (tmp_path / "a.txt").write_text(f"{NAMES[0]} 0\n{NAMES[1]} 0\n")
    (tmp_path / "b.txt").write_text(f"{NAMES[2]} 1\n")
    assert compared(official, tmp_path).gaps == ("1 of its images are for testing, 2 are official",)
