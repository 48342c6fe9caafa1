"""Archives: each format there and back, and nothing outside the folder whatever they say."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from itmc.domains import archives
from itmc.domains.archives import Limits, is_archive, unpack
from itmc.domains.progress import Said, Silent
from itmc.errors import UsageError

FORMATS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
RANDOM = random.Random(0).randbytes(3000)
TREE = {"photo/dog/1.jpg": RANDOM, "photo/cat/1.jpg": b"", "read me.txt": b"a" * 200_000}


def tar_of(*members: tuple[str, bytes] | tarfile.TarInfo, **how: Any) -> bytes:
    """A tar with files of content, and with members as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, **({"mode": "w"} | how)) as tar:
        for member in members:
            if isinstance(member, tuple):
                (info := tarfile.TarInfo(member[0])).size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member)
    return out.getvalue()


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def packed(form: str, tree: Mapping[str, bytes] = TREE) -> bytes:
    return zip_of(*tree.items()) if form == "zip" else tar_of(*tree.items(), mode=f"w:{form[4:]}")


def special(name: str, kind: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def special_zip(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def unpacked(content: bytes, folder: Path, limits: Limits = Limits()) -> dict[str, bytes]:  # noqa: B008
    """What comes out of an archive, in a folder of its own."""
    (archive := folder / "archive.bin").write_bytes(content)
    unpack(archive, folder / "into", Silent(), limits)
    return files_below(folder / "into")


def files_below(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def refused(content: bytes, folder: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    """The one line with which an archive is refused; nothing of it may be left."""
    with pytest.raises(UsageError) as caught:
        unpacked(content, folder, limits)
    assert {path.name for path in folder.iterdir()} <= {".unpacking-into.lock", "archive.bin"}
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_comes_out_as_it_went_in(form: str, tmp_path: Path) -> None:
    (path := tmp_path / "no-ending").write_bytes(packed(form))
    assert is_archive(path)
    unpack(path, tmp_path / "new" / "into", Silent())
    assert files_below(tmp_path / "new" / "into") == TREE
    assert sorted(p.name for p in (tmp_path / "new").iterdir() if p.suffix != ".lock") == ["into"]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_come_through(kind: int, tmp_path: Path) -> None:
    names = ["long/" * 18 + "n" * 60] + ["größe/ü.jpg"] * (kind != tarfile.USTAR_FORMAT)
    content = tar_of(*((name, b"1") for name in names), format=kind)
    assert unpacked(content, tmp_path) == dict.fromkeys(names, b"1")


OTHERS = {
    "empty": b"", "text": b"text", "zeros": bytes(2000), "letters": b"x" * 5000, "half": b"PK",
    "a magic only": b"\x1f\x8b", "a gzip of no tar": gzip.compress(b"no tar " * 200),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_other_files_are_no_archives(what: str, tmp_path: Path) -> None:
    message = refused(OTHERS[what], tmp_path)
    assert not is_archive(tmp_path / "archive.bin")
    assert "archive.bin" in message and "tar.xz" in message and "hand over the folder" in message


def test_a_folder_and_nothing_are_no_archives(tmp_path: Path) -> None:
    assert not is_archive(tmp_path)
    with pytest.raises(UsageError, match="is not one of zip"):
        unpack(tmp_path / "missing", tmp_path / "into", Silent())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_archive_is_refused(form: str, part: float, tmp_path: Path) -> None:
    content = packed(form, {"a": RANDOM, "b": RANDOM[::-1], "c": RANDOM * 4})
    content = content[: int(part * len(content.rstrip(b"\0")))]
    assert "archive.bin" in refused(content, tmp_path)


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_a_tar_without_its_end_is_truncated(blocks: int, tmp_path: Path) -> None:
    content = tar_of(("a", b"1"), ("b", b"2"))  # a header and a block each
    assert "cut off" in refused(content[: blocks * 512], tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_archive_is_refused(form: str, tmp_path: Path) -> None:
    content = bytearray(packed(form, {"a": RANDOM, "b": b""}))
    second = 512 + 3072  # where in a tar the header of b begins, with its own checksum
    content[second + 150 if form == "tar" else len(content) // 2] ^= 1
    assert "damaged" in refused(bytes(content), tmp_path)


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6)
SMALL = {form: packed(form, {"a/b": b"12345" * 40, "n" * 150: b"6", "c": b""}) for form in FORMATS}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMATS), CHANGES, st.floats(0.1, 2))
def test_whatever_happened_to_an_archive_is_said_in_one_way(
    form: str, changes: list[tuple[int, int]], part: float
) -> None:
    content = bytearray(SMALL[form])
    for place, value in changes:
        content[place % len(content)] = value
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UsageError):
        unpacked(bytes(content[: int(part * len(content))]), Path(folder))


BAD_NAMES = {
    "/etc/x": "absolute", "../x": "'..'", "a/../../x": "'..'", "a/../x": "'..'",
    "__MACOSX/../../x": "'..'", "C:/x": "drive letter", "c:x": "drive letter",
    "..\\x": "backslash", "a\\..\\x": "backslash", "\\\\server\\x": "backslash", ".": "no name",
    "a/" * 200 + "x": "64 folders", "n" * 300: "cannot have this name",
}  # fmt: skip


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(form: str, name: str, tmp_path: Path) -> None:
    message = refused(packed(form, {"good": b"1", name: b"2"}), tmp_path)
    assert BAD_NAMES[name] in message and repr(name) in message


PIECES = st.sampled_from([
    "..", ".", "", "a", "b", "/", "C:", "c:\\", "\\", "..\\", "\udcff", "é", "\n", "._a", "x" * 300
])  # fmt: skip
NAMES = st.lists(PIECES | st.text(max_size=3), min_size=1, max_size=5).map("/".join)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["zip", "tar"]), st.dictionaries(NAMES, st.booleans(), max_size=4))
def test_nothing_is_ever_written_outside(form: str, names: dict[str, bool]) -> None:
    with tempfile.TemporaryDirectory() as top:
        (folder := Path(top) / "1" / "2").mkdir(parents=True)
        try:
            content = hostile(form, names, f"{top}/escaped")
        except (UnicodeError, ValueError):
            return  # it cannot even be packed
        with contextlib.suppress(UsageError):
            unpacked(content, folder)
        assert [path.name for path in Path(top).iterdir()] == ["1"]
        assert [path.name for path in (Path(top) / "1").iterdir()] == ["2"]
        left = {path.name for path in folder.iterdir()}
        assert left <= {"archive.bin", "into", ".unpacking-into.lock"}
        assert not [path for path in folder.rglob("*") if path.is_symlink()]


def hostile(form: str, names: dict[str, bool], escape: str) -> bytes:
    """Files of these names, or where it says so symbolic links to outside."""
    if form == "zip":
        kinds = {True: stat.S_IFLNK, False: stat.S_IFREG}
        infos = [special_zip(name, kinds[link]) for name, link in names.items()]
        return zip_of(*((info, escape.encode()) for info in infos))
    links = {n: special(n, tarfile.SYMTYPE, escape) for n, link in names.items() if link}
    return tar_of(*(links.get(name, (name, b"1")) for name in names))


@pytest.mark.parametrize(
    ("kind", "target"),
    [(tarfile.SYMTYPE, to) for to in ("/etc/x", "../../a", "a/../../../x", "later", "..", "..\\a")]
    + [(tarfile.LNKTYPE, to) for to in ("/etc/x", "../a", "missing", "folder")],
)
def test_a_link_to_no_file_before_it_is_refused(kind: bytes, target: str, tmp_path: Path) -> None:
    link = special("folder/link", kind, target)
    message = refused(tar_of(("a", b"1"), link, ("folder/later", b"2")), tmp_path)
    assert "'folder/link' is a link to" in message


@pytest.mark.parametrize("form", ["zip", "soft", "hard"])
def test_a_link_to_a_file_before_it_becomes_a_copy(form: str, tmp_path: Path) -> None:
    contents = {
        "zip": zip_of(("a/b", RANDOM), (special_zip("c/d", stat.S_IFLNK), b"../a/b")),
        "soft": tar_of(("a/b", RANDOM), special("c/d", tarfile.SYMTYPE, "../a/./b")),
        "hard": tar_of(("a/b", RANDOM), special("c/d", tarfile.LNKTYPE, "a/b")),
    }
    assert unpacked(contents[form], tmp_path) == {"a/b": RANDOM, "c/d": RANDOM}
    assert not (tmp_path / "into" / "c" / "d").is_symlink()
    assert (tmp_path / "into" / "a" / "b").stat().st_nlink == 1


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_pipes_in_a_zip_are_refused(kind: int, tmp_path: Path) -> None:
    assert "'x' is no plain file" in refused(zip_of((special_zip("x", kind), b"")), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_and_pipes_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    assert "'x' is no plain file" in refused(tar_of(special("x", kind)), tmp_path)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_for_a_file_and_a_folder_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    assert "cannot have this name" in refused(tar_of((names[0], b""), (names[1], b"")), tmp_path)


def test_names_may_differ_by_case_only_and_be_no_text(tmp_path: Path) -> None:
    files = {"A": b"1", "a": b"2", "a\udcff": b"3"}
    assert unpacked(packed("tar", files), tmp_path) == files


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_what_macos_adds_is_left_out(form: str, tmp_path: Path) -> None:
    added = dict.fromkeys(("__MACOSX/a/._b", "a/._b", "a/.DS_Store", ".DS_Store"), b"1")
    assert unpacked(packed(form, {**added, "a/b": b"2"}), tmp_path) == {"a/b": b"2"}


def test_modes_are_plain_and_empty_folders_are_kept(tmp_path: Path) -> None:
    script = special("x", tarfile.REGTYPE, mode=0o6777)
    unpacked(tar_of(special("empty", tarfile.DIRTYPE, mode=0o7777), script), tmp_path)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*")}
    assert modes["into"] == modes["empty"] == modes["into"] & 0o755 and modes["x"] & ~0o644 == 0


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(8, 1, "is encrypted (member 'a')"), (10, 97, "of a rare kind"), (24, 10, "damaged")],
)
def test_an_odd_zip_is_refused(offset: int, value: int, reason: str, tmp_path: Path) -> None:
    content = bytearray(zip_of(("a", b"0" * 100)))
    content[content.index(b"PK\1\2") + offset] = value  # in the directory at the end
    assert reason in refused(bytes(content), tmp_path)


