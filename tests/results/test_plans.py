"""Plans beside records: what is missing stands in tables, counted by what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.aggregate import tables
from results.plans import read_plans, wanted
from results.records import Records, read
from results.render import document
from tests.results.factory import record, write

TWO = ("hand->print", "print->hand")


def runs(methods: tuple[str, ...] = ("itmc", "kd")) -> list[dict[str, Any]]:
    """Two seeds of two tasks."""
    return [
        record(method, task, seed=seed) for method in methods for task in TWO for seed in (0, 1)
    ]


def write_plan(
    out: Path, records: list[dict[str, Any]], name: str = "plan", **changed: Any
) -> Path:
    """A plan of these runs, as the suite writes it."""
    first = records[0]
    content = {
        "schema": 1,
        "command": ["python", "-m", "suites.run", "digits", "--set", "itmc.tau=2 3"],
        "written": "2026-11-23T10:00:00+00:00",
        "shared": {key: first.get(key) for key in ("suite", "protocol", "network")},
        "methods": {r["method"]["name"]: {"method": r["method"], "teacher": None} for r in records},
        "tasks": {r["task"]["name"]: {"task": r["task"], "dataset": r["dataset"]} for r in records},
        "runs": [
            {
                "run": r["run"],
                "config": f"config of {r['run']}",
                "method": r["method"]["name"],
                "task": r["task"]["name"],
                "compression": r["compression"]["asked"],
                "seed": r["seed"],
            }
            for r in records
        ],
    } | changed
    path = out / "plans" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def mark(out: Path, run: dict[str, Any], name: str) -> None:
    (out / run["run"]).mkdir(parents=True)
    (out / run["run"] / name).write_text("{}")


def text(records: Records) -> str:
    return document(tables(records)).text("terminal")


def test_a_method_without_any_run_stands_as_missing(tmp_path: Path) -> None:
    made = runs()
    write(tmp_path, *made[:4])
    write_plan(tmp_path, made)
    shown = text(read([tmp_path]))
    (line,) = (line for line in shown.splitlines() if line.startswith("  kd"))
    assert line.split() == ["kd", *["—"] * 4]
    assert "Of the 8 runs asked for, 4 are missing: 4 to come." in shown


def test_what_is_missing_is_counted_by_what_became_of_it(tmp_path: Path) -> None:
    made = runs()
    write(tmp_path, *made[:3])
    mark(tmp_path, made[3], "failure.json")
    mark(tmp_path, made[4], "config.yaml")
    write(tmp_path, made[5])
    (tmp_path / made[5]["run"] / "record.json").write_text("{")
    write_plan(tmp_path, made)
    records = read([tmp_path])
    shown = text(records)
    assert "5 are missing: 1 failed, 1 unfinished, 2 to come, 1 damaged." in shown
    assert "Among all runs read" not in shown  # which would say the same
    assert sorted(records.missing["state"]) == [
        *("damaged", "failed", "to come", "to come", "unfinished")
    ]
    (line,) = records.left_out
    assert made[5]["run"] in line


def test_a_task_that_no_run_has_finished_is_a_column(tmp_path: Path) -> None:
    made = runs(("itmc",))
    write(tmp_path, *made[:2])
    write_plan(tmp_path, made)
    (table,) = tables(read([tmp_path]))
    assert [column.task for column in table.columns] == [*TWO, "average"]
    ((row,),) = (block.rows for block in table.blocks)
    assert [cell.n for cell in row.cells] == [2, 0, 0]


def test_a_cell_that_an_older_run_fills_is_not_missing(tmp_path: Path) -> None:
    old = record("itmc", TWO[0], seed=0, accuracy=70.0, finished="2026-01-01T00:00:00+00:00")
    new = record("itmc", TWO[0], seed=0, run="new")
    write(tmp_path, old)
    write_plan(tmp_path, [new])
    shown = text(read([tmp_path]))
    assert "70.0" in shown
    assert "missing" not in shown
    assert "older" not in shown  # nothing newer has replaced it


def test_of_two_plans_of_one_configuration_the_newer_counts(tmp_path: Path) -> None:
    old, new = record(run="old"), record(run="new", seed=5)
    as_before = [{"run": "x", "config": "same", "method": "itmc", "task": TWO[0]}]
    for run, day in ((old, 1), (new, 2)):
        path = write_plan(tmp_path, [run], f"plan{-day}", written=f"2026-11-0{day}")
        content = json.loads(path.read_text())
        content["runs"] = [as_before[0] | {"run": run["run"], "compression": 0.5, "seed": 0}]
        path.write_text(json.dumps(content))
    plans, damaged = read_plans(tmp_path)
    assert damaged == ()
    assert [plan.written for plan in plans] == ["2026-11-01", "2026-11-02"]
    assert list(wanted(plans)) == ["new"]


def test_what_no_plan_asks_for_any_more_is_not_waited_for(tmp_path: Path) -> None:
    made = runs()
    write(tmp_path, *made)
    mark(tmp_path, record(run="0ld"), "failure.json")
    write_plan(tmp_path, made)
    assert sum(read([tmp_path]).count_missing().values()) == 0
    (tmp_path / "plans" / "plan.json").unlink()
    assert read([tmp_path]).gaps() == "1 run failed"


def test_one_run_by_itself_does_not_ask_for_the_others(tmp_path: Path) -> None:
    made = runs()
    write(tmp_path, *made[:2])
    write_plan(tmp_path, made)
    records = read([tmp_path / made[0]["run"]])
    assert len(records.frame) == 1
    assert records.missing.empty


def test_a_plan_says_its_command_as_it_is_typed(tmp_path: Path) -> None:
    write_plan(tmp_path, runs())
    ((plan,), _) = read_plans(tmp_path)
    assert plan.command == "python -m suites.run digits --set 'itmc.tau=2 3'"
    assert len(plan.runs) == 8


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2}',
        '{"schema": 1, "command": 3}',
        "[" * 100_000,
        '{"schema": 1, "command": [], "written": "", "shared": {}, "methods": {}, "tasks": {}, '
        '"runs": [{"run": "a", "config": "b", "method": "c", "task": "d"}]}',
    ],
)
def test_a_damaged_plan_is_named_and_left_out(tmp_path: Path, damage: str) -> None:
    write(tmp_path, record())
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "broken.json").write_text(damage)
    records = read([tmp_path])
    assert len(records.frame) == 1
    assert records.left_out == ()
    (line,) = records.damaged_plans
    assert "plans/broken.json: no usable plan" in line
    assert "1 plan could not be read; what was asked for there is not known." in text(records)
