"""Writing a domain: in shards, taken up where it stopped, and never half there."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from itmc.domains import contents, write
from itmc.domains.decode import decode
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from itmc.domains.store import KINDS, Domain, Kind, StoreError, is_prepared
from itmc.errors import UsageError
from tests.itmc.domains.tiny import TINY, paint

REPOSITORY = Path(__file__).parents[3]
MANY = 12
"""Images of the domain that these tests prepare."""


def many(root: Path) -> Path:
    for row in range(MANY // 2):
        for name in TINY.classes:
            paint(root / "photo" / name / f"{row:02d}.png", (row, 2 * row, 3 * row))
    return root


def prepared(root: Path, store: Path, kind: Kind | None = None) -> Domain:
    return prepare(TINY, ["photo"], store, Silent(), root, kind)["photo"]


@pytest.fixture
def two_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a shard."""
    monkeypatch.setattr(write, "_SHARD", 2 * 8 * 8 * 3 + 5)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded."""
    names: list[str] = []

    def counting(content: bytes, size: int, name: str) -> np.ndarray:
        names.append(Path(name).name)
        return decode(content, size, name)

    monkeypatch.setattr(contents, "decode", counting)
    return names


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the user stop the program when the second image called ``name`` is decoded."""
    seen = 0

    def stopping(content: bytes, size: int, path: str) -> np.ndarray:
        nonlocal seen
        seen += Path(path).name == name
        if seen == 2:
            raise KeyboardInterrupt
        return decode(content, size, path)

    monkeypatch.setattr(contents, "decode", stopping)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 5, 12, 100])