@pytest.mark.parametrize(
    ("stored", "name"), [(b"\xc3\xbc.jpg", "ü.jpg"), (b"\x81\xff.jpg", "ü\xa0.jpg")]
)
def test_unmarked_zip_names_are_utf8_or_cp437(stored: bytes, name: str, tmp_path: Path) -> None:
    placeholder = b"n" * len(stored)
    content = zip_of((placeholder.decode(), b"1")).replace(placeholder, stored)
    assert unpacked(content, tmp_path) == {name: b"1"}


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("limits", [Limits(files=2), Limits(total_bytes=200_000), Limits(ratio=10)])
def test_a_bomb_is_stopped_at_the_limits(
    form: str, limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM", 50_000)
    message = refused(packed(form), tmp_path, limits)
    assert "bomb" in message and f"{limits.files:,} files" in message


def test_what_is_small_may_be_compressible(tmp_path: Path) -> None:
    assert unpacked(packed("tar.xz"), tmp_path, Limits(ratio=1)) == TREE


def test_copies_of_links_and_what_is_left_out_count(tmp_path: Path) -> None:
    copies = (special(f"copy {n}", tarfile.LNKTYPE, "a") for n in range(9))
    message = refused(tar_of(("a", RANDOM), *copies), tmp_path, Limits(total_bytes=16_000))
    assert "bomb" in message and "'copy 5'" not in message and "'copy 4'" in message
    content = packed("tar.gz", {"._a": bytes(20_000)})
    assert "bomb" in refused(content, tmp_path, Limits(total_bytes=16_000))


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    header = special("x", tarfile.XHDTYPE)
    header.size = 1 << 32
    assert "a header is too large" in refused(header.tobuf() + bytes(10_000), tmp_path)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (mine := tmp_path / "into" / "mine").mkdir(parents=True)
    with pytest.raises(UsageError, match="exists already"):
        unpacked(packed("zip"), tmp_path)
    assert [*(tmp_path / "into").iterdir()] == [mine]


class Steps(Said):
    """Does something at each step."""

    def __init__(self, work: Callable[[int, int | None], object]) -> None:
        super().__init__()
        self.work = work

    def step(self, what: str, done: int, total: int | None, unit: str) -> None:
        assert what == "unpacking a" and unit == "bytes"
        self.work(done, total)


def test_progress_goes_to_the_size_of_the_archive(tmp_path: Path) -> None:
    steps = []
    (path := tmp_path / "a").write_bytes(packed("zip"))
    unpack(path, tmp_path / "into", Steps(lambda *step: steps.append(step)))
    assert steps == sorted(steps) and steps[-1] == (path.stat().st_size,) * 2


KILLED = """
import os, sys
from pathlib import Path
from itmc.domains.archives import unpack
from itmc.domains.progress import Silent
Silent.step = lambda *_: os.kill(os.getpid(), 9)
unpack(Path(sys.argv[1]), Path(sys.argv[2]), Silent())
"""


def test_a_killed_call_leaves_a_temporary_folder_that_the_next_one_removes(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(packed("tar.gz"))
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "into")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (other := tmp_path / ".unpacking-into-other-12345678").mkdir()  # of another folder's call
    left = [path for path in tmp_path.glob(".unpacking-into-????????") if path.is_dir()]
    assert len(left) == 1 and not (tmp_path / "into").exists()
    unpack(path, tmp_path / "into", Silent())
    assert not left[0].exists() and other.exists()
    assert files_below(tmp_path / "into") == TREE


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    content, limits = packed("tar.gz"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        message = refused(content, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "'archive.bin' does not fit into" in message and "bytes are free" in message


def test_an_interrupted_call_leaves_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(packed("zip"))
    with pytest.raises(KeyboardInterrupt):
        unpack(path, tmp_path / "into", Steps(lambda *_: signal.raise_signal(signal.SIGINT)))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".unpacking-into.lock", "a"]


def test_the_second_of_two_waits_and_takes_what_the_first_unpacked(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(packed("zip"))
    working, go = threading.Event(), threading.Event()

    class Second(Said):
        def say(self, text: str) -> None:
            super().say(text)
            go.set()

    busy = Steps(lambda *_: (working.set(), go.wait()))  # type: ignore[func-returns-value]
    first = threading.Thread(target=unpack, args=(path, tmp_path / "into", busy))
    first.start()
    assert working.wait(10)
    unpack(path, tmp_path / "into", said := Second())
    first.join()
    assert said.lines == ["another process unpacks a; waiting for it"]
    assert files_below(tmp_path / "into") == TREE
