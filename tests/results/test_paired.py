"""``python -m results.paired`` as a user calls it, and its formats."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results.differences import differences
from results.paired import main
from results.records import read
from tests.results.factory import record, write

ROOT = Path(__file__).parents[2]


def grid() -> list[dict[str, Any]]:
    """ITMC, an ablation that is a little worse, a baseline that is much worse, one alike."""
    lead = {"itmc": (0, 0, 0), "itmc_fixed": (-1, 0, 1), "kd": (-9, -8, -10), "tcp": (2, 2, 2)}
    return [
        record(method, seed=seed, accuracy=70 + seed + lead[method][seed])
        for method in lead
        for seed in range(3)
    ] + [record("mobileda", seed=7)]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, str(write(tmp_path, *grid())))
    assert "difference from ITMC in points of target accuracy" in out
    assert "selection: last epoch" in out
    lines = {line.split("  ")[1]: line.split() for line in out.splitlines() if line[:2] == "  "}
    # pairs, tasks, seeds, difference, the interval's two ends, won/tied/lost, p, p (Holm)
    assert lines["kd"][1:] == (
        ["3", "1", "3", "−9.00", "[−11.48,", "−6.52]", "0/0/3", "0.004", "0.008"]
    )
    assert lines["itmc fixed"][2:] == (
        ["3", "1", "3", "+0.00", "[−2.48,", "+2.48]", "1/1/1", "1.000", "1.000"]
    )
    assert lines["tcp"][1:] == ["3", "1", "3", "+2.00", "—", "3/0/0", "—", "—"]
    assert lines["mobileda"][1:] == ["0", *["—"] * 7]
    assert "1 row without a pair in common" in out
    assert "1 row whose differences are all alike" in out
    assert "nan" not in out


def test_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, str(write(tmp_path, *grid())), "--format", "csv", "--confidence", "0.5")
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(out))}
    (made,) = differences(read([tmp_path]), confidence=0.5)
    assert list(rows) == [row.method for _, block in made.blocks for row in block]
    (kd,) = (row for _, block in made.blocks for row in block if row.method == "kd")
    assert {rows["kd"][key] for key in ("difference", "won", "tied", "lost", "pairs")} == {
        *("-9.0000", "0", "3")
    }
    assert float(rows["kd"]["low"]) == pytest.approx(kd.low, abs=1e-4)
    assert float(rows["kd"]["p"]) == pytest.approx(kd.p, rel=1e-3)
    assert (rows["kd"]["reference"], rows["kd"]["confidence"]) == ("itmc", "0.5")
    assert [rows["tcp"][key] for key in ("difference", "low", "p", "p_holm")] == (
        ["2.0000", "", "", ""]
    )
    assert [rows["mobileda"][key] for key in ("pairs", "difference")] == ["0", ""]


def test_latex_and_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *grid(), record("kd", compression=0.75), record(compression=0.75))
    text = run(capsys, str(tmp_path), "--format", "latex", "--confidence", "0.9")
    assert text.isascii()
    assert r"90 \% interval" in text
    assert re.findall(r"\\(\w+rule)\b", text) == ["toprule", *["midrule"] * 2, "bottomrule"]
    for line in text.splitlines():
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 8
    text = run(capsys, str(tmp_path), "--format", "markdown")
    lines = [line for line in text.splitlines() if line[:1] == "|"]
    assert len({line.count("|") for line in lines}) == 1
    assert "| ITMC |" not in text  # no row for the reference itself


def test_another_reference_selection_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "runs", *grid())
    file = tmp_path / "new" / "differences.md"
    out = run(
        capsys,
        *(str(tmp_path / "runs"), "--reference", "kd", "--select", "oracle", "--mean-class"),
        *("--format", "markdown", "--out", str(file)),
    )
    assert out == f"{file}\n"
    text = file.read_text()
    assert "difference from kd in points of target accuracy, mean over classes" in text
    assert "selection: oracle" in text
    assert "| ITMC | 3 | 1 | 3 | +9.00 |" in text


def test_settings_without_the_reference_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *grid(), record("kd", suite="office31"), record("tcp", suite="office31"))
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "office31" not in out
    assert err.startswith("no differences from itmc in office31: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reference", "itcm"], ["itcm", "itmc", "itmc_fixed", "kd", "mobileda", "tcp"]),
        (["--reference", "dan"], ["dan", "compressed are", "itmc"]),
        (["--confidence", "1"], ["--confidence", "1 is not a number between 0 and 1"]),
        (["--confidence", "nan"], ["nan is not"]),
        (["--confidence", "most"], ["most is not"]),
        (["--select", "best"], ["best", "last"]),
        (["--out", "."], ["cannot write"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    write(tmp_path, *grid(), record("dan", compression=0.0))
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), *arguments])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize("records", [[record()], [record(), record("kd", suite="other")]])
def test_a_reference_alone_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], records: list[dict[str, Any]]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(write(tmp_path, *records))])
    assert left.value.code == 2
    assert "no other compressed method" in capsys.readouterr().err


def test_it_needs_neither_torch_nor_a_drawing_library(tmp_path: Path) -> None:
    write(tmp_path, *grid())
    code = (
        "import sys; from results.paired import main; main(sys.argv[1:]);"
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
