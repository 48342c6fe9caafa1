"""``python -m results.table`` as a user calls it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from results.table import main
from tests.results.factory import record, write

ROOT = Path(__file__).parents[2]


def test_command_prints_names_the_damaged_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "runs", record(), broken := record(seed=1))
    (tmp_path / "runs" / broken["run"] / "record.json").write_text("{")
    assert main([str(tmp_path / "runs"), "--select", "oracle", "--mean-class"]) == 0
    out, err = capsys.readouterr()
    assert "79.0" in out
    assert "oracle" in out
    assert "1 run left out" in out
    assert broken["run"] in err
    file = tmp_path / "new" / "table.csv"
    assert main([str(tmp_path / "runs"), "--format", "csv", "--out", str(file)]) == 0
    assert file.read_text().startswith("suite,protocol,")


def test_one_compression_and_what_is_not_compressed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *(record(compression=share) for share in (0.5, 0.75, 0.9)))
    write(tmp_path, record("dan", compression=0.0))
    assert main([str(tmp_path), "--compression", "0.5,0.9"]) == 0
    titles = re.findall(r"^(\S+.*) MACs to be removed$", capsys.readouterr().out, re.MULTILINE)
    assert titles == ["50 % of", "90 % of"]
    assert main([str(tmp_path), "--compression", "0.75", "--by", "selection"]) == 0
    out = capsys.readouterr().out
    assert "75 % of MACs" in out and "Uncompressed" in out and "50 %" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{runs}/nowhere"], ["nowhere", "does not exist"]),
        (["{runs}/empty"], ["empty", "no usable record"]),
        (["{runs}", "--select", "best"], ["best", "last", "source_validation"]),
        (["{runs}", "--format", "pdf"], ["pdf", "latex"]),
        (["{runs}", "--out", "{runs}"], ["cannot write"]),
        (["{runs}", "--out", "{runs}/file/table.md"], ["cannot write", "file/table.md"]),
        (["{runs}", "--compression", "0.6"], ["no run removes 0.6", "runs at: 0.5"]),
        (["{runs}", "--compression", "half"], ["half", "such as 0.5,0.75"]),
        ([], ["RUNS"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    write(tmp_path, record())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        main([argument.format(runs=tmp_path) for argument in arguments])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_as_a_module_a_missing_directory_is_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "results.table", str(tmp_path / "nowhere")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"python -m results\.table: .*nowhere does not exist.*\n", done.stderr)


def test_table_needs_neither_torch_nor_a_drawing_library(tmp_path: Path) -> None:
    write(tmp_path, record())
    code = (
        "import sys; from results.table import main; main(sys.argv[1:]);"
        "print({name.partition('.')[0] for name in sys.modules}"
        " & {'torch', 'matplotlib', 'seaborn', 'itmc', 'baselines', 'suites'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"
