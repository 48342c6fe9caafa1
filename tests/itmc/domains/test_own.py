"""One's own images as a dataset: what is discovered, and what is refused with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from itmc.domains.layouts import list_domain
from itmc.domains.own import OwnDataset, own_dataset
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from itmc.errors import UsageError
from tests.itmc.domains.tiny import COLOURS, paint, tiny


def of(path: Path, **options: object) -> OwnDataset:
    return OwnDataset.model_validate({"path": path, **options})


def refused(path: Path, reason: str, **options: object) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        own_dataset(of(path, **options))
    assert "\n" not in str(caught.value)


def images(root: Path, *names: str) -> Path:
    for name in names:
        paint(root / name)
    return root


def listed(root: Path, domain: str, lines: Iterable[str]) -> None:
    (root / f"{domain}.txt").write_text("".join(f"{line}\n" for line in lines))


def test_domains_and_classes_are_discovered_in_alphabetical_order(tmp_path: Path) -> None:
    root = tiny(tmp_path / "pets")
    (root / "empty").mkdir()
    (root / "README.txt").write_text("Images of pets, taken in 2020")
    (root / "notes.txt").write_text("taken in 2020\n")
    paint(root / ".hidden/dog/1.png")
    found = own_dataset(of(root))
    assert (found.name, found.title, found.stored_size) == ("pets", "pets", 256)
    assert list(found.domains) == ["photo", "sketch"]
    assert found.classes == ("cat", "dog")
    assert found.letters == {"photo": "photo", "sketch": "sketch"}


def test_images_may_lie_in_a_folder_images(tmp_path: Path) -> None:
    assert own_dataset(of(tiny(tmp_path, below="images"))).classes == ("cat", "dog")


def test_datasets_of_one_name_in_two_places_are_kept_apart(tmp_path: Path) -> None:
    one, other = (own_dataset(of(tiny(tmp_path / place / "pets"))) for place in "ab")
    assert one.name == other.name == "pets"
    assert one.store_name != other.store_name and one.store_name.startswith("pets-")
    here = own_dataset(of(tmp_path / "b" / ".." / "a" / "pets"))
    assert here.store_name == one.store_name


def test_a_name_domains_and_letters_may_be_given(tmp_path: Path) -> None:
    images(tiny(tmp_path), "more/dog/1.png")
    found = own_dataset(of(tmp_path, name="mine", domains={"sketch": "S", "photo": "P"}))
    assert (found.name, list(found.domains)) == ("mine", ["sketch", "photo"])
    assert found.task("S->P") == ("sketch", "photo")
    chosen = own_dataset(of(tmp_path, domains=["sketch", "photo"]))
    assert list(chosen.domains) == ["sketch", "photo"] and chosen.classes == ("cat", "dog")


def test_differing_classes_are_named_with_their_domain(tmp_path: Path) -> None:
    images(tiny(tmp_path), "photo/horse/1.png", "sketch/cow/1.png", "sketch/ant/1.png")
    refused(
        tmp_path,
        "the domains have not the same classes: photo lacks ant, cow; sketch lacks horse; add",
    )


def test_spellings_of_classes_may_differ_between_domains(tmp_path: Path) -> None:
    images(tmp_path, "a/Back_Pack/1.png", "a/mug/1.png", "b/back-pack/1.png", "b/MUG/1.png")
    found = own_dataset(of(tmp_path))
    assert len(found.classes) == 2
    assert [m.label for m in list_domain(found, "a", tmp_path).members] == [0, 1]
    assert [m.label for m in list_domain(found, "b", tmp_path).members] == [0, 1]


@pytest.mark.parametrize("names", [("11_0", "1_10"), ("Dog", "dog")])
def test_classes_that_spellings_do_not_tell_apart_are_refused(
    names: tuple[str, str], tmp_path: Path
) -> None:
    images(tmp_path, *(f"{domain}/{name}/1.png" for domain in "ab" for name in (*names, "cat")))
    reason = f"'{names[0]}' and '{names[1]}' differ only in case, blanks or dashes; rename one"
    refused(tmp_path, f"classes of a: {reason}")
    refused(tmp_path, reason, classes=[*names, "cat"])


def test_classes_that_are_given_are_taken_in_their_order(tmp_path: Path) -> None:
    images(tiny(tmp_path), "photo/horse/1.png")
    found = own_dataset(of(tmp_path, classes=["dog", "cat"]))
    assert found.classes == ("dog", "cat")
    listing = list_domain(found, "photo", tmp_path)
    assert len(listing.members) == 4 and listing.notes == (
        f"horse left out: no class of {tmp_path.name}",
    )


def test_a_domain_without_labels_may_be_a_target(tmp_path: Path) -> None:
    images(tiny(tmp_path, "photo"), "field/1.png", "field/2.png")
    spec = own_dataset(of(tmp_path, stored_size=8))
    assert list(spec.domains) == ["field", "photo"] and spec.classes == ("cat", "dog")
    found = prepare(spec, ["field", "photo"], tmp_path / "store", Silent(), tmp_path)
    assert found["field"].labels.tolist() == [-1, -1] and not found["field"].labelled
    assert found["photo"].labels.tolist() == [0, 0, 1, 1] and found["photo"].labelled


def test_no_domain_with_labels_is_refused(tmp_path: Path) -> None:
    images(tmp_path, "a/1.png", "b/1.png")
    refused(tmp_path, r"no domain has labels: the source needs folders <domain>/<class>/\*")


@pytest.mark.parametrize(
    ("made", "found"),
    [([], r"0 folders with images \(none\)"), (["photo"], r"1 folders with images \(photo\)")],
)
def test_fewer_than_two_domains_are_refused(made: list[str], found: str, tmp_path: Path) -> None:
    for domain in made:
        tiny(tmp_path, domain)
    refused(tmp_path, f"{found}; at least two domains are needed")


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    images(tmp_path, "a/dog/1.png", "b/dog/1.png")
    refused(tmp_path, "at least two classes are needed; there is dog")


@pytest.mark.parametrize("name", ["gone", "file"])
def test_a_folder_that_is_none_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / name, f"{name}' does not exist or is no folder")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"domains": ["photo", "gone"]}, r"neither a folder 'gone' nor a list 'gone\.txt'"),
        ({"domains": ["photo", "../photo"]}, r"'\.\./photo' is no name of a folder right in"),
        ({"domains": ["photo", ".git"]}, r"'\.git' is no name of a folder right in"),
        ({"domains": {"photo": "P", "sketch": "P"}}, r"two domains have one letter \(P, P\)"),
        ({"domains": {"photo": "sketch", "sketch": "sketch"}}, "two domains have one letter"),
        ({"classes": ["dog", "dog"]}, "a class is there twice"),
    ],
)
def test_a_wrong_description_is_refused(
    options: dict[str, object], reason: str, tmp_path: Path
) -> None:
    refused(tiny(tmp_path / "pets"), reason, **options)


def test_a_folder_name_that_cannot_be_a_name_is_refused(tmp_path: Path) -> None:
    refused(tiny(tmp_path / ".pets"), "name is not allowed")
    own_dataset(of(tmp_path / ".pets", name="pets"))


def test_class_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for domain in "ab":
        paint(tmp_path / domain / "dog/1.png")
        paint(tmp_path / domain / "x/1.png")
        os.rename(tmp_path / domain / "x", os.fsencode(tmp_path / domain) + b"/\xff")
    refused(tmp_path, r"'\\udcff' in '.*' is no text in UTF-8; rename it")


def test_names_in_other_scripts_are_as_good(tmp_path: Path) -> None:
    names = ("猫", "Hündin", "كلب")
    images(
        tmp_path / "动物", *(f"{d}/{name}/é.png" for d in ("фото", "スケッチ") for name in names)
    )
    spec = own_dataset(of(tmp_path / "动物", stored_size=8))
    assert (spec.name, set(spec.classes)) == ("动物", set(names))
    found = prepare(spec, list(spec.domains), tmp_path / spec.store_name, Silent(), spec_path(spec))
    assert [found[name].labels.tolist() for name in ("фото", "スケッチ")] == [[0, 1, 2]] * 2


def spec_path(spec: object) -> Path:
    return Path(spec.homepage)  # type: ignore[attr-defined]


@pytest.mark.parametrize("ending", ["", "_list"])
def test_a_domain_may_be_a_list_alone(ending: str, tmp_path: Path) -> None:
    tiny(tmp_path, "photo")
    tiny(tmp_path / "elsewhere", "drawn")
    (tmp_path / "elsewhere/drawn").rename(tmp_path / ".drawn")
    lines = (f".drawn/{name} {int('dog' in name)}" for name in COLOURS)
    listed(tmp_path, f"sketch{ending}", lines)
    spec = own_dataset(of(tmp_path))
    assert list(spec.domains) == ["photo", "sketch"] and spec.classes == ("cat", "dog")
    members = list_domain(spec, "sketch", tmp_path).members
    assert [(m.label, m.path.parent.name) for m in members] == [
        (0, "cat"), (0, "cat"), (1, "dog"), (1, "dog"),
    ]  # fmt: skip


def test_a_list_of_images_that_lie_together_needs_the_names_of_its_classes(tmp_path: Path) -> None:
    images(tiny(tmp_path, "photo"), ".all/a.png", ".all/b.png")
    listed(tmp_path, "sketch", [".all/a.png 1", ".all/b.png 0"])
    refused(tmp_path, r"sketch\.txt' has 2 classes, whose images do not lie in a folder each; name")
    spec = own_dataset(of(tmp_path, classes=["dog", "cat"]))
    members = list_domain(spec, "sketch", tmp_path).members
    assert [(m.label, m.path.name) for m in members] == [(0, "b.png"), (1, "a.png")]


def test_a_wrong_line_of_a_list_is_named(tmp_path: Path) -> None:
    listed(tiny(tmp_path), "photo", [*(f"photo/{name} 0" for name in COLOURS), "photo/x.png"])
    refused(tmp_path, r"line 5 of image list '.*photo\.txt' is 'photo/x\.png'; expected")


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed_before = Path.iterdir

    def refusing(path: Path) -> Iterable[Path]:
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return listed_before(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    refused(tiny(tmp_path), r"dog' cannot be read \(Permission denied\); make it readable")
