"""Tables, comparisons and plots of a leaderboard, which are those of the runs it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from results import compare, diff, leaderboard, plot, table
from tests.results.factory import TASKS, older, record, write

Capture = pytest.CaptureFixture[str]
Command = Callable[[Sequence[str]], int]


def run(method: str, task: str, seed: int, compression: float, **changed: Any) -> dict[str, Any]:
    """A record whose accuracy and costs are like no other's."""
    noise = sum(map(ord, f"{method}{task}")) * 31 + seed * 17 + round(100 * compression) * 7
    made = record(
        *(method, task),
        seed=seed,
        compression=compression,
        accuracy=50 + noise % 4001 / 100,
        **{"finished": f"2026-11-22T14:{seed:02d}:00+00:00"} | changed,
    )
    made["cost"]["student"]["macs"] += noise % 977
    made["cost"]["student"]["parameters"] += noise % 101
    made["cost"]["student"]["latency_ms"] = {
        "threads": 1,
        "batch_1": {"p50": 0.3 + noise % 89 / 1000},
        "batch_32": {"p50": 3.0 + noise % 83 / 100},
    }
    if compression:
        made["compression"]["reached"] = compression + noise % 97 / 9001
    for name in ("images", "forward_macs", "backward_macs"):
        made["effort"][name] += noise % 71
    return made


def grid(**changed: Any) -> list[dict[str, Any]]:
    cells = [("source_only", 0.0), ("dan", 0.0)]
    cells += [(m, c) for m in ("itmc", "kd", "tkd_only") for c in (0.5, 0.75)]
    # The tasks are not in the order of their names: that of the suite counts.
    return [
        run(method, task, seed, compression, **changed)
        for method, compression in cells
        for task in (TASKS[4], TASKS[1], TASKS[0])
        for seed in range(3)
    ]


def variants() -> list[dict[str, Any]]:
    """ITMC and a reference in two variants, another number of seeds, and two settings."""
    made = grid()
    for value in (1, 2):
        for task in (TASKS[0], TASKS[1]):
            for name, share in (("itmc", 0.5), ("mcc", 0.0)):
                one = run(name, task, value, share, training={"epochs": 9, "lr": 0.1})
                one["method"]["knobs"] = {"tau": value, "criterion": "l2"}
                one["run"] += str(value)
                made.append(one)
            made.append(run("kd", task, 1, 0.5, training={"epochs": 9, "lr": 0.1 * value}))
            made.append(run("itmc", task, 1, 0.75, training={"epochs": 9, "lr": 0.1 * value}))
    return made


def several_machines() -> list[dict[str, Any]]:
    made = grid()
    for place, one in enumerate(made):
        one["environment"]["device"] = "A GPU" if place % 3 else "cpu"
        one["environment"]["core_version"] = 4 + place % 2
    return made


def two_editions() -> list[dict[str, Any]]:
    newer = {"finished": "2026-11-23T00:00:00+00:00", "dataset": {"name": "digits", "digest": "1"}}
    return [*grid(), *(one for one in grid(**newer) if one["seed"] == 0)]


def gaps() -> list[dict[str, Any]]:
    """Cells without a seed or a task, and figures that the record lacks."""
    made = [one for place, one in enumerate(grid()) if place % 11]
    for one in made[::5]:
        one["effort"] = None
        one["cost"]["student"]["latency_ms"] = None
    return made


CASES = {case.__name__: case for case in (grid, variants, several_machines, two_editions, gaps)}


