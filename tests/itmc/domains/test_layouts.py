"""Finding a domain's images: every layout that copies come in, and what is wrong with them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from itmc.domains.catalog import DatasetSpec, DomainSpec
from itmc.domains.layouts import (
    UNLABELLED,
    AbsentError,
    Listing,
    images_in,
    list_domain,
    plain_name,
    some,
)
from itmc.errors import UsageError
from tests.itmc.domains.tiny import COLOURS, TINY, paint, tiny

DIGITS = DatasetSpec(
    name="letters",
    classes=("alarm clock", "Bücher", "猫"),
    aliases={"wecker": "alarm clock"},
    domains={
        "Real_World": DomainSpec(letter="R", folders=("RealWorld",)),
        "Art": DomainSpec(letter="A"),
    },
)
SPLIT = DatasetSpec(
    name="split",
    classes=("dog", "cat"),
    domains={
        "photo": DomainSpec(
            count=4, tested=1, lists=("photo_train.txt",), tested_lists=("photo_test.txt",)
        )
    },
)


def found(spec: DatasetSpec, domain: str, root: Path) -> list[tuple[str, str]]:
    """Class and file name of each image."""
    listing = list_domain(spec, domain, root)
    return [(spec.classes[member.label], member.path.name) for member in listing.members]


def listed(root: Path, *lines: str, name: str = "photo.txt") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


EXPECTED = [tuple(name.split("/")) for name in COLOURS]


@pytest.mark.parametrize("below", ["", "images", "{domain}", "{domain}/images"])
@pytest.mark.parametrize("above", ["", "tiny", "data/tiny/v1"])
def test_folders_of_classes_are_found_wherever_they_lie(
    below: str, above: str, tmp_path: Path
) -> None:
    tiny(tmp_path / above, below=below)
    assert found(TINY, "photo", tmp_path) == EXPECTED
    listing = list_domain(TINY, "sketch", tmp_path)
    assert [member.label for member in listing.members] == [0, 0, 1, 1]
    assert not any(member.tested for member in listing.members) and listing.notes == ()
    inside = ("sketch", below.format(domain="sketch"), "dog/dog_0.png")
    assert listing.members[0].name == "/".join(part for part in inside if part)


def test_deeper_than_allowed_nothing_is_found(tmp_path: Path) -> None:
    tiny(tmp_path / "a/b/c/d")
    with pytest.raises(AbsentError, match=r"no images of tiny/photo; expected photo/<class>/\*"):
        list_domain(TINY, "photo", tmp_path)


def test_images_below_folders_of_a_class_belong_to_it(tmp_path: Path) -> None:
    paint(tiny(tmp_path) / "photo/cat/2020/july/a.PNG")
    assert ("cat", "a.PNG") in found(TINY, "photo", tmp_path)


@pytest.mark.parametrize("domain", ["Real_World", "real world", "REAL-WORLD", "RealWorld"])
@pytest.mark.parametrize(
    "classes",
    [
        ("alarm clock", "Bücher", "猫"),
        ("Alarm_Clock", unicodedata.normalize("NFD", "Bücher"), "猫"),
        ("ALARM-CLOCK", unicodedata.normalize("NFD", "BÜCHER"), "猫"),
        ("Wecker", "bücher", "猫"),
    ],
)
def test_other_spellings_are_understood(
    domain: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    for name in classes:
        paint(tmp_path / domain / name / "1.jpg")
    assert [label for label, _ in found(DIGITS, "Real_World", tmp_path)] == list(DIGITS.classes)


def test_names_are_composed_printable_and_on_one_line(tmp_path: Path) -> None:
    for name in DIGITS.classes:
        paint(tmp_path / "Art" / name / "1.jpg")
    paint(tmp_path / "Art" / "猫" / unicodedata.normalize("NFD", "ü\n2.jpg"))
    os.rename(
        paint(tmp_path / "Art" / "猫" / "x.jpg"), os.fsencode(tmp_path / "Art/猫") + b"/\xff.jpg"
    )
    names = [m.name for m in list_domain(DIGITS, "Art", tmp_path).members if m.label == 2]
    assert names == ["Art/猫/1.jpg", "Art/猫/ü 2.jpg", "Art/猫/\ufffd.jpg"]


def test_hidden_junk_and_other_files_are_passed_over(tmp_path: Path) -> None:
    root = tiny(tmp_path)
    paint(root / "photo/cat/.hidden.png")
    paint(root / "photo/cat/@eaDir/thumb.png")
    paint(root / "photo/.thumbnails/1.png")
    paint(root / "__MACOSX/photo/cat/2.png")
    (root / "photo/cat/._cat_0.png").write_bytes(b"macOS")
    (root / "photo/cat/Thumbs.db").write_bytes(b"Windows")
    (root / "photo/cat/gone.png").symlink_to(root / "nowhere.png")
    listing = list_domain(TINY, "photo", tmp_path)
    assert (len(listing.members), listing.notes) == (4, ())


def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path: Path) -> None:
    root = tiny(tmp_path)
    (root / "photo/cat/loop").symlink_to(root / "photo/cat")
    assert found(TINY, "photo", tmp_path) == EXPECTED
    (root / "photo/cat/elsewhere").symlink_to(root / "sketch/cat")
    assert len(list(images_in(root / "photo/cat"))) == 4


def test_a_folder_of_no_class_is_noted_and_left_out(tmp_path: Path) -> None:
    paint(tiny(tmp_path) / "photo/horse/1.png")
    listing = list_domain(TINY, "photo", tmp_path)
    assert len(listing.members) == 4
    assert listing.notes == ("horse left out: no class of tiny",)


def test_an_image_in_no_class_folder_is_noted_and_left_out(tmp_path: Path) -> None:
    paint(tiny(tmp_path) / "photo/stray.png")
    listing = list_domain(TINY, "photo", tmp_path)
    assert len(listing.members) == 4
    assert listing.notes == ("stray.png left out: in no class's folder",)


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    for path in (tiny(tmp_path) / "photo/dog").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"tiny/photo in '.*' lacks 1 of 2 classes: dog; add"):
        list_domain(TINY, "photo", tmp_path)


def test_an_empty_domain_is_absent(tmp_path: Path) -> None:
    (tmp_path / "photo").mkdir()
    with pytest.raises(AbsentError, match="for the 2 classes dog, cat"):
        list_domain(TINY, "photo", tmp_path)


@pytest.mark.parametrize("unreadable", ["", "photo", "photo/cat"])
def test_an_unreadable_folder_is_named(
    unreadable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny(tmp_path)
    if not unreadable:
        (root / "photo").rename(root / "sketch/photo")  # so that it must be searched for
    closed = root / unreadable
    scandir, listdir = os.scandir, os.listdir

    def refuse(path: object) -> None:
        if Path(str(path)) == closed:
            raise PermissionError(13, "Permission denied", str(path))

    def scanning(path: object = ".") -> Iterator[os.DirEntry[str]]:
        refuse(path)
        return scandir(path)  # type: ignore[call-overload, no-any-return]

    def listing(path: object = ".") -> list[str]:
        refuse(path)
        return listdir(path)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "scandir", scanning)
    monkeypatch.setattr(os, "listdir", listing)
    with pytest.raises(UsageError, match=r"tiny/photo: '.*' cannot be read \(Permission den") as e:
        list_domain(TINY, "photo", tmp_path)
    assert repr(str(closed)) in str(e.value)


LINES = [f"{name} {int('cat' in name)}" for name in COLOURS]


@pytest.mark.parametrize("prefix", ["photo/", "", "/data/of/others/tiny/photo/", "D:\\x\\photo\\"])
@pytest.mark.parametrize("place", ["photo.txt", "image_list/photo_list.txt", "photo/photo.txt"])
def test_a_list_is_found_whatever_machine_its_paths_are_of(
    prefix: str, place: str, tmp_path: Path
) -> None:
    listed(tiny(tmp_path), *(prefix + line for line in LINES), name=place)
    paint(tmp_path / "photo/cat/not_listed.png")
    assert found(TINY, "photo", tmp_path) == EXPECTED


def test_a_list_in_another_archives_folder_is_found(tmp_path: Path) -> None:
    tiny(tmp_path / "photo.zip", "photo")
    tiny(tmp_path / "sketch.zip", "sketch")
    for domain in ("photo", "sketch"):  # image_list.zip comes before them
        lines = (f"{domain}/{line}" for line in LINES)
        listed(tmp_path / "image_list.zip/image_list", *lines, name=f"{domain}.txt")
    for domain in ("photo", "sketch"):
        paths = [member.path for member in list_domain(TINY, domain, tmp_path).members]
        assert paths == [tmp_path / f"{domain}.zip" / domain / name for name in COLOURS]


def test_images_that_only_a_list_tells_of_have_its_numbers(tmp_path: Path) -> None:
    paint(tmp_path / "all/a.png"), paint(tmp_path / "all/b.png")
    listed(tmp_path, "all/a.png 1", "", "  all/b.png   0  ")
    assert found(TINY, "photo", tmp_path) == [("dog", "b.png"), ("cat", "a.png")]


def test_the_class_is_that_of_the_folder_however_a_list_numbers_them(tmp_path: Path) -> None:
    alphabetical = (f"photo/{name} {int('dog' in name)}" for name in COLOURS)
    listed(tiny(tmp_path), *alphabetical)
    assert found(TINY, "photo", tmp_path) == EXPECTED


def test_a_bare_file_name_is_not_sought_in_all_folders(tmp_path: Path) -> None:
    """Two classes may have images of one name; a path without its class must not find either."""
    paint(tiny(tmp_path) / "cat_0.png")
    listed(tmp_path, *(f"photo/{line}" for line in LINES), "horse/cat_0.png 1")
    assert list_domain(TINY, "photo", tmp_path).notes == ("horse/cat_0.png listed but missing",)


def test_a_byte_order_mark_is_no_part_of_the_first_path(tmp_path: Path) -> None:
    lines = "\n".join(LINES)
    (tiny(tmp_path) / "photo.txt").write_text(lines, encoding="utf-8-sig")
    assert found(TINY, "photo", tmp_path) == EXPECTED


def test_listed_files_that_lack_are_named(tmp_path: Path) -> None:
    lines = [f"photo/cat/gone_{number}.png 1" for number in range(7)]
    listed(tiny(tmp_path), *(f"photo/{line}" for line in LINES), *lines)
    (note,) = list_domain(TINY, "photo", tmp_path).notes
    assert note.startswith("photo/cat/gone_0.png, photo/cat/gone_1.png")
    assert note.endswith("photo/cat/gone_4.png and 2 more listed but missing")


def test_a_list_without_its_images_counts_as_nothing(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match=r"none of the 2 images that '.*' lists is there, such"):
        list_domain(TINY, "photo", listed(tmp_path, "x/1.png 0", "x/2.png 1"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("all/1.png 2", r"line 2 of '.*': class 2 is not one of 0 to 1 of tiny"),
        ("all/1.png", "line 2 of image list '.*' is 'all/1.png'; expected"),
        ("all/1.png -1", "line 2 of image list"),
        ("all/1.png " + "9" * 5000, "line 2 of image list"),
        ("photo/../../1.png 0", "line 2 of image list"),
    ],
)
def test_a_wrong_line_is_named(line: str, reason: str, tmp_path: Path) -> None:
    paint(tmp_path / "all/1.png")
    with pytest.raises(UsageError, match=reason):
        list_domain(TINY, "photo", listed(tmp_path, "all/1.png 0", line))


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_bytes(b"caf\xe9/1.png 0\n")
    with pytest.raises(UsageError, match=r"photo\.txt' is not text in UTF-8"):
        list_domain(TINY, "photo", tmp_path)


def split(root: Path) -> Listing:
    listed(tiny(root), *(f"photo/{line}" for line in LINES[:3]), name="photo_train.txt")
    listed(root, f"photo/{LINES[3]}", name="photo_test.txt")
    return list_domain(SPLIT, "photo", root)


def test_the_official_test_part_is_told_by_its_list(tmp_path: Path) -> None:
    tested = {member.path.name: member.tested for member in split(tmp_path).members}
    assert [name for name, is_tested in tested.items() if is_tested] == ["cat_1.png"]
    assert len(tested) == 4


@pytest.mark.parametrize("lacking", ["photo_train.txt", "photo_test.txt"])
def test_without_its_official_lists_a_split_domain_is_refused(lacking: str, tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / lacking).unlink()
    with pytest.raises(UsageError, match=r"lacks its lists \(photo_train.txt, and photo_test.txt"):
        list_domain(SPLIT, "photo", tmp_path)


def test_only_ones_own_images_may_lack_labels(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        paint(tmp_path / "photo" / name)
    own = TINY.model_copy(update={"own": "0123"})
    assert [m.label for m in list_domain(own, "photo", tmp_path).members] == [UNLABELLED] * 2
    with pytest.raises(AbsentError):
        list_domain(TINY, "photo", tmp_path)


def test_ones_own_domains_are_sought_right_in_the_folder_only(tmp_path: Path) -> None:
    """Where a class has the name of a domain, its images are not taken for that domain."""
    paint(tmp_path / "sketch/photo/1.png")
    own = TINY.model_copy(update={"own": "0123"})
    with pytest.raises(AbsentError):
        list_domain(own, "photo", tmp_path)


def test_plain_names_and_shortened_enumerations() -> None:
    assert plain_name("Back_Pack") == plain_name("back-pack") == plain_name("BACK PACK")
    assert plain_name("cat") != plain_name("cats")
    assert some(["a", "b"]) == "a, b" and some("abcdefg", most=2) == "a, b and 5 more"
