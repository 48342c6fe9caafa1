"""``python -m results.remake``: tables and plots again, from leaderboards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from results import compare, leaderboard, table
from results.remake import ALL, main
from tests.results.factory import TASKS, older, record, write

ROOT = Path(__file__).parents[2]
UNTUNED = ("hand->scene", "print->hand", "scene->print")
PLOTS = ("accuracy_vs_compression", "accuracy_vs_macs", "ablations")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with leaderboards, of which nothing is made yet."""
    folder = tmp_path / "results"
    for name, methods in {
        "digits": ("dan", "itmc", "kd"),
        "ablation": ("itmc", "tkd_only"),
        "office31_mobilenet_v2": ("dan", "itmc", "kd"),
        "office31_densenet121": ("dan", "itmc"),
    }.items():
        runs = tmp_path / name
        for seed in range(3):
            for place, method in enumerate(methods):
                share = 0.0 if method == "dan" else 0.5
                accuracy = 80.0 + seed * 1.7 - place * (1 + seed)
                for task in UNTUNED if name == "digits" else TASKS[:1]:
                    one = record(method, task, seed=seed, compression=share, accuracy=accuracy)
                    write(runs, one | {"suite": name})
        file = folder / "leaderboards" / f"{name}.csv"
        assert leaderboard.main([str(runs), "--out", str(file)]) == 0
    return folder


def test_it_makes_what_the_commands_make_of_the_runs(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(results)]) == 1
    assert capsys.readouterr().err.count("was not what") == 9
    written = {path.name for path in (results / "digits").iterdir()}
    comparisons = {f"comparison{of}.md" for of in ("", "_untuned", "_references")}
    tables = {"table.md", "ablation.md", *comparisons}
    assert written == tables | {f"{p}.png" for p in PLOTS}
    written = {path.name for path in (results / "office31").iterdir()}
    tables = {"mobilenet_v2.md", "densenet121.md", "comparison.md", "comparison_references.md"}
    assert written == tables | {"accuracy_vs_macs.png"}
    own = tmp_path / "own.md"
    to_own = ["--format", "markdown", "--out", str(own)]
    columns = ["--columns", "macs,parameters,effort"]
    for name, command, runs, options in (
        ("table", table.main, "digits", columns),
        ("comparison", compare.main, "digits", []),
        ("comparison_untuned", compare.main, "digits", ["--tasks", ",".join(UNTUNED)]),
        ("comparison_references", compare.main, "digits", ["--b", "references"]),
        ("ablation", compare.main, "ablation", []),
    ):
        assert command([str(tmp_path / runs), *options, *to_own]) == 0
        assert (results / "digits" / f"{name}.md").read_bytes() == own.read_bytes()
    # Images and MACs of training stand beside the accuracies.
    shown = (results / "digits" / "table.md").read_text()
    assert "| images seen | forward MACs | backward MACs |" in shown
    assert "| 64.0 k | 461 G | 461 G |" in shown


def test_a_table_that_was_another_fails_once_and_is_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(results)])
    assert main([str(results)]) == 0
    shown = results / "digits" / "comparison.md"
    whole = shown.read_text()
    shown.write_text(whole.replace("0", "1"))
    (results / "digits" / "ablations.png").unlink()
    capsys.readouterr()
    assert main([str(results)]) == 1
    board = results / "leaderboards" / "digits.csv"
    assert capsys.readouterr().err == f"{shown}: was not what {board} gives; it is now\n"
    assert shown.read_text() == whole
    assert (results / "digits" / "ablations.png").exists()


def test_what_a_leaderboard_of_an_older_version_cannot_give_is_left(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(results)])
    older(results / "leaderboards" / "digits.csv")
    shown = results / "digits" / "table.md"
    shown.write_text("as it was\n")
    capsys.readouterr()
    assert main([str(results)]) == 0
    assert f"{shown}: left as it is; " in capsys.readouterr().err
    assert shown.read_text() == "as it was\n"


def test_a_leaderboard_that_nothing_is_made_of_is_wrong_usage(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = results / "leaderboards" / "digits.csv"
    other = board.with_name("other.csv")
    other.write_bytes(board.read_bytes())
    with pytest.raises(SystemExit) as left:
        main([str(results)])
    assert left.value.code == 2
    assert f"{other}: nothing is made of it" in capsys.readouterr().err
    other.unlink()
    board.unlink()
    with pytest.raises(SystemExit) as left:
        main([str(results)])
    assert left.value.code == 2
    assert f"cannot read {board}" in capsys.readouterr().err


def test_all_leaderboards_here_are_made_something_of() -> None:
    here = {path.stem for path in (ROOT / "results" / "leaderboards").glob("*.csv")}
    assert {made.leaderboard for made in ALL} == here


def test_the_module_runs(results: Path) -> None:
    command = [sys.executable, "-m", "results.remake", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == str(results / "digits" / "table.md")