@pytest.fixture(params=CASES)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A folder of runs and its leaderboard."""
    runs = str(write(tmp_path / "runs", *CASES[request.param]()))
    return runs, board(runs, tmp_path / "board.csv")


def board(runs: str, file: Path, *options: str) -> str:
    assert leaderboard.main([runs, "--out", str(file), *options]) == 0
    return str(file)


def shown(command: Command, options: Sequence[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert command(options) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("form", ["markdown", "csv", "html"])
def test_tables_are_those_of_the_runs(both: tuple[str, str], form: str, capsys: Capture) -> None:
    options = ("--columns", "macs,parameters,activations,size,latency,effort", "--format", form)
    runs, file = (shown(table.main, [side, *options], capsys) for side in both)
    assert file == runs


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_comparisons_are_those_of_the_runs(
    both: tuple[str, str], form: str, capsys: Capture
) -> None:
    runs, file = (shown(compare.main, [side, "--format", form], capsys) for side in both)
    assert file == runs


def test_plots_are_those_of_the_runs_to_the_byte(tmp_path: Path) -> None:
    runs = str(write(tmp_path / "runs", *grid()))
    sides = {"runs": runs, "file": board(runs, tmp_path / "board.csv")}
    kinds = ["--kind", "compression,tasks,macs,latency,ablations,ranks", "--format", "svg"]
    drawn = []
    for name, side in sides.items():
        out = tmp_path / f"{name}_plots"
        assert plot.main([side, *kinds, "--out", str(out)]) == 0
        drawn.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 7


def test_one_compression_of_a_leaderboard_is_that_of_the_runs(
    tmp_path: Path, capsys: Capture
) -> None:
    runs = str(write(tmp_path / "runs", *grid()))
    sides = (runs, board(runs, tmp_path / "board.csv"))
    tables = [shown(table.main, [side, "--compression", "0.75"], capsys) for side in sides]
    assert tables[0] == tables[1]
    assert "50 % of MACs" not in tables[1]


def test_several_leaderboards_make_one_table(tmp_path: Path, capsys: Capture) -> None:
    runs = [grid(), grid(suite="other")]
    folders = [str(write(tmp_path / str(place), *made)) for place, made in enumerate(runs)]
    boards = [board(folder, tmp_path / f"{place}.csv") for place, folder in enumerate(folders)]
    assert shown(table.main, boards, capsys) == shown(table.main, folders, capsys)
    refused(table.main, [boards[0], boards[0]], "stand in another of the leaderboards", capsys)
    refused(table.main, [boards[0], folders[1]], "is a leaderboard and", capsys)


def test_the_accuracies_are_those_it_was_made_by(tmp_path: Path, capsys: Capture) -> None:
    runs = str(write(tmp_path / "runs", *grid()))
    choice = ("--select", "oracle", "--mean-class")
    file = board(runs, tmp_path / "board.csv", *choice)
    assert shown(table.main, [file], capsys) == shown(table.main, [runs, *choice], capsys)
    assert shown(table.main, [file, *choice], capsys) == shown(table.main, [file], capsys)
    refused(table.main, [file, "--select", "last"], "by oracle, not by last", capsys)
    usual = board(runs, tmp_path / "usual.csv")
    refused(table.main, [usual, "--mean-class"], "by overall, not by mean_class", capsys)


def test_what_a_leaderboard_does_not_tell_is_refused(tmp_path: Path, capsys: Capture) -> None:
    file = board(str(write(tmp_path / "runs", *grid())), tmp_path / "board.csv")
    refused(table.main, [file, "--by", "selection"], "give the runs", capsys)
    out = ["--out", str(tmp_path / "plots")]
    for kind in ("curves", "widths"):
        refused(plot.main, [file, "--kind", kind, *out], "has no histories or widths", capsys)
    # Where it was not asked for, it is only said.
    assert plot.main([file, "--format", "svg", *out]) == 0
    assert "not drawn: curves: a leaderboard has no histories" in capsys.readouterr().err


def test_a_leaderboard_whose_tasks_do_not_give_its_averages_is_refused(
    tmp_path: Path, capsys: Capture
) -> None:
    file = Path(board(str(write(tmp_path / "runs", *grid())), tmp_path / "board.csv"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if ",kd,kd,hand->print," not in line))
    refused(table.main, [str(file)], "lines are missing", capsys)
    file.write_text("\n".join(line for line in lines if ",average," not in line))
    refused(table.main, [str(file)], "the grid was not finished", capsys)


def test_a_leaderboard_of_averages_only_is_refused(tmp_path: Path, capsys: Capture) -> None:
    file = Path(board(str(write(tmp_path / "runs", *grid())), tmp_path / "board.csv"))
    head, *lines = file.read_text().splitlines()
    averages = tmp_path / "averages.csv"
    averages.write_text("\n".join([head, *(line for line in lines if ",average," in line)]))
    words = "averages only: the rows of their tasks are missing"
    for command in (table.main, compare.main, plot.main):
        refused(command, [str(averages)], f"{averages} has {words}", capsys)
    for sides in ([file, averages], [averages, file]):
        refused(diff.main, [*map(str, sides), "--part"], words, capsys)


def test_one_of_an_older_version_gives_what_it_has_and_says_so(
    tmp_path: Path, capsys: Capture
) -> None:
    runs = str(write(tmp_path / "runs", *grid()))
    file = str(older(Path(board(runs, tmp_path / "board.csv"))))
    assert shown(compare.main, [file], capsys) == shown(compare.main, [runs], capsys)
    capsys.readouterr()
    assert table.main([file, "--columns", "macs,effort"]) == 0
    said = capsys.readouterr()
    assert "of an older version" in said.err
    assert "student MACs" in said.out
    assert "images seen" not in said.out


def refused(command: Command, options: Sequence[str], words: str, capsys: Capture) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        command(options)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert words in said
    assert said.count("\n") == 1
