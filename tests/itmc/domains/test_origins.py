"""Origins: archives and downloads are unpacked, prepared, and cleaned up."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from itmc.domains import origins
from itmc.domains.catalog import Source
from itmc.domains.fetch import FetchError, File
from itmc.domains.prepare import prepare
from itmc.domains.progress import Progress, Said, Silent
from itmc.domains.store import StoreError
from itmc.errors import UsageError
from tests.itmc.domains.tiny import COLOURS, TINY, paint, tiny

BOTH = ["photo", "sketch"]


def zipped(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def tarred(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("top", ["", "Tiny dataset/images of tiny"])
def test_an_archive_is_unpacked_prepared_and_cleaned_up(
    pack: Callable[[Path, Path], Path], top: str, tmp_path: Path, decoded: list[str]
) -> None:
    tiny(tmp_path / "made" / top)
    archive = pack(tmp_path / "made", tmp_path / "tiny.archive")  # told by its content
    found = prepare(TINY, BOTH, tmp_path / "store", Silent(), archive)
    expected = prepare(TINY, BOTH, tmp_path / "other", Silent(), tmp_path / "made" / top)
    assert [found[name].digest for name in BOTH] == [expected[name].digest for name in BOTH]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", *BOTH]
    decoded.clear()
    prepare(TINY, BOTH, tmp_path / "store", Silent(), archive)
    assert decoded == []


def test_a_changed_archive_replaces_what_is_there(tmp_path: Path) -> None:
    archive = tmp_path / "tiny.zip"
    zipped(tiny(tmp_path / "made"), archive)
    before = prepare(TINY, BOTH, tmp_path / "store", Silent(), archive)
    paint(tmp_path / "made/photo/cat/more.png")
    zipped(tmp_path / "made", archive)
    after = prepare(TINY, BOTH, tmp_path / "store", Silent(), archive)
    assert (len(before["photo"].images), len(after["photo"].images)) == (4, 5)


def of_archives(tmp_path: Path, lists: str = "txt") -> Path:
    """A folder with an archive for each domain, and lists beside them: DomainNet comes so."""
    folder = tmp_path / "downloads"
    for domain in BOTH:
        tiny(tmp_path / domain, domain)
        paint(tmp_path / domain / domain / "dog/not_listed.png")
        zipped(tmp_path / domain, folder / f"{domain}.zip")
        lines = [f"{domain}/{name} {int('cat' in name)}\n" for name in COLOURS]
        (folder / f"{domain}.{lists}").write_text("".join(lines))
    return folder


def test_a_folder_of_archives_with_lists_beside_them_is_prepared(tmp_path: Path) -> None:
    found = prepare(TINY, BOTH, tmp_path / "store", Silent(), of_archives(tmp_path))
    assert [len(found[name].images) for name in BOTH] == [4, 4]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", *BOTH]


def test_a_changed_list_beside_archives_is_noticed(tmp_path: Path) -> None:
    folder = of_archives(tmp_path)
    prepare(TINY, BOTH, tmp_path / "store", Silent(), folder)
    with (folder / "photo.txt").open("a") as file:
        file.write("photo/dog/not_listed.png 0\n")
    found = prepare(TINY, BOTH, tmp_path / "store", Silent(), folder)
    assert [len(found[name].images) for name in BOTH] == [5, 4]


def test_a_broken_image_in_an_archive_leaves_nothing_unpacked(tmp_path: Path) -> None:
    (tiny(tmp_path / "made") / "photo/dog/dog_0.png").write_bytes(b"")
    archive = zipped(tmp_path / "made", tmp_path / "tiny.zip")
    with pytest.raises(UsageError, match=r"tiny\.zip/photo/dog/dog_0\.png' is empty") as e:
        prepare(TINY, BOTH, tmp_path / "store", Silent(), archive)
    assert repr(f"{archive}/photo/dog/dog_0.png") in str(e.value)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", "sketch"]


def test_a_damaged_archive_is_named_once(tmp_path: Path) -> None:
    archive = zipped(tiny(tmp_path / "made"), tmp_path / "tiny.zip")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"tiny\.zip' cannot be read") as caught:
        prepare(TINY, BOTH, tmp_path / "store", Silent(), archive)
    assert str(caught.value).count("cannot be read") == 1


def test_a_folder_that_cannot_be_read_is_not_blamed_on_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_archives(tmp_path)
    listed = Path.iterdir

    def refusing(path: Path) -> object:
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(UsageError, match=r"downloads' cannot be read \(Permission denied\); make"):
        prepare(TINY, BOTH, tmp_path / "store", Silent(), folder)


def source(*names: str | tuple[str, str]) -> Source:
    files = [(name, None) if isinstance(name, str) else name for name in names]
    return Source(
        files=tuple(
            File(name=name, urls=(f"http://127.0.0.1/{name}",), checksum=None, domain=domain)
            for name, domain in files
        )
    )


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are all that there is on the web."""
    folder = tmp_path / "web"
    folder.mkdir()

    def fetch(file: File, into: Path, progress: Progress) -> Path:
        if not (folder / file.name).exists():
            raise FetchError(f"no {file.name}")
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(folder / file.name, into))

    monkeypatch.setattr(origins, "fetch", fetch)
    return folder


