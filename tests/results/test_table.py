"""The table: what its cells hold, what is marked, what is missing, and its formats."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results.aggregate import Table, tables
from results.cells import Row
from results.records import read
from results.render import document
from results.sheet import Document, Line, Section, Sheet, Text
from tests.results.factory import TASKS, record, write

TWO = ("hand->print", "print->hand")


def terminal(shown: Sequence[Table], width: int | None = None) -> str:
    """As on a terminal."""
    return document(shown).text("terminal", width)


def markdown(shown: Sequence[Table]) -> str:
    """As Markdown."""
    return document(shown).text("markdown")


def latex(shown: Sequence[Table]) -> str:
    """As LaTeX."""
    return document(shown).text("latex")


def tidy_csv(shown: Sequence[Table]) -> str:
    """As CSV."""
    return document(shown).text("csv")


def build(out: Path, *records: dict[str, Any], selection: str = "last") -> Table:
    """The only table of these records."""
    (table,) = tables(read([write(out, *records)]), selection)
    return table


def row(table: Table, method: str, compression: float) -> Row:
    """The only row of a method at a compression."""
    (found,) = (
        row
        for block in table.blocks
        if block.compression == compression
        for row in block.rows
        if row.method == method
    )
    return found


def grid() -> list[dict[str, Any]]:
    """Three methods and a reference, two tasks, two seeds, two compressions."""
    made = []
    for seed in (0, 1):
        for place, task in enumerate(TWO):
            made.append(record("source_only", task, seed=seed, compression=0.0, accuracy=50 + seed))
            for compression in (0.5, 0.75):
                for method, lead in (("itmc", 6.0), ("kd", 3.0), ("dan_student", 0.0)):
                    accuracy = 60 + lead + 4 * seed + 10 * place - 20 * compression
                    made.append(
                        record(method, task, seed=seed, compression=compression, accuracy=accuracy)
                    )
    return made


def test_two_seeds_make_one_row(tmp_path: Path) -> None:
    table = build(tmp_path, record(seed=0, accuracy=80.0), record(seed=1, accuracy=83.0))
    (block,) = table.blocks
    (only,) = block.rows
    for cell in only.cells:
        assert (cell.mean, cell.n) == (81.5, 2)
        assert cell.sd == pytest.approx(3 / math.sqrt(2))  # ddof 1; 1.5 with ddof 0
        assert cell.rank == 0  # best of one is no distinction
    assert table.n == 2
    assert "n = 2" in table.caption()
    assert "81.5 ± 2.1" in terminal([table])


def test_one_seed_has_no_sd(tmp_path: Path) -> None:
    table = build(tmp_path, record(accuracy=80.0))
    assert all(math.isnan(cell.sd) for cell in table.cells())
    assert "n = 1" in table.caption()
    assert "±" not in terminal([table])
    assert next(csv.DictReader(io.StringIO(tidy_csv([table]))))["sd"] == ""


def test_n_stands_in_the_cell_where_it_differs(tmp_path: Path) -> None:
    table = build(tmp_path, record(seed=0), record(seed=1), record("kd", seed=0))
    assert table.n is None
    assert "80.0 ± 0.0 (2)" in terminal([table])
    assert "80.0 ± \N{EN DASH} (1)" in terminal([table])


def test_average_is_over_tasks_for_each_seed(tmp_path: Path) -> None:
    # By seed 60 and 70; over all four runs the sd would be another.
    accuracies = {(0, TWO[0]): 50.0, (0, TWO[1]): 70.0, (1, TWO[0]): 65.0, (1, TWO[1]): 75.0}
    table = build(
        tmp_path,
        *(record(task=task, seed=seed, accuracy=a) for (seed, task), a in accuracies.items()),
    )
    average = row(table, "itmc", 0.5).cells[-1]
    assert (average.mean, average.n) == (65.0, 2)
    assert average.sd == pytest.approx(10 / math.sqrt(2))


def test_a_missing_cell_stands_as_missing_and_its_average_too(tmp_path: Path) -> None:
    records = [
        made for made in grid() if (made["method"]["name"], made["task"]["name"]) != ("kd", TWO[1])
    ]
    write(tmp_path, *records)
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "failure.json").write_text("{}")
    table = build(tmp_path)
    kd = row(table, "kd", 0.5)
    assert [cell.n for cell in kd.cells] == [2, 0, 0]
    assert math.isnan(kd.costs.over_source)
    assert row(table, "itmc", 0.5).cells[-1].n == 2
    text = terminal([table])
    (line, *_) = [line for line in text.splitlines() if line.startswith("  kd")]
    assert line.count("—") == 3  # task, average, gain
    assert "4 of 21 cells are missing" in text
    assert "1 run failed" in text


def test_a_seed_without_all_tasks_is_not_averaged(tmp_path: Path) -> None:
    table = build(
        tmp_path,
        record(task=TWO[0], seed=0, accuracy=50.0),
        record(task=TWO[1], seed=0, accuracy=70.0),
        record(task=TWO[0], seed=1, accuracy=90.0),
    )
    average = row(table, "itmc", 0.5).cells[-1]
    assert (average.mean, average.n) == (60.0, 1)
    assert any(
        "of 2 (method, compression, seed), these have not: last epoch 1." in note
        for note in table.notes
    )


def test_a_method_without_runs_at_a_compression_stands_there(tmp_path: Path) -> None:
    table = build(tmp_path, record(), record("kd", compression=0.75), record(compression=0.75))
    assert [cell.n for cell in row(table, "kd", 0.5).cells] == [0, 0]


def test_references_stand_in_a_block_of_their_own_at_the_top(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    assert [block.compression for block in table.blocks] == [0.0, 0.5, 0.75]
    assert [row.method for row in table.blocks[0].rows] == ["source_only"]
    assert [row.method for row in table.blocks[1].rows] == ["dan_student", "kd", "itmc"]


def test_best_and_second_best_of_the_compressed_are_marked(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    assert [cell.rank for cell in row(table, "itmc", 0.5).cells] == [1, 1, 1]
    assert [cell.rank for cell in row(table, "kd", 0.75).cells] == [2, 2, 2]
    assert [cell.rank for cell in row(table, "dan_student", 0.5).cells] == [0, 0, 0]
    assert [cell.rank for cell in row(table, "source_only", 0.0).cells] == [0, 0, 0]
    assert "**58.0 ± 2.8**" in markdown([table])
    assert "<u>55.0 ± 2.8</u>" in markdown([table])
    assert r"\textbf{58.0 $\pm$ 2.8}" in latex([table])
    assert r"\underline{55.0 $\pm$ 2.8}" in latex([table])
    assert "58.0 ± 2.8 *" in terminal([table])
    assert "55.0 ± 2.8 †" in terminal([table])
    assert not re.search(r"[*†]", tidy_csv([table]))


def test_what_prints_alike_is_marked_alike(tmp_path: Path) -> None:
    table = build(
        tmp_path,
        record("itmc", accuracy=80.04),
        record("kd", accuracy=79.96),
        record("dan_student", accuracy=70.0),
    )
    ranks = {row.method: row.cells[0].rank for row in table.blocks[0].rows}
    assert ranks == {"itmc": 1, "kd": 1, "dan_student": 2}


def test_gain_and_macs(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    itmc = row(table, "itmc", 0.5)
    # Averages by seed: 61 and 65 against 50 and 51.
    assert itmc.costs.over_source == pytest.approx(12.5)
    assert math.isnan(row(table, "source_only", 0.0).costs.over_source)
    assert (itmc.costs.removed, itmc.costs.macs) == (50.0, 1_800_000)
    assert row(table, "source_only", 0.0).costs.removed == 0


def test_without_a_reference_there_is_no_column_of_gains(tmp_path: Path) -> None:
    with_reference = build(tmp_path / "with", *grid())
    without = build(tmp_path / "without", *(r for r in grid() if r["method"]["name"] == "itmc"))
    for form in (terminal, markdown, latex):
        assert "vs source only" in form([with_reference])
        assert "vs source only" not in form([without])


def test_no_gain_over_a_reference_that_lacks_a_seed(tmp_path: Path) -> None:
    lacking = [m for m in grid() if (m["method"]["name"], m["seed"]) != ("source_only", 1)]
    assert math.isnan(row(build(tmp_path, *lacking), "itmc", 0.5).costs.over_source)


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "paper"},
        {"suite": "office31"},
        {"network": {"backbone": "resnet18", "weights": "none", "bottleneck": 64}},
        {"network": {"backbone": "digits_convnet", "weights": "a.safetensors", "bottleneck": 64}},
        {"network": {"backbone": "digits_convnet", "weights": "none", "bottleneck": 32}},
        {"dataset": {"name": "digits", "digest": "sha256:1"}},
        {"training": {"epochs": 3}},
    ],
)
def test_what_cannot_be_compared_is_never_mixed(tmp_path: Path, other: dict[str, Any]) -> None:
    write(tmp_path, record(accuracy=80.0), record(seed=1, accuracy=60.0, **other))
    made = tables(read([tmp_path]))
    assert sorted(table.blocks[0].rows[0].cells[0].mean for table in made) == [60.0, 80.0]
    assert len({table.setting for table in made}) == 2


def test_tasks_may_have_digests_of_their_own(tmp_path: Path) -> None:
    table = build(
        tmp_path,
        record(task=TWO[0], dataset={"name": "digits", "digest": "a"}),
        record(task=TWO[1], dataset={"name": "digits", "digest": "b"}),
    )
    assert [column.task for column in table.columns] == [*TWO, "average"]


def test_other_hyper_parameters_make_another_row(tmp_path: Path) -> None:
    knobs = [{"tau": 2, "momentum": 0.9}, {"tau": 4, "momentum": 0.9}]
    made = [record(seed=0, accuracy=70.0), record(seed=0, accuracy=80.0)]
    for run, values in zip(made, knobs, strict=True):
        run["method"]["knobs"] = values
        run["run"] += str(values["tau"])
    table = build(tmp_path, *made)
    means = {row.label: row.cells[0].mean for row in table.blocks[0].rows}
    assert means == {"ITMC (tau=2)": 70.0, "ITMC (tau=4)": 80.0}


def test_of_two_runs_of_one_cell_and_seed_the_newest_counts(tmp_path: Path) -> None:
    table = build(
        tmp_path,
        record(accuracy=70.0, finished="2026-11-22T15:00:00+00:00"),
        record(accuracy=90.0, finished="2026-11-22T14:00:00+00:00"),
    )
    assert (table.blocks[0].rows[0].cells[0].mean, table.n) == (70.0, 1)
    assert any("1 older run" in note for note in table.notes)


def test_tasks_stand_in_the_order_of_the_suite(tmp_path: Path) -> None:
    made = [record(task=task) for task in (*reversed(TASKS), "z->a", "a->z")]
    # Without an index they follow by name.
    heads = [column.head for column in build(tmp_path, *made).columns]
    assert heads == [*TASKS, "a->z", "z->a", "average"]


def test_a_selection_that_no_run_has_is_missing_not_zero(tmp_path: Path) -> None:
    table = build(tmp_path, record(), selection="snd")
    assert [cell.n for cell in table.cells()] == [0, 0]
    assert any("SND" in note for note in table.notes)


def test_csv_is_the_same_bytes_whatever_the_order_of_the_records(tmp_path: Path) -> None:
    texts = set()
    for name, records in (("a", grid()), ("b", grid()[::-1])):
        for number, made in enumerate(records):
            made["run"] = f"{number:03}"  # other hashes, so another order of the directories
        texts.add(tidy_csv(tables(read([write(tmp_path / name, *records)]))))
    (text,) = texts
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == (1 + 2 * 3) * 3
    assert len({tuple(row.values())[: list(row).index("mean")] for row in rows}) == len(rows)
    (row,) = (
        row
        for row in rows
        if (row["method"], row["compression"], row["task"]) == ("itmc", "0.5", "average")
    )
    assert (row["mean"], row["sd"], row["n"]) == ("63.00", "2.83", "2")


def test_latex_is_booktabs_balanced_and_escaped(tmp_path: Path) -> None:
    made = [*grid(), record("half_off", TWO[0])]
    made[-1]["method"]["label"] = r"50% {off} & #1_a \b ~ ^ $"
    text = latex([build(tmp_path, *made)])
    assert re.findall(r"\\(\w+rule)\b", text) == ["toprule", *["midrule"] * 3, "bottomrule"]
    opened = re.findall(r"\\begin{(\w+)}", text)
    assert opened == ["table", "tabular"]
    assert re.findall(r"\\end{(\w+)}", text) == opened[::-1]
    assert r"hand$\to$print" in text
    assert (
        r"50\% \{off\} \& \#1\_a \textbackslash{}b \textasciitilde{} \textasciicircum{} \$" in text
    )
    assert "->" not in text
    assert text.isascii()
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    columns = re.search(r"@{}(lr+)@{}", text)
    assert columns is not None
    for line in text.splitlines():
        if line.endswith(r"\\") and "multicolumn" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns[1]) - 1


def test_markdown_rows_have_as_many_cells_as_the_head(tmp_path: Path) -> None:
    lines = [line for line in markdown([build(tmp_path, *grid())]).splitlines() if line[:1] == "|"]
    assert len(lines) == 2 + 3 + 7
    assert len({line.count("|") for line in lines}) == 1


def test_names_in_markdown_are_text_and_nothing_else(tmp_path: Path) -> None:
    made = [record(task="in_a->out*", seed=seed) for seed in (0, 1)]
    for one in made:
        one["method"]["label"] = r"a_b *c* <b> | `d` \ $e$ ~~f~~ [g](h) &lt;"
    made.append(record("kd", "in_a->out*"))
    text = markdown([build(tmp_path, *made)])
    label = r"a\_b \*c\* \<b> \| \`d\` \\ \$e\$ \~\~f\~\~ [g\](h) \&lt;"
    (line,) = (line for line in text.splitlines() if line.startswith("| a"))
    assert line.startswith(f"| {label} | **80.0")
    assert r"| in\_a → out\* |" in text


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "html"])
def test_a_name_takes_one_line_and_moves_no_cursor(form: str) -> None:
    label = "KD\x1b[2J\nof\r\x9b2\u2028ours\x00"
    texts = [
        Document((Sheet(name, (name,), (Section(name, lines),), (name,)),), "").text(form)
        for name in (label, "KD")
        for lines in [(Line(name, (Text(name),)),)]
    ]
    odd, plain = texts
    assert len(odd.splitlines()) == len(plain.splitlines())
    assert not set(odd) & set("\x1b\r\x9b\u2028\x00")


def test_a_narrow_terminal_gets_the_columns_in_pages(tmp_path: Path) -> None:
    table = build(tmp_path, *grid())
    text = terminal([table], 60)
    rows = [line for line in text.splitlines() if line.startswith("  ITMC")]
    assert len(rows) > 2
    assert max(len(line) for line in rows) <= 60
    for page in text.split("\n\n")[1:-1]:
        assert len([line for line in page.splitlines() if line.startswith("  ITMC")]) == 2
