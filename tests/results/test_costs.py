"""Costs and gains: over our own references only, on request, and never of mixed machines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from results.aggregate import Table, tables
from results.cells import Row
from results.records import read
from results.render import COLUMNS, document
from results.table import main
from tests.results.factory import record, write

TWO = ("hand->print", "print->hand")
HEADS = {
    "macs": ["student MACs"],
    "parameters": ["parameters"],
    "activations": ["activations"],
    "size": ["bytes"],
    "latency": ["ms, batch 1", "ms, batch 32"],
    "effort": ["images seen", "forward MACs", "backward MACs"],
}


def build(out: Path, *records: dict[str, Any]) -> Table:
    (table,) = tables(read([write(out, *records)]))
    return table


def row(table: Table, method: str) -> Row:
    (found,) = (row for row in table.rows() if row.method == method)
    return found


def of(method: str, by_seed: dict[int, float], unpruned: str | None = None) -> list[dict[str, Any]]:
    """A method's runs on both tasks, 2 points better on the second."""
    compression = 0.0 if unpruned is None else 0.5
    made = [
        record(method, task, seed=seed, compression=compression, accuracy=accuracy + 2 * index)
        for seed, accuracy in by_seed.items()
        for index, task in enumerate(TWO)
    ]
    for each in made:
        each["method"]["unpruned"] = unpruned
    return made


def test_the_gain_over_the_unpruned_is_over_what_the_record_names(tmp_path: Path) -> None:
    table = build(
        tmp_path,
        *of("source_only", {0: 50.0, 1: 52.0}),
        *of("dan", {0: 61.0, 1: 60.0}),
        *of("jan", {0: 70.0, 1: 70.0}),
        *of("itmc", {0: 64.0, 1: 66.0}, "dan"),
        *of("kd", {0: 64.0, 1: 66.0}, "jan"),
        *of("mobileda", {0: 64.0, 1: 66.0}, "source_only"),
    )
    # Averages of 65 and 67 against 62 and 61 (DAN), 71 and 71 (JAN), 51 and 53 (source only).
    assert row(table, "itmc").costs.over_unpruned == pytest.approx(4.5)
    assert row(table, "kd").costs.over_unpruned == pytest.approx(-5.0)
    assert row(table, "mobileda").costs.over_unpruned == pytest.approx(14.0)
    assert row(table, "itmc").costs.over_source == pytest.approx(14.0)
    assert row(table, "dan").costs.over_source == pytest.approx(9.5)
    assert math.isnan(row(table, "dan").costs.over_unpruned)


@pytest.mark.parametrize("lacking", [["dan"], ["dan", "source_only"]])
def test_no_gain_over_what_was_not_run(tmp_path: Path, lacking: list[str]) -> None:
    runs = [
        *of("source_only", {0: 50.0}),
        *of("dan", {0: 61.0}),
        *of("itmc", {0: 64.0}, "dan"),
    ]
    table = build(tmp_path, *(r for r in runs if r["method"]["name"] not in lacking))
    text = document([table]).text("terminal")
    assert math.isnan(row(table, "itmc").costs.over_unpruned)
    assert "vs unpruned" not in text
    assert ("vs source only" in text) == ("source_only" not in lacking)


def test_no_gain_where_the_unpruned_lacks_a_seed(tmp_path: Path) -> None:
    table = build(tmp_path, *of("dan", {0: 61.0}), *of("itmc", {0: 64.0, 1: 66.0}, "dan"))
    assert math.isnan(row(table, "itmc").costs.over_unpruned)


@pytest.mark.parametrize("asked", COLUMNS)
def test_columns_stand_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    write(tmp_path, *of("itmc", {0: 64.0}, "dan"))
    assert main([str(tmp_path)]) == 0
    plain = capsys.readouterr().out
    assert main([str(tmp_path), "--columns", asked]) == 0
    shown = capsys.readouterr().out
    for head in HEADS[asked]:
        assert head not in plain
        assert head in shown
    others = {head for name, heads in HEADS.items() if name != asked for head in heads}
    assert not any(head in shown.splitlines()[2] for head in others)


def test_figures_of_the_columns(tmp_path: Path) -> None:
    table = build(tmp_path, *of("itmc", {0: 64.0, 1: 60.0}, "dan"))
    costs = row(table, "itmc").costs
    assert (costs.macs, costs.parameters, costs.activations) == (1_800_000, 51_000, 23_000)
    assert (costs.bytes, costs.latency_1, costs.latency_32) == (210_000, 0.4, 3.1)
    text = document([table], COLUMNS).text("terminal")
    (line,) = (line for line in text.splitlines() if "ITMC" in line)
    for cell in ("1.80 M", "51.0 k", "23.0 k", "210 k", "0.40", "3.10", "64.0 k"):
        assert f" {cell} " in f"{line} "


@pytest.mark.parametrize("change", [{"device": "a GPU"}, {"machine": "aarch64"}])
def test_latencies_of_two_machines_are_left_out_and_it_is_said(
    tmp_path: Path, change: dict[str, str]
) -> None:
    one, *others = of("itmc", {0: 64.0, 1: 60.0}, "dan")
    one["environment"] |= change
    table = build(tmp_path, one, *others)
    assert math.isnan(row(table, "itmc").costs.latency_1)
    text = document([table], COLUMNS).text("terminal")
    assert "ms, batch 1" not in text
    assert "Latencies were measured on several devices" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--columns", "macs,speed"], ["speed is no column", "macs, parameters"]),
        (["--columns", ","], ["nothing is no column"]),
        (["--columns", "macs", "--by", "selection"], ["--columns", "--by selection"]),
    ],
)
def test_wrong_columns_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    write(tmp_path, record())
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), *arguments])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words)
