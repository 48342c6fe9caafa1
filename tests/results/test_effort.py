"""Effort in the main table, where asked: means over runs, three digits, where records tell."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from results.aggregate import Table, tables
from results.records import read
from results.render import document, quantity
from tests.results.factory import record, write

TWO = ("hand->print", "print->hand")
HEADS = ["images seen", "forward MACs", "backward MACs"]


def build(out: Path, *records: dict[str, Any]) -> Table:
    """The only table of these records."""
    (table,) = tables(read([write(out, *records)]))
    return table


def run(task: str, seed: int, effort: dict[str, Any] | None, **changed: Any) -> dict[str, Any]:
    """A record with this effort; none where it is None."""
    return record(task=task, seed=seed, effort=effort, **changed)


def efforts() -> list[dict[str, Any]]:
    """Four runs that took different effort, one of which tells only part of it."""
    made = []
    for number, (task, seed) in enumerate((t, s) for t in TWO for s in (0, 1)):
        effort = {"images": 1000 * (number + 1), "forward_macs": 10**12 * (number + 1) ** 2}
        if number < 3:
            effort["backward_macs"] = 7 * 10**15 * (number + 1)
        made.append(run(task, seed, effort))
    return made


def test_effort_is_the_mean_over_the_runs_that_tell(tmp_path: Path) -> None:
    ((row,),) = (block.rows for block in build(tmp_path, *efforts()).blocks)
    assert row.costs.images == 2500
    assert row.costs.forward_macs == pytest.approx(7.5e12)  # (1 + 4 + 9 + 16) / 4
    assert row.costs.backward_macs == pytest.approx(14e15)  # of three


def test_effort_stands_last_in_every_format(tmp_path: Path) -> None:
    made = document([build(tmp_path, *efforts())], ["macs", "effort"])
    heads, values = HEADS, ["2.50 k", "7.50 T", "14.0 P"]
    for form, separator in (("terminal", None), ("markdown", "|"), ("latex", "&")):
        lines = made.text(form).splitlines()
        (head,) = (
            line
            for line in lines
            if "images seen" in line and "note" not in line and ("student MACs" in line)
        )
        (line,) = (line for line in lines if "ITMC" in line)
        if separator is None:
            assert head.endswith("  ".join(h.rjust(len(h)) for h in heads))
            assert [" ".join(line.split()[-6:][i : i + 2]) for i in (0, 2, 4)] == values
        else:
            ends = str.maketrans("", "", "\\|")
            cut = [
                [part.translate(ends).strip() for part in text.strip("| ").split(separator)]
                for text in (head, line)
            ]
            assert cut[0][-3:] == heads
            assert cut[1][-3:] == values
        assert "training images drawn for gradient steps" in made.text(form)


def test_effort_in_the_csv_stands_with_the_average(tmp_path: Path) -> None:
    text = document([build(tmp_path, *efforts())]).text("csv")
    lines = {row["task"]: row for row in csv.DictReader(io.StringIO(text))}
    names = ("images", "forward_macs", "backward_macs")
    assert list(lines["average"])[-3:] == list(names)
    assert float(lines["average"]["parameters"]) == 51_000
    assert [float(lines["average"][name]) for name in names] == [2500, 7.5e12, 14e15]
    assert {lines[task][name] for task in TWO for name in names} == {""}


@pytest.mark.parametrize("effort", [None, {}, {"images": None}, {"seconds": {"train": 3.0}}])
def test_without_effort_there_are_no_such_columns(tmp_path: Path, effort: Any) -> None:
    made = document([build(tmp_path, run(TWO[0], 0, effort))], ["effort"])
    for form in ("terminal", "markdown", "latex", "html"):
        assert not any(word in made.text(form) for word in (*HEADS, "images"))
    lines = csv.DictReader(io.StringIO(made.text("csv")))
    assert {line[name] for line in lines for name in ("images", "forward_macs")} == {""}


def test_each_column_stands_where_some_record_has_it(tmp_path: Path) -> None:
    one, other = run(TWO[0], 0, {"images": 640}), run(TWO[0], 0, None)
    other["method"]["name"] = "kd"
    text = document([build(tmp_path, one, other)], ["effort"]).text("terminal")
    assert "images seen" in text
    assert "forward MACs" not in text
    (line,) = (line for line in text.splitlines() if line.split()[-1:] == ["640"])
    assert line
    assert [math.isnan(row.costs.images) for row in build(tmp_path).rows()].count(True) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (640, "640"),
        (2.5, "2.50"),
        (999, "999"),
        (999.4, "999"),
        (999.5, "1.00 k"),
        (1000, "1.00 k"),
        (9_994, "9.99 k"),
        (9_996, "10.0 k"),
        (64_000, "64.0 k"),
        (1_800_000, "1.80 M"),
        (999_600_000, "1.00 G"),
        (12_345_678_901_234, "12.3 T"),
        (4.56e17, "456 P"),
        (3e18, "3.00 E"),
        (math.nan, "—"),
    ],
)
def test_quantities_have_three_digits(value: float, text: str) -> None:
    assert quantity(value) == text


@given(st.floats(1, 9e20))
def test_quantities_are_right_to_three_digits(value: float) -> None:
    number, _, unit = quantity(value).partition(" ")
    factor = 1000.0 ** ["", "k", "M", "G", "T", "P", "E"].index(unit)
    assert float(number) * factor == pytest.approx(value, rel=0.0051)
    assert sum(character.isdigit() for character in number) <= 3
