"""The table by ways of choosing the epoch."""

from __future__ import annotations

import csv
import io
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from results.aggregate import Table, selection_tables
from results.records import read
from results.render import document
from results.table import main
from tests.results.factory import record, write

TWO = ("hand->print", "print->hand")
LEAD = {"last": 0.0, "source_validation": 1.0, "infomax": 2.0, "dev": -1.0, "oracle": 4.0}
HEADS = ["last epoch", "source validation", "entropy", "InfoMax", "SND", "DEV"]


def grid() -> list[dict[str, Any]]:
    """Two methods and a reference, two tasks, three seeds; each choice has a lead of its own."""
    made = []
    for seed in range(3):
        for place, task in enumerate(TWO):
            for method, ahead in (("source_only", -9), ("itmc", 3), ("kd", 0)):
                run = record(method, task, seed=seed, compression=0.0 if ahead < 0 else 0.5)
                run["accuracy"] = {
                    choice: {"overall": accuracy(ahead, seed, place, choice), "mean_class": 50.0}
                    for choice in LEAD
                } | {"entropy": None}
                made.append(run)
    return made


def accuracy(ahead: float, seed: int, place: int, choice: str) -> float:
    """What the runs of `grid` reached."""
    return 60 + ahead + seed * seed + 10 * place + LEAD[choice]


def build(out: Path, *records: dict[str, Any]) -> Table:
    """The only table by selection of these records."""
    (table,) = selection_tables(read([write(out, *records)]))
    return table


def test_cells_are_averages_over_tasks_with_sd_over_seeds(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    assert [block.compression for block in table.blocks] == [0.0, 0.5]
    rows = {row.method: row for row in table.rows()}
    for method, ahead in (("source_only", -9), ("itmc", 3), ("kd", 0)):
        for column, cell in zip(table.columns, rows[method].cells, strict=True):
            if column.selection not in LEAD:
                assert cell.n == 0
                continue
            by_seed = [
                sum(accuracy(ahead, seed, place, column.selection) for place in (0, 1)) / 2
                for seed in range(3)
            ]
            assert cell.mean == pytest.approx(statistics.mean(by_seed))
            assert cell.sd == pytest.approx(statistics.stdev(by_seed))
            assert cell.n == 3
    assert [cell.rank for cell in rows["itmc"].cells] == [1, 1, 0, 1, 0, 1, 1]


def test_the_oracle_stands_last_and_is_said_to_see_labels(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    heads = [column.head for column in table.columns]
    assert heads == [*HEADS, "oracle (sees target labels)"]
    made = document([table])
    for form in ("terminal", "markdown", "latex"):
        text = made.text(form)
        (line,) = (line for line in text.splitlines() if all(head in line for head in heads))
        places = [line.index(head) for head in heads]
        assert places == sorted(places)
        # Costs belong to the other table.
        assert "MACs removed" not in text
        assert "gain" not in text


def test_what_no_run_chose_is_missing_and_said(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    (note,) = (note for note in table.notes if "without this accuracy" in note)
    assert "entropy 18" in note
    assert "SND 18" in note
    assert "last epoch" not in note


def test_csv_has_a_line_a_cell(tmp_path: Path) -> None:
    text = document([build(tmp_path, *grid())]).text("csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 3 * 7
    assert {row["task"] for row in rows} == {"average"}
    (cell,) = (r for r in rows if (r["method"], r["selection"]) == ("kd", "oracle"))
    by_seed = [69.0, 70.0, 73.0]
    assert float(cell["mean"]) == pytest.approx(statistics.mean(by_seed), abs=0.01)
    assert float(cell["sd"]) == pytest.approx(statistics.stdev(by_seed), abs=0.01)


def test_a_seed_that_lacks_a_task_under_one_choice_only(tmp_path: Path) -> None:
    made = grid()
    made[-1]["accuracy"]["dev"] = None  # kd, second task, last seed
    table = build(tmp_path, *made)
    cells = {row.method: row.cells for row in table.rows()}["kd"]
    by_choice = {
        column.selection: cell.n for column, cell in zip(table.columns, cells, strict=True)
    }
    assert (by_choice["dev"], by_choice["last"]) == (2, 3)
    assert not math.isnan(cells[-1].mean)
    assert any("these have not: entropy 9, SND 9, DEV 1." in note for note in table.notes)


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "latex"])
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    write(tmp_path, *grid())
    assert main([str(tmp_path), "--by", "selection", "--format", form]) == 0
    out = capsys.readouterr().out
    assert "oracle" in out
    assert out == document(selection_tables(read([tmp_path]))).text(form)
    assert main([str(tmp_path), "--by", "task", "--format", form]) == 0
    assert "InfoMax" not in capsys.readouterr().out


def test_mean_over_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *grid())
    main([str(tmp_path), "--by", "selection", "--mean-class"])
    assert "50.0 ± 0.0" in capsys.readouterr().out


def test_select_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *grid())
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), "--by", "selection", "--select", "last"])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "--select last" in err
    assert "--by selection" in err
