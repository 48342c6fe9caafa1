"""Files that are either whole or absent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from itmc.files import atomic, remove_unfinished, write_atomic


def broken(*_: object) -> None:
    raise OSError("disk full")


def test_content_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for content in (b"first", b"", b"second \x00 one"):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, step, broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new, and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_first_write_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(tmp_path / "record.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_cleans_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "record.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / "record.json", b"{}")
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o644


def test_a_missing_folder_is_an_error_not_a_new_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "gone" / "record.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_what_was_replaced_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for content, before in ((b"1", None), (b"2", b"1"), (b"3", b"2")):
        with atomic(new, before=old) as file:
            file.write(content)
            assert new.exists() == (before is not None)  # nothing moves before all is written
        assert new.read_bytes() == content
        assert old.exists() == (before is not None)
        assert before is None or old.read_bytes() == before


def test_what_a_killed_process_had_begun_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "record.json", b"whole")
    (tmp_path / ".lease").write_bytes(b"another's")
    pid = os.fork()
    if pid == 0:
        with atomic(tmp_path / "record.json") as file:
            file.write(b"begun")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(list(tmp_path.iterdir())) == 3
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"record.json", ".lease"}
    assert (tmp_path / "record.json").read_bytes() == b"whole"
