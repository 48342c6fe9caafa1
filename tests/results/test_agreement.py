"""What has gaps, versions or variants is the same in table, leaderboard, comparison and report."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from results.aggregate import tables
from results.cells import Cell
from results.comparison import comparisons
from results.costs import Costs
from results.differences import differences
from results.entry import Entry
from results.page.build import page_data
from results.page.facts import facts
from results.records import Records, read
from results.render import document
from results.scores import score_tables
from results.standings import entries
from tests.results.factory import TASKS, record, write
from tests.results.test_plans import mark, write_plan

THREE = TASKS[:3]


def own_data(made: dict[str, Any], edition: int = 0) -> dict[str, Any]:
    """As the suite writes it: each task has a digest of its own data."""
    digest = f"sha256:{made['task']['name']} {edition}"
    return made | {"dataset": {"name": "digits", "digest": digest}}


def grid(methods: tuple[str, ...] = ("itmc", "kd")) -> list[dict[str, Any]]:
    """Three tasks, three seeds; every run has other figures."""
    made = []
    for method in methods:
        for task in THREE:
            for seed in (0, 1, 2):
                run = record(method, task, seed=seed, accuracy=60.0 + len(made) * 1.37)
                run["compression"]["reached"] = 0.5 + len(made) / 1000
                run["cost"]["student"]["macs"] += len(made) * 1000
                run["cost"]["student"]["latency_ms"]["batch_1"]["p50"] = 0.4 + (len(made) % 5) ** 3
                made.append(own_data(run))
    return made


def averages(records: Records) -> dict[tuple[str, float], Entry]:
    """The averages of a leaderboard by method and compression."""
    return {(e.method, e.compression): e for e in entries(records) if e.task == "average"}


def test_one_run_on_other_data_takes_no_average_from_the_rest(tmp_path: Path) -> None:
    *runs, odd = grid()
    odd = own_data(odd, edition=1) | {"finished": "2026-01-01T00:00:00+00:00"}
    shown = tables(read([write(tmp_path, *runs, odd)]))
    assert [[column.task for column in table.columns] for table in shown] == [
        [*THREE, "average"],
        [THREE[2], "average"],
    ]
    newest, older = shown
    assert "ago" not in newest.caption()
    assert "data of 1 version ago" in older.caption()
    rows = {row.method: row.cells[-1].n for row in newest.rows()}
    assert rows == {"itmc": 3, "kd": 2}


def test_data_that_is_only_planned_takes_nothing_from_what_is_finished(tmp_path: Path) -> None:
    runs = grid()
    write(tmp_path, *runs)
    write_plan(tmp_path, [own_data(runs[0], edition=7) | {"run": "new"}])
    (table,) = tables(read([tmp_path]))
    assert [row.cells[-1].n for row in table.rows()] == [3, 3]
    assert "Among all runs read: 1 run to come." in table.notes


def test_no_command_averages_over_fewer_tasks_than_were_asked_for(tmp_path: Path) -> None:
    runs = grid()
    write(tmp_path, *(run for run in runs if run["task"]["name"] != THREE[1]))
    write_plan(tmp_path, runs)
    records = read([tmp_path])
    (table,) = tables(records)
    assert [row.cells[-1].n for row in table.rows()] == [0, 0]
    assert averages(records) == {}
    assert page_data(records, None, "overall").settings[0].tasks == tuple(
        column.task for column in table.columns[:-1]
    )


def test_a_leaderboard_says_over_how_many_tasks_an_average_is(tmp_path: Path) -> None:
    found = entries(read([write(tmp_path, *grid())]))
    assert {(e.task == "average", e.tasks) for e in found} == {(True, 3), (False, 1)}


def test_a_target_without_labels_that_is_to_come_is_the_score_tables_to_miss(
    tmp_path: Path,
) -> None:
    runs = grid(("itmc",))
    blind = [own_data(record("itmc", TASKS[4], seed=seed, labelled=False)) for seed in (0, 1)]
    write(tmp_path, *runs, blind[0])
    path = write_plan(tmp_path, [*runs, *blind])
    path.write_text(
        path.read_text().replace(f'"{TASKS[4]}": {{', f'"{TASKS[4]}": {{"labelled": false,')
    )
    records = read([tmp_path])
    (table,) = tables(records)
    assert [column.task for column in table.columns] == [*THREE, "average"]
    assert table.blocks[0].rows[0].cells[-1].n == 3
    (scored,) = score_tables(records)
    assert any("1 are missing: 1 to come" in note for note in scored.notes)


def test_what_is_only_planned_renames_nothing_that_is_finished(tmp_path: Path) -> None:
    runs = grid()
    other = record("itmc", THREE[0], seed=0, run="planned")
    other["method"] = other["method"] | {"knobs": {"tau": 2}}
    write(tmp_path, *runs)
    write_plan(tmp_path, [*runs[:0], own_data(other)])
    records = read([tmp_path])
    (table,) = tables(records)
    assert [row.method for row in table.rows()] == ["kd", "itmc", "itmc[tau=2]"]
    assert {method for method, _ in averages(records)} == {"itmc", "kd"}
    (differ,) = differences(records)
    assert differ.reference == "itmc"


def test_costs_are_of_the_seeds_of_the_average_everywhere(tmp_path: Path) -> None:
    runs = grid()
    del runs[2]  # ITMC lacks a task of seed 2
    records = read([write(tmp_path, *runs)])
    (table,) = tables(records)
    costs = {row.method: row.costs for row in table.rows()}
    for (method, _), entry in averages(records).items():
        row = costs[method]
        assert isinstance(row, Costs)
        assert entry.removed == pytest.approx(row.removed, abs=0.006)
        assert entry.macs == pytest.approx(row.macs, abs=0.6)
        assert entry.latency_1 == pytest.approx(row.latency_1, abs=6e-5)
    kept = [run for run in runs if run["method"]["name"] == "itmc" and run["seed"] != 2]
    macs = [run["cost"]["student"]["macs"] for run in kept]
    assert costs["itmc"].macs == pytest.approx(sum(macs) / len(macs))
    times = sorted(run["cost"]["student"]["latency_ms"]["batch_1"]["p50"] for run in kept)
    assert costs["itmc"].latency_1 == pytest.approx((times[2] + times[3]) / 2)


@given(st.lists(st.floats(0, 100).map(lambda v: round(v, 4)), min_size=1, max_size=5))
def test_a_mean_is_the_same_figure_in_a_cell_and_in_an_entry(values: list[float]) -> None:
    import pandas as pd

    blank: dict[str, Any] = dict.fromkeys(Entry.__dataclass_fields__)
    entry = Entry(**blank | {"accuracies": tuple(values), "seeds": tuple(range(len(values)))})
    assert Cell.over(pd.Series(values)).mean == entry.mean


def test_table_and_leaderboard_print_the_same_averages(tmp_path: Path) -> None:
    runs = grid()
    for run, accuracy in zip(runs, (36.6416, 44.7563, 61.7172) * 6, strict=True):
        run["accuracy"] = {"last": {"overall": accuracy, "mean_class": accuracy}}
    records = read([write(tmp_path, *runs)])
    lines = csv.DictReader(io.StringIO(document(tables(records)).text("csv")))
    printed = {line["method"]: line["mean"] for line in lines if line["task"] == "average"}
    assert printed == {m: f"{entry.mean:.2f}" for (m, _), entry in averages(records).items()}


def test_a_reference_of_several_variants_gives_no_gain_and_it_is_said(tmp_path: Path) -> None:
    runs = grid()
    for weight in (0.3, 1.0):
        for task in THREE:
            for seed in (0, 1, 2):
                run = own_data(record("dan", task, seed=seed, compression=0.0))
                run["method"] = run["method"] | {"knobs": {"weight": weight}}
                runs.append(run | {"run": f"dan{weight}{task}{seed}".replace(">", "")})
    (table,) = tables(read([write(tmp_path, *runs)]))
    assert all(math.isnan(row.costs.over_unpruned) for row in table.rows())
    assert "No gain over dan: it ran in several variants." in table.notes


def test_a_reference_that_lacks_a_seed_is_said(tmp_path: Path) -> None:
    references = [
        own_data(record("source_only", task, seed=seed, compression=0.0, accuracy=50.0))
        for task in THREE
        for seed in (0, 1)
    ]
    (table,) = tables(read([write(tmp_path, *grid(), *references)]))
    assert all(math.isnan(row.costs.over_source) for row in table.rows())
    note = "No gain over source_only of methods with an average of seed 2, of which it has none."
    assert note in table.notes


def test_a_run_with_a_record_in_another_folder_is_not_missing(tmp_path: Path) -> None:
    runs = grid()
    write(tmp_path / "a", *runs)
    write(tmp_path / "b", *runs[:4])
    mark(tmp_path / "b", runs[4], "failure.json")
    mark(tmp_path / "b", runs[5], "config.yaml")
    for folder in ("a", "b"):
        write_plan(tmp_path / folder, runs)
    assert read([tmp_path / "a", tmp_path / "b"]).gaps() == ""
    assert read([tmp_path / "b", tmp_path / "b"]).gaps() == (
        "1 run failed, 1 run unfinished, 12 runs to come"
    )
    broken = tmp_path / "b" / runs[0]["run"] / "record.json"
    broken.write_text("{")
    found = read([tmp_path / "b", tmp_path / "a"])
    assert (found.gaps(), len(found.left_out)) == ("", 1)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_what_failed_in_one_folder_is_not_to_come_in_another(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    runs = grid()
    write(tmp_path / "a", *runs[1:])
    mark(tmp_path / "a", runs[0], "failure.json")
    for folder in ("a", "b"):
        write_plan(tmp_path / folder, runs)
    records = read([tmp_path / folder for folder in order])
    assert records.gaps() == "1 run failed"
    (table,) = tables(records)
    assert "Of the 18 runs asked for, 1 are missing: 1 failed." in table.notes


def test_one_folder_by_two_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = grid()
    write(tmp_path / "runs", *runs[:-1])
    write_plan(tmp_path / "runs", runs)
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    found = read([tmp_path / "runs", Path("runs"), tmp_path / "link"])
    assert (len(found.frame), found.gaps()) == (len(runs) - 1, "1 run to come")


def test_versions_are_those_of_the_runs_on_a_device(tmp_path: Path) -> None:
    runs = grid()
    for place, run in enumerate(runs):
        run["environment"] = run["environment"] | {
            "device": "GPU" if place % 3 == 0 else "cpu",
            "versions": {"torch": f"{place % 3}.0"},
        }
    found = facts(read([write(tmp_path, *runs)]), [tmp_path])
    assert {(e.device, e.versions, e.runs) for e in found.environments} == {
        ("GPU", "torch 0.0", 6),
        ("cpu", "torch 1.0", 6),
        ("cpu", "torch 2.0", 6),
    }


def test_a_setting_has_its_newest_data_first(tmp_path: Path) -> None:
    runs = [
        own_data(run, edition) | {"finished": f"2026-01-0{3 - edition}", "run": f"{place}{edition}"}
        for edition in (0, 1)
        for place, run in enumerate(grid(("itmc",)))
    ]
    records = read([write(tmp_path, *runs)])
    found = comparisons(records.frame, records.missing)
    assert [(c.setting.edition, len(c.frame), len(c.tasks)) for c in found] == [
        (0, 9, 3),
        (1, 9, 3),
    ]
