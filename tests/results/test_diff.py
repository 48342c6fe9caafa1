"""``python -m results.diff`` as a user calls it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results import leaderboard
from results.diff import main
from tests.results.factory import TASKS, older, record, write

ROOT = Path(__file__).parents[2]


def runs(
    folder: Path, accuracies: dict[str, Sequence[float]], task: str = TASKS[0], **changed: Any
) -> str:
    """A folder of runs: each method's accuracies, seed by seed."""
    made = [
        record(method, task, seed=seed, accuracy=value, **changed)
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    return str(write(folder, *made))


def board(folder: str, file: Path) -> str:
    assert leaderboard.main([folder, "--out", str(file)]) == 0
    return str(file)


@pytest.fixture
def old(tmp_path: Path) -> str:
    return runs(tmp_path / "old", {"itmc": [80.0, 82.0, 84.0], "kd": [70.0, 71.0, 72.0]})


def rows_of(out: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["task"]): row for row in json.loads(out)["rows"]}


def test_a_leaderboard_and_its_runs_are_the_same(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = board(old, tmp_path / "old.csv")
    capsys.readouterr()
    for sides in ((old, file), (file, old), (file, file), (old, old)):
        assert main([*sides, "--tolerance", "0", "--fail-on", "any"]) == 0
        assert capsys.readouterr().out == "No row is worse by more than 0 points; 4 the same.\n"


def test_a_leaderboard_of_an_older_version_is_compared_all_the_same(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    present = board(old, tmp_path / "present.csv")
    before = str(older(Path(board(old, tmp_path / "before.csv"))))
    assert Path(before).read_text() != Path(present).read_text()
    for sides in ((before, present), (before, old), (present, before)):
        capsys.readouterr()
        assert main([*sides, "--tolerance", "0", "--fail-on", "any"]) == 0
        assert capsys.readouterr().out == "No row is worse by more than 0 points; 4 the same.\n"


def test_a_row_that_is_worse_fails_and_is_shown_with_its_interval(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = runs(tmp_path / "new", {"itmc": [79.0, 81.2, 82.8], "kd": [70.0, 71.0, 72.0]})
    assert main([board(old, tmp_path / "old.csv"), new]) == 1
    out = capsys.readouterr().out
    # Differences -1.0, -0.8, -1.2: sd 0.2, t of 2 degrees of freedom 4.303, half 0.497.
    (line,) = (line for line in out.splitlines() if "hand → print" in line)
    assert line.split("  ")[1] == "ITMC"
    assert "82.00 ± 2.00" in line
    assert "81.00 ± 1.91" in line
    assert "−1.00  −1.50 to −0.50  3 paired    worse" in line
    assert "\n2 rows are worse by more than 0.5 points; 2 the same.\n" in out
    assert "2 rows the same, not shown." in out
    assert "kd" not in out


def test_what_is_better_passes_and_everything_is_shown_on_demand(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = runs(tmp_path / "new", {"itmc": [82.0, 84.0, 86.1], "kd": [70.0, 71.0, 72.0]})
    assert main([old, new, "--all"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("No row is worse by more than 0.5 points; 2 better, 2 the same.\n")
    assert "kd" in out
    assert "not shown" not in out


def test_tolerance_and_fail_on_decide_the_exit_code(tmp_path: Path, old: str) -> None:
    worse = runs(tmp_path / "worse", {"itmc": [79.0, 81.0, 83.0], "kd": [70.0, 71.0, 72.0]})
    gone = runs(tmp_path / "gone", {"itmc": [80.0, 82.0, 84.0]})
    better = runs(tmp_path / "better", {"itmc": [81.0, 83.0, 85.0], "kd": [70.0, 71.0, 72.0]})
    assert main([old, worse]) == 1
    assert main([old, worse, "--tolerance", "1"]) == 0
    assert main([old, worse, "--tolerance", "0.99"]) == 1
    for new, codes in ((worse, (1, 1, 1)), (gone, (0, 1, 1)), (better, (0, 0, 1))):
        found = [main([old, new, "--fail-on", what]) for what in ("worse", "gone", "any")]
        assert tuple(found) == codes


def test_a_seed_that_is_gone_is_shown_and_counted(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = runs(tmp_path / "fewer", {"itmc": [80.0, 82.0, 84.0], "kd": [70.0, 71.0]})
    assert [main([old, fewer, "--fail-on", what]) for what in ("worse", "gone", "any")] == [0, 1, 1]
    capsys.readouterr()
    main([old, fewer])
    out = capsys.readouterr().out
    assert out.splitlines()[0].endswith("4 the same; 2 rows lost seeds.")
    assert out.count("2 paired, of 3 and 2") == 2
    # One more than there was is no loss, but not what it was either.
    assert [main([fewer, old, "--fail-on", what]) for what in ("gone", "any")] == [0, 1]


def test_exact_is_seed_by_seed_and_by_cost_but_not_by_the_clock(tmp_path: Path, old: str) -> None:
    swapped = runs(tmp_path / "swapped", {"itmc": [82.0, 80.0, 84.0], "kd": [70.0, 71.0, 72.0]})
    assert [main([old, swapped, "--fail-on", what]) for what in ("gone", "any")] == [0, 1]
    for place, (figure, value) in enumerate((("macs", 1_800_001), ("latency_ms", {}))):
        made = [
            record(name, TASKS[0], seed=seed, accuracy=accuracy)
            for name, first in (("itmc", 80.0), ("kd", 70.0))
            for seed, accuracy in enumerate(
                (first, first + (2 if first == 80 else 1), first + (4 if first == 80 else 2))
            )
        ]
        for run in made:
            run["cost"]["student"][figure] = value
        other = str(write(tmp_path / figure, *made))
        assert main([old, other, "--tolerance", "0", "--fail-on", "any"]) == 1 - place


def test_runs_that_failed_are_said(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old" / "broken").mkdir()
    (tmp_path / "old" / "broken" / "failure.json").write_text("{}")
    capsys.readouterr()
    assert main([old, old]) == 0
    assert f"not in {old}: 1 run failed" in capsys.readouterr().err


def test_a_loss_that_noise_could_explain_is_marked(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = runs(tmp_path / "new", {"itmc": [85.0, 76.0, 82.0], "kd": [70.0, 71.0, 72.0]})
    assert main([old, new]) == 1
    out = capsys.readouterr().out
    assert out.startswith("2 rows are worse by more than 0.5 points (2 within noise); 2 the same.")
    assert "worse, within noise" in out


def test_json_has_every_row_and_no_nan(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = runs(tmp_path / "new", {"itmc": [78.0], "dkd": [60.0, 61.0]})
    assert main([old, new, "--format", "json"]) == 1
    out = capsys.readouterr().out
    assert "NaN" not in out
    content = json.loads(out)
    assert content["counts"] == {"worse": 2, "better": 0, "same": 0, "new": 2, "gone": 2}
    found = rows_of(out)
    itmc = found["itmc", TASKS[0]]
    assert itmc["difference"] == {"mean": -2.0, "low": None, "high": None, "pairs": 1}
    assert (itmc["old"]["n"], itmc["new"]["n"], itmc["new"]["sd"]) == (3, 1, None)
    assert (itmc["new"]["macs"], itmc["compression"]) == (1_800_000, 0.5)
    assert (found["kd", "average"]["verdict"], found["kd", "average"]["new"]) == ("gone", None)
    assert (found["dkd", "average"]["verdict"], found["dkd", "average"]["old"]) == ("new", None)


def test_seeds_that_do_not_match_are_compared_unpaired(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [record("itmc", seed=seed, accuracy=90.0 + seed) for seed in (5, 6)]
    assert main([old, str(write(tmp_path / "new", *made))]) == 0
    assert "3 and 2, unpaired" in capsys.readouterr().out


def test_markdown_has_the_verdict_on_top_and_a_table_a_setting(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = runs(tmp_path / "new", {"itmc": [79.0, 81.0, 83.0], "kd": [70.0, 71.0, 72.0]})
    for folder in (old, new):
        runs(Path(folder), {"itmc": [60.0 if folder == old else 50.0]}, protocol="paper")
    file = tmp_path / "comment.md"
    assert main([old, new, "--format", "markdown", "--out", str(file)]) == 1
    assert capsys.readouterr().out == f"{file}\n"
    first, _, *others = file.read_text().splitlines()
    assert first == "**4 rows are worse by more than 0.5 points; 2 the same.**"
    assert sum(line.startswith("| method | task | old | new |") for line in others) == 2
    widths = {line.count("|") for line in others if line.startswith("|")}
    assert widths == {9}


def test_changes_of_cost_are_shown_though_the_accuracy_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record()
    heavier = json.loads(json.dumps(made))
    heavier["cost"]["student"]["macs"] = round(made["cost"]["student"]["macs"] * 1.2)
    sides = [write(tmp_path / "a", made), write(tmp_path / "b", heavier)]
    assert main([str(side) for side in sides]) == 0
    assert "MACs +20 %" in capsys.readouterr().out


def test_an_average_over_more_tasks_is_another_row(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new = runs(tmp_path / "new", {"itmc": [80.0, 82.0, 84.0], "kd": [70.0, 71.0, 72.0]})
    runs(Path(new), {"itmc": [20.0, 20.0, 20.0]}, TASKS[1])
    assert main([old, new]) == 0
    out = capsys.readouterr().out
    assert out.startswith("No row is worse by more than 0.5 points; 2 the same, 2 new, 2 gone.\n")
    assert "average over other tasks" in out


def test_folders_are_compared_by_the_selection_and_metric_asked(
    tmp_path: Path, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([old, old, "--select", "oracle", "--mean-class", "--format", "json"]) == 0
    found = rows_of(capsys.readouterr().out)["itmc", TASKS[0]]
    assert (found["selection"], found["metric"]) == ("oracle", "mean_class")
    assert found["new"]["mean"] == 81.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{old}"], ["NEW"]),
        (["{old}", "{tmp}/nowhere.csv"], ["nowhere.csv does not exist", "CSV"]),
        (["{old}", "{tmp}/empty"], ["empty", "no usable record"]),
        (["{tmp}/foreign.csv", "{old}"], ["foreign.csv", "not a leaderboard"]),
        (["{board}", "{tmp}/broken.csv"], ["broken.csv, line 4", "column mean", "'many'"]),
        (["{old}", "{tmp}/other"], ["no row in common", "backbone is digits_convnet in OLD"]),
        (["{board}", "{tmp}/none.csv"], ["none.csv, line 2", "column n", "from 1 on"]),
        (["{board}", "{board}", "--select", "last"], ["--select", "folders of runs"]),
        (["{old}", "{old}", "--select", "entropy"], ["entropy", "oracle"]),
        (["{old}", "{old}", "--tolerance", "-1"], ["--tolerance", "'-1'", "0 to 100"]),
        (["{old}", "{old}", "--tolerance", "nan"], ["--tolerance", "'nan'"]),
        (["{old}", "{old}", "--fail-on", "better"], ["better", "worse", "gone", "any"]),
        (["{old}", "{old}", "--format", "latex"], ["latex", "markdown", "json"]),
        (["{old}", "{old}", "--out", "{tmp}"], ["cannot write"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    tmp_path: Path,
    old: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    file = board(old, tmp_path / "board.csv")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign.csv").write_text("name,price\nbread,3\n")
    (tmp_path / "broken.csv").write_text(Path(file).read_text().replace("82.00", "many", 1))
    rows = list(csv.reader(Path(file).read_text().splitlines()))
    rows[1][rows[0].index("n")] = "0"
    (tmp_path / "none.csv").write_text("\n".join(map(",".join, rows)))
    network = {"backbone": "resnet50", "weights": "none", "bottleneck": 64}
    runs(tmp_path / "other", {"itmc": [80.0]}, network=network)
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([argument.format(old=old, tmp=tmp_path, board=file) for argument in arguments])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_the_module_leaves_with_the_verdict_though_nobody_reads_on(
    tmp_path: Path, old: str
) -> None:
    new = runs(tmp_path / "new", {"itmc": [70.0], "kd": [70.0, 71.0, 72.0]})
    command = [sys.executable, "-m", "results.diff", old, new]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("2 rows are worse")
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def grid(folder: Path, lower: float = 0.0, **changed: Any) -> str:
    """Two methods on three tasks, seeds 0 to 2; `lower`: points that the last task has less."""
    made = [
        record(
            method,
            task,
            seed=seed,
            accuracy=80.0 + seed - (lower if task == TASKS[2] else 0),
            finished=f"2026-11-2{2 + int(lower > 0)}T00:00:00+00:00",
            **changed,
        )
        for method in ("itmc", "kd")
        for task in TASKS[:3]
        for seed in range(3)
    ]
    return str(write(folder, *made))


def some(folder: Path, whole: str, methods: Sequence[str], tasks: Sequence[str], seed: int) -> str:
    """The runs of these methods, tasks and seed alone."""
    for path in Path(whole).iterdir():
        made = json.loads((path / "record.json").read_text())
        if made["method"]["name"] in methods and made["task"]["name"] in tasks:
            write(folder, *([made] if made["seed"] == seed else []))
    return str(folder)


def test_a_part_run_again_is_compared_over_its_own_tasks_and_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = board(grid(tmp_path / "whole"), tmp_path / "whole.csv")
    again = grid(tmp_path / "again", lower=6.0)
    new = some(tmp_path / "new", again, ["itmc"], TASKS[1:3], seed=1)
    capsys.readouterr()
    assert main([whole, new, "--part", "--format", "json"]) == 1
    found = rows_of(capsys.readouterr().out)
    # The average is over the two tasks of the one seed, on both sides.
    differences = {task: row["difference"]["mean"] for (_, task), row in found.items()}
    assert differences == {TASKS[1]: 0.0, TASKS[2]: -6.0, "average": -3.0}
    assert {row["difference"]["pairs"] for row in found.values()} == {1}
    assert found["itmc", "average"]["old"]["accuracies"] == [81.0]
    for tolerance, code in (("2.9", 1), ("3", 0)):
        assert main([whole, new, "--part", "--averages", "--tolerance", tolerance]) == code
    # Without --part, averages over other tasks are not of the same.
    with pytest.raises(SystemExit):
        main([whole, new, "--averages"])
    assert "no row in common" in capsys.readouterr().err


def test_a_part_that_was_never_run_before_is_no_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = grid(tmp_path / "whole")
    old = board(some(tmp_path / "old", whole, ["itmc", "kd"], TASKS[:2], 0), tmp_path / "old.csv")
    cases = {
        "itmc on hand->print, compression 0.5, seed 1 and 1 other run of NEW": (TASKS[:2], 1),
        "itmc on print->hand, compression 0.5, seed 0": (TASKS[1:3], 0),
    }
    for place, (words, (tasks, seed)) in enumerate(cases.items()):
        new = some(tmp_path / str(place), whole, ["itmc"], tasks, seed)
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([old, new, "--part"])
        assert left.value.code == 2
        assert capsys.readouterr().err.endswith(f"OLD has no run of {words}\n")
    other = grid(tmp_path / "other", training={"epochs": 9})
    with pytest.raises(SystemExit):
        main([old, other, "--part"])
    assert "epochs is None in OLD and 9 in NEW; setting is " in capsys.readouterr().err
