"""What commands share: how they end, and what they refuse to write to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from itmc.errors import UsageError
from suites import run, tune
from suites.command import FAILED, exit_code
from suites.outputs import check_file, check_place, check_writable
from tests.suites.conftest import REPOSITORY

SCRIPT = """
import sys
from suites.command import exit_code

def command():
    sys.stdin.read()  # until the reader of what follows is gone
    print("word " * {words})
    return 1

sys.exit(exit_code("a command", command))
"""


@pytest.mark.parametrize("words", [1, 100_000])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_failure(words: int, unbuffered: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(words=words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    # Of a command that could say all, as far as it knew, the code is its own.
    assert process.wait() == (FAILED if words == 1 and not unbuffered else 0)


def test_another_broken_pipe_is_an_error() -> None:
    def command() -> int:
        raise BrokenPipeError("of a worker")

    with pytest.raises(BrokenPipeError, match="of a worker"):
        exit_code("a command", command)


@pytest.mark.parametrize("main", [run.main, tune.main])
def test_a_dry_run_refuses_the_out_that_a_real_one_does(
    main: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        words = ["digits", "--methods", "kd", "--dry-run", "--out", str(tmp_path / out)]
        assert callable(main) and main(words) == 2
        assert f"{out}' cannot be written: Not a directory; choose" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_what_can_be_made_is_a_place_and_is_not_made(tmp_path: Path) -> None:
    check_place(tmp_path / "some" / "where")
    assert not (tmp_path / "some").exists()
    check_writable(tmp_path / "some" / "where")
    assert list((tmp_path / "some" / "where").iterdir()) == []


def test_a_file_is_one_that_can_be_written(tmp_path: Path) -> None:
    check_file("--out", None)
    check_file("--out", tmp_path / "new.md")
    (tmp_path / "old.md").touch()
    check_file("--out", tmp_path / "old.md")
    for path, said in (
        (tmp_path, "is no file; name one"),
        (Path("/dev/null"), "is no file; name one"),
        (tmp_path / "no" / "new.md", "does not exist; make it"),
        (Path("/proc/new.md"), "cannot be written"),  # by nobody, not even root
    ):
        with pytest.raises(UsageError, match=said):
            check_file("--out", path)
    assert list(tmp_path.iterdir()) == [tmp_path / "old.md"]