def test_what_comes_in_one_piece_is_prepared_in_one_piece(tmp_path: Path, web: Path) -> None:
    spec = TINY.model_copy(update={"sources": (source("gone.zip"), source("tiny.zip"))})
    zipped(tiny(tmp_path / "made"), web / "tiny.zip")
    said = Said()
    assert list(prepare(spec, ["photo"], tmp_path / "store", said)) == ["photo"]
    assert said.lines[0] == "source 1 of 2 of tiny gives nothing"
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", *BOTH]


def test_of_files_a_domain_only_those_asked_for_are_prepared(tmp_path: Path, web: Path) -> None:
    spec = TINY.model_copy(
        update={"sources": (source(("photo.zip", "photo"), ("sketch.zip", "sketch")),)}
    )
    zipped(tiny(tmp_path / "made", "photo"), web / "photo.zip")
    prepare(spec, ["photo"], tmp_path / "store", Silent())
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", "photo"]
    with pytest.raises(UsageError, match=r"sources? of tiny gave it; get Tiny \(sket"):
        prepare(spec, ["sketch"], tmp_path / "store", Silent())


def test_a_source_of_no_use_is_said_and_the_next_one_taken(tmp_path: Path, web: Path) -> None:
    spec = TINY.model_copy(update={"sources": (source("other.zip"), source("tiny.zip"))})
    zipped(tiny(tmp_path / "made"), web / "tiny.zip")
    zipped(tiny(tmp_path / "half", "photo"), web / "other.zip")
    said = Said()
    assert len(prepare(spec, BOTH, tmp_path / "store", said)) == 2
    assert any("of no use: '" in line and "tiny/sketch" in line for line in said.lines)


def test_a_full_disk_does_not_make_the_next_source_be_tried(
    tmp_path: Path, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TINY.model_copy(update={"sources": (source("tiny.zip"), source("other.zip"))})
    zipped(tiny(tmp_path / "made"), web / "tiny.zip")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    said = Said()
    with pytest.raises(StoreError, match="make room"):
        prepare(spec, BOTH, tmp_path / "store", said)
    assert not any("of no use" in line or "source 2" in line for line in said.lines)


def test_nothing_of_the_dataset_in_an_archive_is_said_of_the_archive(tmp_path: Path) -> None:
    paint(tmp_path / "made/holidays/1.png")
    archive = zipped(tmp_path / "made", tmp_path / "holidays.zip")
    with pytest.raises(UsageError, match=r"holidays\.zip' has no images of tiny/photo; exp") as e:
        prepare(TINY, ["photo"], tmp_path / "store", Silent(), archive)
    assert str(e.value).startswith(repr(str(archive)))
