"""Preparing: what is there is taken, what changed is replaced, and what is wrong is said."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from itmc.domains import contents, digits, prepare as module
from itmc.domains.catalog import DatasetSpec, DomainSpec, dataset
from itmc.domains.prepare import duplicates, prepare
from itmc.domains.progress import Said, Silent
from itmc.domains.store import Kind, StoreError, is_prepared, open_domain, read_manifest
from itmc.errors import UsageError
from tests.itmc.domains.tiny import TINY, paint, tiny

REPOSITORY = Path(__file__).parents[3]
BOTH = ["photo", "sketch"]


def test_an_unchanged_folder_is_not_decoded_again(tmp_path: Path, decoded: list[str]) -> None:
    root, said = tiny(tmp_path / "data"), Said()
    first = prepare(TINY, BOTH, tmp_path / "store", said, root)
    assert len(decoded) == 8
    assert [line for line in said.lines if "preparing" in line] == [
        "preparing tiny/photo, 4 images", "preparing tiny/sketch, 4 images",
    ]  # fmt: skip
    again = prepare(TINY, BOTH, tmp_path / "store", said, root)
    assert len(decoded) == 8 and len(said.lines) == 2
    assert [again[name].digest for name in BOTH] == [first[name].digest for name in BOTH]


@pytest.mark.parametrize("change", ["altered", "added", "removed", "renamed"])
def test_a_changed_folder_replaces_what_is_there(change: str, tmp_path: Path) -> None:
    root = tiny(tmp_path / "data")
    paint(root / "photo/dog/more.png", (5, 5, 5))
    before = prepare(TINY, ["photo"], tmp_path / "store", Silent(), root)["photo"]
    path = root / "photo/dog/more.png"
    if change == "altered":
        paint(path, (200, 200, 201))
    elif change == "added":
        paint(path.with_name("yet_more.png"))
    elif change == "removed":
        path.unlink()
    else:
        path.rename(path.with_name("a.png"))
    after = prepare(TINY, ["photo"], tmp_path / "store", Silent(), root)["photo"]
    assert after.digest != before.digest
    assert open_domain(tmp_path / "store/photo").digest == after.digest


def test_only_the_changed_domain_is_prepared_again(tmp_path: Path, decoded: list[str]) -> None:
    root = tiny(tmp_path / "data")
    prepare(TINY, BOTH, tmp_path / "store", Silent(), root)
    decoded.clear()
    paint(root / "sketch/dog/more.png")
    prepare(TINY, BOTH, tmp_path / "store", Silent(), root)
    assert len(decoded) == 5 and all("sketch" in name for name in decoded)


def test_without_an_origin_what_is_there_is_taken(tmp_path: Path) -> None:
    first = prepare(TINY, BOTH, tmp_path / "store", Silent(), tiny(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    again = prepare(TINY, BOTH, tmp_path / "store", Silent())
    assert [again[name].digest for name in BOTH] == [first[name].digest for name in BOTH]


def test_a_store_that_can_only_be_read_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(TINY, BOTH, tmp_path / "store", Silent(), tiny(tmp_path / "data"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "alone", refuse)
    assert len(prepare(TINY, BOTH, tmp_path / "store", Silent())) == 2
    with pytest.raises(StoreError, match=r"cannot be written \(Permission denied\); set ITMC_STOR"):
        prepare(TINY, BOTH, tmp_path / "store", Silent(), tmp_path / "data")


def test_without_origin_or_address_it_is_said_how_to_get_the_images(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"tiny has no address to download from; get Tiny \(photo, sketch\) from where you "
        r"have it from; then hand over the folder or archive: python -m suites.data prepare tiny",
    ):
        prepare(TINY, BOTH, tmp_path / "store", Silent())


@pytest.mark.parametrize(
    ("origin", "reason"),
    [("gone", "gone' does not exist; give"), ("a.txt", r"a\.txt' is no archive that can be read")],
)
def test_an_origin_that_is_none_is_named(origin: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("not an archive")
    with pytest.raises(UsageError, match=reason):
        prepare(TINY, BOTH, tmp_path / "store", Silent(), tmp_path / origin)


def test_one_broken_domain_does_not_keep_the_other_from_being_prepared(tmp_path: Path) -> None:
    root = tiny(tmp_path / "data")
    (root / "photo/dog/dog_0.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"tiny/photo: 1 image cannot be decoded: .*dog_0\.png"):
        prepare(TINY, BOTH, tmp_path / "store", Silent(), root)
    assert not is_prepared(tmp_path / "store/photo")
    assert len(open_domain(tmp_path / "store/sketch").images) == 4


def test_all_that_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    root = tiny(tmp_path / "data", "sketch")
    (root / "sketch/cat/cat_0.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no images of tiny/photo.*; tiny/sketch: 1 image") as e:
        prepare(TINY, BOTH, tmp_path / "store", Silent(), root)
    assert "\n" not in str(e.value)


def test_differences_from_the_official_images_are_said_and_kept(tmp_path: Path) -> None:
    domains = {"photo": DomainSpec(count=5), "sketch": DomainSpec(count=4)}
    spec, said = TINY.model_copy(update={"domains": domains}), Said()
    paint(tiny(tmp_path / "data") / "photo/horse/1.png")
    prepare(spec, BOTH, tmp_path / "store", said, tmp_path / "data")
    gaps = ("horse left out: no class of tiny", "it has 4 images, 5 are official")
    assert [line for line in said.lines if "warning" in line] == [
        f"warning: tiny/photo: {gap}" for gap in gaps
    ]
    assert read_manifest(tmp_path / "store/photo").gaps == gaps
    assert read_manifest(tmp_path / "store/sketch").gaps == ()


@pytest.mark.parametrize("first", ["arrays", "jpeg"])
def test_the_kind_of_storage_stays_unless_another_is_asked_for(first: Kind, tmp_path: Path) -> None:
    root, home = tiny(tmp_path / "data"), tmp_path / "store"

    def kind_after(kind: Kind | None) -> Kind:
        prepare(TINY, ["photo"], home, Silent(), root, kind)
        return read_manifest(home / "photo").kind

    assert kind_after(first) == kind_after(None) == first
    paint(root / "photo/cat/more.png")
    assert kind_after(None) == first
    other: Kind = "jpeg" if first == "arrays" else "arrays"
    assert kind_after(other) == kind_after(None) == other


def test_images_in_two_domains_are_reported(tmp_path: Path) -> None:
    root, said = tiny(tmp_path / "data"), Said()
    shutil.copy(root / "photo/dog/dog_0.png", root / "sketch/dog/same.png")
    prepare(TINY, ["photo"], tmp_path / "store", said, root)
    assert not any("pixel" in line for line in said.lines)
    prepare(TINY, BOTH, tmp_path / "store", said, root)
    note = (
        "note: 1 images of tiny are in two domains, pixel for pixel, such as photo/dog/dog_0.png "
        "and sketch/dog/same.png"
    )
    assert said.lines[-1] == note
    assert duplicates([tmp_path / "store" / name for name in BOTH]) == [
        ("photo/dog/dog_0.png", "sketch/dog/same.png")
    ]
    prepare(TINY, BOTH, tmp_path / "store", said, root)
    assert said.lines.count(note) == 1


@pytest.mark.parametrize("name", ["pixels.npy", "files.txt", "manifest.json"])
def test_a_damaged_domain_does_not_spoil_another(name: str, tmp_path: Path) -> None:
    root, home, said = tiny(tmp_path / "data"), tmp_path / "store", Said()
    prepare(TINY, ["photo"], home, Silent(), root)
    (home / "photo" / name).write_bytes(b"")
    assert len(prepare(TINY, ["sketch"], home, said, root)["sketch"].images) == 4
    assert said.lines[-1].startswith(f"warning: the prepared domain {str(home / 'photo')!r} is dam")


def test_a_damaged_manifest_is_mended_from_the_origin(tmp_path: Path) -> None:
    root, home = tiny(tmp_path / "data"), tmp_path / "store"
    prepare(TINY, ["photo"], home, Silent(), root)
    path = home / "photo/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(UsageError, match="another version"):
        prepare(TINY, ["photo"], home, Silent())
    assert len(prepare(TINY, ["photo"], home, Silent(), root)["photo"].images) == 4


def mnist(root: Path, first: int = 0) -> tuple[DatasetSpec, Path]:
    """A dataset of arrays: seven images, the last two of which are for testing."""
    root.mkdir(exist_ok=True)
    for part, labels in (("train", [first, 1, 2, 0, 1]), ("t10k", [2, 0])):
        for kind, array in (
            ("images-idx3", np.full((len(labels), 4, 4), 7 * len(labels), np.uint8)),
            ("labels-idx1", np.array(labels, np.uint8)),
        ):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            path = root / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(head + array.tobytes()))
    spec = DatasetSpec(
        name="numbers", classes=tuple("012"), stored_size=8,
        domains={"mnist": DomainSpec(count=7, tested=2, format="mnist")},
    )  # fmt: skip
    return spec, root


def test_arrays_are_prepared_with_their_test_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, root = mnist(tmp_path / "data")
    found = prepare(spec, ["mnist"], tmp_path / "store", Silent(), root)["mnist"]
    assert found.images.shape == (7, 8, 8, 3) and found.images[:].max(axis=(1, 2, 3)).tolist() == [
        35, 35, 35, 35, 35, 14, 14,
    ]  # fmt: skip
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert found.trained is not None and found.trained.tolist() == [0, 1, 2, 3, 4]
    assert found.tested is not None and found.tested.tolist() == [5, 6]
    monkeypatch.setattr(contents, "read_arrays", None)  # it takes seconds: not when unchanged
    again = prepare(spec, ["mnist"], tmp_path / "store", Silent(), root)["mnist"]
    assert again.digest == found.digest


def test_changed_arrays_replace_what_is_there(tmp_path: Path) -> None:
    spec, root = mnist(tmp_path / "data")
    prepare(spec, ["mnist"], tmp_path / "store", Silent(), root)
    mnist(tmp_path / "data", first=2)
    found = prepare(spec, ["mnist"], tmp_path / "store", Silent(), root)["mnist"]
    assert found.labels[0] == 2


def test_arrays_have_no_files_to_keep(tmp_path: Path) -> None:
    spec, root = mnist(tmp_path / "data")
    with pytest.raises(UsageError, match="comes as arrays, not as image files; leave out --store"):
        prepare(spec, ["mnist"], tmp_path / "store", Silent(), root, "jpeg")
    with pytest.raises(UsageError, match="has no image files to keep"):
        prepare(dataset("digits"), ["hand"], tmp_path / "store", Silent(), None, "jpeg")


def test_embedded_images_are_drawn_once_and_compared_with_the_published_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    found = prepare(dataset("digits"), ["hand"], tmp_path / "store", said)["hand"]
    assert found.digest == digits.DIGESTS["hand"]
    assert said.lines == ["preparing digits/hand, 1797 images"]
    prepare(dataset("digits"), ["hand"], tmp_path / "store", said)
    assert len(said.lines) == 1
    monkeypatch.setattr(digits, "DIGESTS", {"hand": "0" * 64})
    prepare(dataset("digits"), ["hand"], tmp_path / "other", said)
    assert said.lines[-1].startswith("warning: digits/hand differs from the published images")


WAITING = """
    import sys, time
    from pathlib import Path
    from itmc.domains import contents
    from itmc.domains.decode import decode
    from itmc.domains.prepare import prepare
    from itmc.domains.progress import Silent
    from tests.itmc.domains.tiny import TINY

    root, store, mark, go = map(Path, sys.argv[1:])

    def waiting(content, size, name):
        mark.touch()
        while not go.exists():
            time.sleep(0.01)
        return decode(content, size, name)

    contents.decode = waiting
    prepare(TINY, ["photo", "sketch"], store, Silent(), root)
"""


def test_of_two_processes_one_prepares_and_the_other_waits(
    tmp_path: Path, decoded: list[str]
) -> None:
    root, store = tiny(tmp_path / "data"), tmp_path / "store"
    mark, go = tmp_path / "mark", tmp_path / "go"

    class LetGo(Said):
        def say(self, text: str) -> None:
            super().say(text)
            go.touch()  # this process waits now

    said = LetGo()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITING), root, store, mark, go], cwd=REPOSITORY
    ) as process:
        try:
            while not mark.exists():
                assert process.poll() is None
            found = prepare(TINY, BOTH, store, said, root)
        finally:
            go.touch()
    assert process.returncode == 0 and decoded == []
    assert said.lines == ["another process prepares tiny; waiting for it"]
    assert [len(found[name].images) for name in BOTH] == [4, 4]
