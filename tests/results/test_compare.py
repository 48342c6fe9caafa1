"""``python -m results.compare`` as a user calls it, and its formats."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results import leaderboard
from results.compare import main
from results.differences import differences
from results.ranks import ranks
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


def lines_of(text: str) -> list[tuple[str, list[str]]]:
    """Label and cells of the lines of methods, in order."""
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line[:2] == "  "]
    return [(label, others) for label, *others in cells]


@pytest.mark.parametrize("kind", ["runs", "leaderboard"])
def test_only_the_tasks_that_are_asked_for_count(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = {"a->b": (80, 70), "b->a": (60, 63), "a->c": (50, 51)}
    runs = [
        record(method, task, seed=seed, accuracy=float(value + seed))
        for task, values in accuracies.items()
        for method, value in zip(("itmc", "kd"), values, strict=True)
        for seed in range(2)
    ]
    source = write(tmp_path / "runs", *runs)
    if kind == "leaderboard":
        assert leaderboard.main([str(source), "--out", str(tmp_path / "board.csv")]) == 0
        source = tmp_path / "board.csv"
    some, whole = (
        dict(lines_of(run(capsys, str(source), *options).split("average ranks")[0]))["kd"]
        for options in (["--tasks", "b->a, a->c"], [])
    )
    assert (some[:2], some[3]) == (["4", "2"], "−2.00")
    assert (whole[:2], whole[3]) == (["6", "3"], "+2.00")
    with pytest.raises(SystemExit):
        main([str(source), "--tasks", "b->a,b->d"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert "no run is of task b->d; there are: a->b, a->c, b->a" in told


def test_differences_stand_above_ranks_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(capsys, str(write(tmp_path, *grid())))
    above, below = out.split("\ndigits: average ranks")
    assert "ITMC minus each method, in points of target accuracy" in above
    assert "selection: last epoch" in above
    assert "Above 0, and won: ITMC is ahead." in above
    lines = dict(lines_of(above))
    # pairs, tasks, seeds, difference, the interval, won/tied/lost, p, p (Holm)
    assert lines["kd"] == (["3", "1", "3", "+9.00", "[+8.00, +10.00]", "3/0/0", "0.250", "0.750"])
    assert lines["itmc fixed"] == (
        ["3", "1", "3", "+0.00", "[−1.00, +1.00]", "1/1/1", "1.000", "1.000"]
    )
    assert lines["tcp"] == ["3", "1", "3", "−2.00", "—", "0/0/3", "0.250", "0.750"]
    assert lines["mobileda"] == ["0", *["—"] * 7]
    assert "1 row without a pair in common" in above
    assert "1 row whose differences are all alike" in above
    assert "With 3 pairs p is 0.25 at least, and no interval covers more than 75 %." in above
    assert "nan" not in out
    # Of ITMC and its ablation each is once above the other, and once they share a rank.
    assert lines_of(below)[1:] == [
        ("tcp", ["1.00", "1"]),
        ("ITMC", ["2.50", "1 2"]),
        ("itmc fixed", ["2.50", "1 2"]),
        ("kd", ["4.00", "2"]),
    ]
    assert re.search(r"3 blocks, Friedman p = 0\.\d{3}, CD = 2\.71", below)
    assert "without mobileda, which more than half of the blocks lack" in below


def test_csv_has_a_line_a_method_with_differences_and_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(capsys, str(write(tmp_path, *grid())), "--format", "csv", "--confidence", "0.5")
    rows = {row["b"]: row for row in csv.DictReader(io.StringIO(out))}
    records = read([tmp_path])
    (made,) = differences(records, confidence=0.5)
    (ranked,) = ranks(records, confidence=0.5)
    assert list(rows) == [row.method for _, block in made.blocks for row in block]
    (kd,) = (row for _, block in made.blocks for row in block if row.method == "kd")
    row = rows["kd"]
    assert [row[key] for key in ("a", "difference", "won", "tied", "lost", "pairs", "blocks")] == (
        ["itmc", "9.0000", "3", "0", "0", "3", "3"]
    )
    assert float(row["low"]) == pytest.approx(kd.low, abs=1e-4)
    assert float(row["p"]) == pytest.approx(kd.p, rel=1e-3)
    assert float(row["friedman_p"]) == pytest.approx(ranked.p, rel=1e-3)
    assert float(row["critical_difference"]) == pytest.approx(ranked.critical, abs=1e-4)
    assert (row["rank_a"], row["rank_b"], row["confidence"]) == ("2.5000", "4.0000", "0.5")
    assert [rows["tcp"][key] for key in ("difference", "low", "p")] == ["-2.0000", "", "0.25"]
    assert [rows["mobileda"][key] for key in ("pairs", "difference", "rank_b")] == ["0", "", ""]


def test_latex_and_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *grid(), record("kd", compression=0.75), record(compression=0.75))
    text = run(capsys, str(tmp_path), "--format", "latex", "--confidence", "0.9")
    assert text.isascii()
    assert r"90 \% interval" in text
    columns = [
        len(re.findall(r"(?<!\\)&", line))
        for line in text.splitlines()
        if line.endswith(r"\\") and "multicolumn" not in line
    ]
    assert set(columns) == {8, 2}
    text = run(capsys, str(tmp_path), "--format", "markdown")
    above, below = text.split("average ranks")
    assert len({line.count("|") for line in above.splitlines() if line[:1] == "|"}) == 1
    assert "| ITMC |" not in above  # no row for a itself
    assert "| ITMC | 2.50 | 1 2 |" in below
    assert "75 % of MACs to be removed: no two methods share two blocks, so no ranks." in below


def test_another_a_and_b_selection_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "runs", *grid())
    file = tmp_path / "new" / "differences.md"
    out = run(
        capsys,
        *(str(tmp_path / "runs"), "--a", "kd", "--b", "tcp, itmc", "--select", "oracle"),
        *("--mean-class", "--format", "markdown", "--out", str(file)),
    )
    assert out == f"{file}\n"
    text = file.read_text()
    assert "kd minus each method, in points of target accuracy, mean over classes" in text
    assert "selection: oracle" in text
    assert "| ITMC | 3 | 1 | 3 | −9.00 |" in text
    assert "| kd | 3.00 |" in text
    assert "fixed" not in text


def test_b_all_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *grid())
    every = run(capsys, str(tmp_path))
    assert run(capsys, str(tmp_path), "--a", "itmc", "--b", "all") == every
    assert run(capsys, str(tmp_path), "--b", "itmc_fixed,kd,tcp,mobileda") == every


def test_references_stand_beside_each_compression_and_have_no_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a student can be seen to be as good as the unpruned network."""
    at_half = [record(seed=seed, accuracy=70 + seed) for seed in range(3)]
    at_most = [record(seed=seed, accuracy=60.5, compression=0.75) for seed in range(3)]
    references = [
        record(method, seed=seed, compression=0.0, accuracy=accuracy + 2 * seed)
        for method, accuracy in (("dan", 66), ("source_only", 60))
        for seed in range(3)
    ]
    kd = [record("kd", seed=seed, accuracy=50 + 2 * seed) for seed in range(3)]
    write(tmp_path, *at_half, *at_most, *references, *kd)

    out = run(capsys, str(tmp_path), "--b", "references")
    rows = lines_of(out)[1:]  # below the head
    assert [(label, cells[3]) for label, cells in rows] == [
        ("source only", "+9.00"),
        ("dan", "+3.00"),
        ("source only", "−1.50"),
        ("dan", "−7.50"),
    ]
    assert dict(rows[:2])["dan"] == (
        ["3", "1", "3", "+3.00", "[+2.00, +4.00]", "3/0/0", "0.250", "0.500"]
    )
    assert "average rank" not in out and "kd" not in out
    assert "Uncompressed, with the same runs beside each compression: source only, dan." in out

    beside, ranked = run(capsys, str(tmp_path), "--b", "all,dan").split("average ranks")
    assert [label for label, _ in lines_of(beside)][1:] == ["dan", "kd", "dan", "kd"]
    assert "kd" in ranked and "dan" not in ranked
    text = run(capsys, str(tmp_path), "--b", "dan", "--format", "csv")
    (half, most) = csv.DictReader(io.StringIO(text))
    assert (half["b"], half["group_b"], half["difference"]) == ("dan", "references", "3.0000")
    assert (half["rank_b"], most["compression"], most["difference"]) == ("", "0.75", "-7.5000")


