"""What commands share: where output goes and what keeps it from there, errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from results import compare, diff, leaderboard, plot, report, table
from results.command import Parser, guarded, say, show, split_names, write_whole
from results.records import ResultsError
from tests.results.factory import record, write

ROOT = Path(__file__).parents[2]
COMMANDS = (compare, diff, leaderboard, plot, report, table)


def runs(folder: Path, label: str = "ITMC") -> str:
    """A folder of runs, one of which is damaged."""
    made = [record(), record("kd"), record("kd", seed=1)]
    made[0]["method"]["label"] = label
    write(folder, *made)
    (folder / made[-1]["run"] / "record.json").write_text("{")
    return str(folder)


def command(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """A command that runs as a module."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("old", "new"):
        link = tmp_path / f"link_{name}"
        link.symlink_to(tmp_path / "there" / name)
    (tmp_path / "there" / "old").write_text("before")
    for name in ("old", "new"):
        write_whole(tmp_path / f"link_{name}", b"after")
        assert (tmp_path / f"link_{name}").is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == b"after"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["new", "old"]


def test_a_pipe_takes_the_content_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        got: list[bytes] = []
        reader = threading.Thread(target=lambda got=got: got.append(pipe.read_bytes()), daemon=True)
        reader.start()
        write_whole(path, b"content")
        reader.join(10)
        assert got == [b"content"]
        assert pipe.is_fifo()


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "x" / "y"):
        with pytest.raises(ResultsError, match=r"file/x.*: .*/file is a file, no folder$"):
            write_whole(path, b"")
    with pytest.raises(ResultsError, match="Is a directory"):
        write_whole(tmp_path, b"")
    assert (tmp_path / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("arguments", [["--format", "csv"], [], ["--out", "{tmp}/table"]])
def test_a_full_disk_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    asked = [argument.format(tmp=tmp_path) for argument in arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "results.table", runs(tmp_path / "runs"), *asked],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "python -m results.table: cannot write to standard output: No space left on device\n"
    )


def test_without_a_standard_output_files_are_written_and_the_verdict_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runs(tmp_path / "runs")
    monkeypatch.setattr(sys, "stdout", None)
    assert diff.main([found, found]) == 0
    assert leaderboard.main([found, "--out", str(tmp_path / "board.csv")]) == 0
    assert (tmp_path / "board.csv").read_text().startswith("suite,")


@pytest.mark.parametrize("name", ["plot", "report", "leaderboard", "table"])
def test_nobody_need_read_the_paths_of_what_was_written(tmp_path: Path, name: str) -> None:
    options = ["--kind", "compression"] if name == "plot" else []
    out = tmp_path / "out"
    process = command(f"results.{name}", runs(tmp_path / "runs"), "--out", str(out), *options)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(60) == 0
    assert out.exists()
    assert all("left out" in line for line in said.splitlines())


@pytest.mark.parametrize(
    ("arguments", "exact"),
    [
        (["results.table", "{runs}", "--format", "csv"], True),
        (["results.table", "{runs}", "--format", "html"], True),
        (["results.leaderboard", "{runs}"], True),
        (["results.diff", "{runs}", "{runs}", "--format", "json"], True),
        (["results.table", "{runs}"], False),
        (["results.table", "{runs}", "--format", "markdown"], False),
    ],
)
def test_what_programs_read_is_utf_8_in_any_locale(
    tmp_path: Path, arguments: list[str], exact: bool
) -> None:
    label = "日本語 é"
    found = runs(tmp_path, label)
    asked = [argument.format(runs=found) for argument in arguments]
    process = command(*asked, PYTHONIOENCODING="ascii")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    shown = out.decode("utf-8" if exact else "ascii")
    if "json" in asked:
        assert label in {row["label"] for row in json.loads(shown)["rows"]}
    elif "--format" in asked and "csv" in asked:
        assert shown.startswith("suite,")
    else:
        assert (label if exact else "??? ?") in shown


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.__name__)
def test_wrong_usage_is_one_line_also_where_records_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], module: object
) -> None:
    found = runs(tmp_path / "runs")
    sides = [found] if module is diff else []
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        module.main([found, *sides, "--out", str(tmp_path / "file" / "x")])  # type: ignore[attr-defined]
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "cannot write" in err


def test_what_is_left_out_is_said_once_the_command_has_succeeded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main([runs(tmp_path)]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("python -m results.table: left out ")


def test_a_refusal_of_the_system_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body() -> int:
        raise OSError(5, "Input/output\nerror", "a file")

    with pytest.raises(SystemExit) as left:
        guarded(Parser(prog="here"), body)
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("here: ")
    assert err.count("\n") == 1
    assert "Input/output" in err


def test_without_a_standard_error_the_exit_code_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as left:
        Parser(prog="here").error("no such thing")
    assert left.value.code == 2


def test_what_is_said_is_one_line_that_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    say("a name\nof two\r\x1b[2Jlines")
    assert capsys.readouterr().err == "a name of two [2Jlines\n"


def test_half_a_character_does_not_keep_the_rest_back(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    show("a\ud800é\n", for_program=True)
    assert capfdbinary.readouterr().out == "a?é\n".encode()


def test_names_are_split_at_commas_outside_brackets() -> None:
    assert split_names("kd, itmc[s=q, tau=2],tcp") == ("kd", "itmc[s=q, tau=2]", "tcp")
    assert split_names("") == ("",)