def test_images_and_digest_are_the_same_for_any_size_of_files(
    rows: int, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = many(tmp_path / "data")
    whole = prepared(root, tmp_path / "whole")
    monkeypatch.setattr(write, "_SHARD", rows * 192)
    found = prepared(root, tmp_path / "parts", kind)
    assert len(list((tmp_path / "parts/photo").glob("*00*"))) == -(-MANY // rows)
    assert np.array_equal(found.images[:], whole.images[:]) and found.digest == whole.digest
    assert np.array_equal(found.images[np.array([11, 0, 5])], whole.images[np.array([11, 0, 5])])


@pytest.mark.usefixtures("two_a_file")
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_finished_before_an_interruption_is_not_decoded_again(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    root = many(tmp_path / "data")
    with monkeypatch.context() as patched:
        interrupt(patched, "03.png")  # the tenth image
        with pytest.raises(KeyboardInterrupt):
            prepared(root, tmp_path / "store", kind)
    assert not is_prepared(tmp_path / "store/photo")
    found = prepared(root, tmp_path / "store", kind)
    assert sorted(decoded) == ["02.png", "03.png", "04.png", "05.png"]
    assert found.digest == prepared(root, tmp_path / "other").digest
    left = {path.name for path in (tmp_path / "store").iterdir()}
    assert left == {"photo", ".lock"}
    assert not [path for path in (tmp_path / "store/photo").iterdir() if "part" in path.name]


def _an_image(root: Path, _: pytest.MonkeyPatch) -> Kind:
    paint(root / "photo/dog/00.png", (99, 99, 99))
    return "arrays"


def _the_libraries(_: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    monkeypatch.setattr(write, "_versions", lambda: {"pillow": "0"})
    return "arrays"


def _the_kind(_: Path, __: pytest.MonkeyPatch) -> Kind:
    return "jpeg"


@pytest.mark.usefixtures("two_a_file")
@pytest.mark.parametrize("change", [_an_image, _the_libraries, _the_kind])
def test_what_was_finished_of_other_contents_is_not_taken(
    change: Callable[[Path, pytest.MonkeyPatch], Kind], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root = many(tmp_path / "data")
    with monkeypatch.context() as patched:
        interrupt(patched, "03.png")
        with pytest.raises(KeyboardInterrupt):
            prepared(root, tmp_path / "store")
    kind = change(root, monkeypatch)
    found = prepared(root, tmp_path / "store", kind)
    expected = [
        decode(path.read_bytes(), 8, "x")
        for name in TINY.classes
        for path in sorted((root / "photo" / name).iterdir())
    ]
    assert np.array_equal(found.images[:], np.stack(expected))


KILLED = """
    import sys, time
    from pathlib import Path
    from itmc.domains import contents, write
    from itmc.domains.decode import decode
    from itmc.domains.prepare import prepare
    from itmc.domains.progress import Silent
    from tests.itmc.domains.tiny import TINY

    root, store, mark = map(Path, sys.argv[1:])
    seen = []

    def waiting(content, size, name):
        seen.append(name)
        if len(seen) == 10:
            mark.touch()
            time.sleep(600)
        return decode(content, size, name)

    contents.decode, write._SHARD = waiting, 2 * 8 * 8 * 3
    prepare(TINY, ["photo"], store, Silent(), root)
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.usefixtures("two_a_file")
def test_a_preparation_that_was_killed_goes_on(tmp_path: Path, decoded: list[str]) -> None:
    root, store, mark = many(tmp_path / "data"), tmp_path / "store", tmp_path / "mark"
    with python(KILLED, root, store, mark) as process:
        while not mark.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert list(store.glob(".preparing-photo/*.part")) and not is_prepared(store / "photo")
    found = prepared(root, store)
    # The shard size of the killed process was 5 bytes less, but as many images.
    assert len(decoded) == 4
    assert found.digest == prepared(root, tmp_path / "other").digest
    assert not list(store.glob("photo/*.part"))


def test_several_broken_images_are_named_in_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    root = many(tmp_path / "data")
    (root / "photo/dog/01.png").write_bytes(b"")
    (root / "photo/cat/03.png").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(UsageError) as caught:
            prepared(root, tmp_path / "store")
        message = str(caught.value)
        assert message.startswith("tiny/photo: 2 images cannot be decoded: ")
        assert "dog/01.png' is empty (0 bytes); " in message and "\n" not in message
        assert "cat/03.png' is no image" in message and "replace or remove them" in message
        assert [path.name for path in (tmp_path / "store").iterdir()] == [".lock"]
    (root / "photo/dog/01.png").unlink()
    (root / "photo/cat/03.png").unlink()
    assert len(prepared(root, tmp_path / "store").images) == MANY - 2


@pytest.mark.usefixtures("two_a_file")
def test_broken_images_of_all_files_are_named(tmp_path: Path) -> None:
    root = many(tmp_path / "data")
    for name in ("dog/00.png", "dog/05.png", "cat/05.png"):
        (root / "photo" / name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"3 images.*dog/00\.png.*dog/05\.png.*cat/05\.png"):
        prepared(root, tmp_path / "store")


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = many(tmp_path / "data")
    read = Path.read_bytes

    def refusing(path: Path) -> bytes:
        if path.name == "04.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    with pytest.raises(UsageError, match=r"2 images .*dog/04\.png' \(Permission denied\)"):
        prepared(root, tmp_path / "store")


def test_what_would_not_fit_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    free = type("Usage", (), {"free": 12 * 192 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(StoreError, match=r"takes 0\.0 GB decoded, but .* free; make room, set ITM"):
        prepared(many(tmp_path / "data"), tmp_path / "store")
    assert decoded == [] and not is_prepared(tmp_path / "store/photo")
    prepared(tmp_path / "data", tmp_path / "store", "jpeg")


LIMITED = """
    import resource, sys
    from pathlib import Path
    from itmc.domains.prepare import prepare
    from itmc.domains.progress import Silent
    from itmc.errors import UsageError
    from tests.itmc.domains.tiny import TINY

    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    try:
        prepare(TINY.model_copy(update={"stored_size": 64}), ["photo"], Path(sys.argv[2]),
                Silent(), Path(sys.argv[1]))
    except UsageError as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_full_disk_is_said_in_one_line_and_what_was_there_stays(tmp_path: Path) -> None:
    root, store = many(tmp_path / "data"), tmp_path / "store"
    before = prepared(root, store)
    with python(LIMITED, root, store, 64 * 64 * 3 * 5) as process:
        out, err = process.communicate()
    assert err == "" and out.count("\n") == 1
    assert out.startswith(f"StoreError: the image store {str(store)!r} cannot be written (File too")
    assert "make room, or set ITMC_STORE" in out
    after = prepare(TINY, ["photo"], store, Silent())["photo"]
    assert after.digest == before.digest and np.array_equal(after.images[:], before.images[:])
    assert not list(store.rglob("*.part"))
    with python(LIMITED, root, store, 1 << 20) as process:
        assert process.communicate() == ("", "")
    assert prepare(TINY, ["photo"], store, Silent())["photo"].images.shape == (MANY, 64, 64, 3)


@pytest.mark.parametrize("store", ["file/store", "file"])
def test_a_store_that_cannot_be_made_is_a_store_error(store: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be written \(.*\); set ITMC_STORE to a folder"):
        prepared(many(tmp_path / "data"), tmp_path / store / "tiny")


def test_a_store_that_may_not_be_read_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exists(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(StoreError, match="Permission denied"):
        prepare(TINY, ["photo"], tmp_path / "store", Silent())
