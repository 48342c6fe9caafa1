"""What the declared datasets say, compared with the image lists that papers use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from itmc.domains import digits
from itmc.domains.catalog import DATASETS, DatasetSpec, checksums, dataset, names
from itmc.domains.layouts import plain_name
from itmc.errors import UsageError
from tests.shared import at_hand

REPOSITORY = Path(__file__).parents[3]
COUNTS = {
    "classic_digits": {"mnist": 70000, "usps": 9298, "svhn": 99289, "mnist_m": 68002},
    "digits": {"hand": 1797, "print": 2000, "scene": 2000},
    "domainnet": {
        "clipart": 48129, "infograph": 51605, "painting": 72266, "quickdraw": 172500,
        "real": 172947, "sketch": 69128,
    },
    "image_clef": {"imagenet": 600, "pascal": 600, "caltech": 600, "bing": 600},
    "office31": {"amazon": 2817, "dslr": 498, "webcam": 795},
    "office_caltech": {"amazon": 958, "caltech": 1123, "dslr": 157, "webcam": 295},
    "office_home": {"Art": 2427, "Clipart": 4365, "Product": 4439, "Real_World": 4357},
    "visda2017": {"synthetic": 152397, "real": 55388},
}  # fmt: skip
CLASSES = {
    "classic_digits": 10, "digits": 10, "domainnet": 345, "image_clef": 12, "office31": 31,
    "office_caltech": 10, "office_home": 65, "visda2017": 12,
}  # fmt: skip
NUMBERED = [
    ("office31", "amazon", "office/amazon_list.txt"),
    ("office31", "dslr", "office/dslr_list.txt"),
    ("office31", "webcam", "office/webcam_list.txt"),
    *(("office_home", domain, f"office-home/{domain}.txt") for domain in COUNTS["office_home"]),
]
DIGESTED = [
    ("visda2017", "real", "visda-2017/validation_list.txt"),
    *(
        ("image_clef", domain, f"image-clef/{name}")
        for domain, letter in zip(COUNTS["image_clef"], "ipcb", strict=True)
        for name in (f"{letter}_list.txt", f"list/{letter}List.txt")
    ),
]

every_dataset = pytest.mark.parametrize("spec", [dataset(name) for name in names()], ids=names())


@pytest.fixture
def image_lists() -> Path:
    """The lists of public code; without them tests are skipped, or fail where they are required."""
    return at_hand("data/image_lists")


def listed(path: Path) -> Iterator[tuple[str, str, int]]:
    """Folder, file name and label of each line of a list."""
    for line in path.read_text().splitlines():
        image, label = line.rsplit(" ", 1)
        yield image.split("/")[-2], image.split("/")[-1], int(label)


def implied(spec: DatasetSpec, domain: str) -> list[str]:
    """``<class>/<file>`` of a domain whose files are numbered."""
    assert spec.numbered is not None
    return [
        f"{name}/{spec.numbered.format(number)}"
        for name, count in zip(spec.classes, spec.domains[domain].per_class, strict=True)
        for number in range(1, count + 1)
    ]


def test_all_datasets_are_looked_at() -> None:
    assert set(names()) == set(COUNTS) == set(CLASSES)


@every_dataset
def test_counts_and_numbers_of_classes_are_the_official_ones(spec: DatasetSpec) -> None:
    assert {n: domain.count for n, domain in spec.domains.items()} == COUNTS[spec.name]
    assert len(spec.classes) == CLASSES[spec.name]
    assert spec.count == sum(COUNTS[spec.name].values())


@pytest.mark.parametrize(
    ("name", "tested"),
    [
        ("classic_digits", [10000, 2007, 26032, 9001]),
        ("domainnet", [14604, 15582, 21850, 51750, 52041, 20916]),
    ],
)
def test_official_test_parts(name: str, tested: list[int]) -> None:
    assert [domain.tested for domain in dataset(name).domains.values()] == tested


@every_dataset
def test_each_letter_means_one_domain(spec: DatasetSpec) -> None:
    assert len(set(spec.letters.values())) == len(spec.domains)
    for domain, letter in spec.letters.items():
        assert spec.domain(letter) == spec.domain(domain) == domain
        assert letter == domain or letter not in spec.domains


@every_dataset
def test_spellings_of_class_folders_are_told_apart(spec: DatasetSpec) -> None:
    plain = [plain_name(name) for name in (*spec.classes, *spec.aliases)]
    assert len(set(plain)) == len(plain)  # else an alias says nothing, or two things
    assert set(spec.aliases.values()) <= set(spec.classes)


@every_dataset
def test_each_dataset_says_what_it_is_and_where_to_get_it(spec: DatasetSpec) -> None:
    assert spec.title and spec.licence
    assert re.search(r"\b(19|20)\d\d\b", spec.citation)
    assert spec.embedded or spec.sources or spec.homepage.startswith("http")


@every_dataset
def test_each_source_has_all_domains(spec: DatasetSpec) -> None:
    for source in spec.sources:
        file_names = [file.name for file in source.files]
        tagged = {file.domain for file in source.files} - {None}
        assert len(set(file_names)) == len(file_names)
        assert tagged in (set(), set(spec.domains))


@every_dataset
def test_parts_to_test_on_have_lists_or_arrays_that_name_them(spec: DatasetSpec) -> None:
    for domain in spec.domains.values():
        if domain.tested and domain.format == "images":
            assert domain.lists and domain.tested_lists


def test_the_embedded_dataset_is_declared_as_it_is_drawn() -> None:
    spec = dataset(digits.NAME)
    assert spec.embedded and spec.stored_size == digits.SIDE
    assert spec.classes == digits.CLASSES
    assert {n: domain.count for n, domain in spec.domains.items()} == {
        domain: digits.size(domain) for domain in digits.DOMAINS
    }


def test_checksums_of_office31_cover_each_image_once() -> None:
    spec = dataset("office31")
    known = checksums(spec)
    assert set(known) == {f"{d}/{image}" for d in spec.domains for image in implied(spec, d)}
    assert all(re.fullmatch("[0-9a-f]{8}", start) for start in known.values())
    assert len((DATASETS / "office31.sha256").read_text().splitlines()) == 3 * 31


@pytest.mark.shared
@pytest.mark.parametrize(("name", "domain", "file"), NUMBERED)
def test_numbered_names_and_labels_are_those_of_the_lists(
    name: str, domain: str, file: str, image_lists: Path
) -> None:
    spec, lines = dataset(name), list(listed(image_lists / file))
    assert sorted(f"{folder}/{image}" for folder, image, _ in lines) == sorted(
        implied(spec, domain)
    )
    assert all(spec.classes[label] == folder for folder, _, label in lines)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "domain", "file"), DIGESTED)
def test_members_and_labels_are_those_of_the_lists(
    name: str, domain: str, file: str, image_lists: Path
) -> None:
    spec, lines = dataset(name), list(listed(image_lists / file))
    images = sorted(f"{spec.classes[label]}/{image}" for _, image, label in lines)
    digest = hashlib.sha256("".join(f"{image}\n" for image in images).encode()).hexdigest()
    assert digest == spec.domains[domain].members
    flat = {domain, *spec.domains[domain].folders}  # without folders of classes
    for folder, _, label in lines:
        called = spec.aliases.get(folder, folder)
        assert called == spec.classes[label] or folder in flat


@pytest.mark.shared
@pytest.mark.parametrize(
    ("domain", "file"),
    [("usps", "usps2mnist/usps_test.txt"), ("mnist", "usps2mnist/mnist_test.txt")],
)
def test_test_parts_of_digits_are_as_long_as_the_lists(
    domain: str, file: str, image_lists: Path
) -> None:
    lines = list(listed(image_lists / file))
    assert len(lines) == dataset("classic_digits").domains[domain].tested
    assert {label for *_, label in lines} == set(range(10))


@pytest.mark.shared
def test_checksums_of_office31_are_those_of_a_verified_copy() -> None:
    lines = at_hand("data/office31/SHA256SUMS").read_text().splitlines()
    verified = {}
    for line in lines:
        digest, path = line.split()
        verified[path.replace("/images/", "/")] = digest[:8]
    assert checksums(dataset("office31")) == verified


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"clases": ["a"]}, "Extra inputs"),
        ({"domains": {"x": {"count": 3, "per_class": [1, 1]}}}, "does not add up"),
        ({"domains": {"x": {"count": 2, "per_class": [2]}}}, "not one number for each class"),
        ({"domains": {"x": {"count": 2, "tested": 2}}}, "leaves nothing to train on"),
        ({"domains": {"x": {"members": "0" * 63}}}, "pattern"),
        ({"classes": ["a", "a"]}, "a class is there twice"),
        ({"sources": [{"files": []}]}, "at least 1 item"),
    ],
)
def test_a_wrong_declaration_is_refused(change: dict[str, Any], complaint: str) -> None:
    right = yaml.safe_load("{classes: [a, b], domains: {x: {count: 2, per_class: [1, 1]}}}")
    DatasetSpec.model_validate({"name": "made", **right})
    with pytest.raises(ValidationError, match=complaint):
        DatasetSpec.model_validate({"name": "made", **right, **change})


def test_an_unknown_dataset_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'office'; allowed: .*office31, office_caltech"):
        dataset("office")


def test_an_unknown_domain_is_answered_with_letters() -> None:
    with pytest.raises(UsageError, match=r"no domain 'X'; allowed: Art \(Ar\), Clipart \(Cl\)"):
        dataset("office_home").task("Ar->X")