def test_a_variant_is_named_with_the_commas_in_its_brackets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [record(seed=seed) for seed in (0, 1)]
    for tau, rate in ((2, 0.1), (4, 0.2)):
        for seed in (0, 1):
            run_ = record("kd", seed=seed, accuracy=70.0 + tau * seed)
            made.append(run_ | {"method": run_["method"] | {"knobs": {"rate": rate, "tau": tau}}})
    for number, one in enumerate(made):
        one["run"] = f"{number:03}"
    out = run(capsys, str(write(tmp_path, *made)), "--b", "kd[rate=0.1, tau=2]")
    assert "kd (rate=0.1, tau=2)" in out
    assert "tau=4" not in out


def test_settings_without_a_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *grid(), record("kd", suite="office31"), record("tcp", suite="office31"))
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "office31" not in out
    assert err.startswith("no differences from itmc in office31: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--a", "itcm"], ["--a 'itcm'", "itmc, itmc_fixed, kd, mobileda, tcp"]),
        (["--a", "dan"], ["--a 'dan'", "compressed are", "itmc"]),
        (["--a", "references"], ["--a 'references'", "compressed are"]),
        (["--b", "kd,dkd"], ["--b 'dkd'", "no such method", "itmc_fixed", "references are: dan"]),
        (["--b", "kd,,tcp"], ["--b '': no such method"]),
        (["--b", "kd,itmc"], ["--b 'itmc'", "the same as --a"]),
        (["--b", ""], ["--b '': no such method"]),
        (["--confidence", "1"], ["--confidence", "'1' is not a number above 0 and up to 0.999"]),
        (["--confidence", "0.9999999999999999"], ["up to 0.999"]),
        (["--confidence", "0"], ["'0' is not"]),
        (["--confidence", "nan"], ["'nan' is not"]),
        (["--confidence", "most"], ["'most' is not"]),
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
def test_a_alone_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], records: list[dict[str, Any]]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(write(tmp_path, *records))])
    assert left.value.code == 2
    assert "another compressed method beside it" in capsys.readouterr().err


def test_the_module_runs_and_needs_neither_torch_nor_a_drawing_library(tmp_path: Path) -> None:
    write(tmp_path, *grid())
    command = [sys.executable, "-m", "results.compare", str(tmp_path), "--a", "itmc", "--b", "all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ITMC minus each method" in done.stdout
    for arguments, heavy in (
        ([str(tmp_path)], {"torch", "matplotlib", "seaborn", "itmc", "baselines", "suites"}),
        (["--help"], {"torch", "matplotlib", "seaborn", "scipy"}),
    ):
        code = (
            "import sys; from results.compare import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit: pass\n"
            f"print({{name.partition('.')[0] for name in sys.modules}} & {heavy})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "set()"
