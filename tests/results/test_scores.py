"""The table of label-free scores: what stands in it, what it says, and the commands beside it."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import compare, plot, table
from results.aggregate import tables
from results.records import read
from results.schema import SCORES
from results.scores import ScoreTable, document, score_tables
from tests.results.factory import record, write

FORMS = ("terminal", "markdown", "latex", "csv")


def values(lead: float, seed: int) -> dict[str, float]:
    """Scores that are the higher, the higher the lead."""
    return {
        "source_validation": 80 + lead + seed * seed,
        "entropy": -0.5 + lead / 100 + seed / 50,
        "infomax": 1.5 + lead / 10,
        "snd": 4 + lead / 10,
        "dev": -0.4 + lead / 100,
    }


def grid(task: str = "hand->own", shift: float = 0.0) -> list[dict[str, Any]]:
    """A reference and three methods on a target without labels; three seeds, two compressions."""
    made = []
    for seed in range(3):
        made.append(
            record(
                "source_only", task, seed=seed, compression=0.0, labelled=False,
                scores=values(9 + shift, seed),
            )
        )  # fmt: skip
        for method, lead in (("itmc", 3.0), ("kd", 2.0), ("dan_student", 0.0)):
            for compression in (0.5, 0.75):
                scores = values(lead + shift - 2 * compression, seed)
                made.append(
                    record(
                        method, task, seed=seed, compression=compression, labelled=False,
                        scores=scores,
                    )
                )  # fmt: skip
    return made


def build(out: Path, *records: dict[str, Any]) -> ScoreTable:
    """The only table of scores of these records."""
    (made,) = score_tables(read([write(out, *records)]))
    return made


def test_cells_are_means_over_seeds_of_each_score(tmp_path: Path) -> None:
    made = build(tmp_path, *grid())
    (block,) = (block for block in made.blocks if block.compression == 0.5)
    (row,) = (row for row in block.rows if row.method == "itmc")
    for key, cell in zip(SCORES, row.cells, strict=True):
        by_seed = [values(2.0, seed)[key] for seed in range(3)]
        assert cell.n == 3
        assert cell.mean == pytest.approx(statistics.mean(by_seed))
        assert cell.sd == pytest.approx(statistics.stdev(by_seed), abs=1e-12)
    assert (row.costs.removed, row.costs.macs) == (50.0, 1_800_000)


def test_rows_stand_as_in_the_table_of_accuracies(tmp_path: Path) -> None:
    labelled = [made | {"accuracy": record()["accuracy"]} for made in grid()]
    (main,) = tables(read([write(tmp_path / "labelled", *labelled)]))
    made = build(tmp_path / "unlabelled", *grid())
    order = [(block.compression, [row.label for row in block.rows]) for block in made.blocks]
    assert order == [
        (block.compression, [row.label for row in block.rows]) for block in main.blocks
    ]


def test_the_highest_of_the_compressed_are_marked_also_where_scores_are_negative(
    tmp_path: Path,
) -> None:
    made = build(tmp_path, *grid())
    for block in made.blocks:
        ranks = {row.method: {cell.rank for cell in row.cells} for row in block.rows}
        if block.compression:
            assert ranks == {"dan_student": {0}, "kd": {2}, "itmc": {1}}
        else:
            assert ranks == {"source_only": {0}}
    assert "**−0.460 ± 0.020**" in document([made]).text("markdown")
    assert "<u>−0.470 ± 0.020</u>" in document([made]).text("markdown")
    assert r"\textbf{83.7 $\pm$ 2.1}" in document([made]).text("latex")


def test_scores_that_print_alike_share_a_mark(tmp_path: Path) -> None:
    alike = [
        record(method, labelled=False, scores={"snd": snd, "source_validation": 90 + snd / 100})
        for method, snd in (("itmc", 4.0001), ("kd", 4.0004), ("tcp", 4.002))
    ]
    (block,) = build(tmp_path, *alike).blocks
    by_method = {row.method: [row.cells[SCORES.index(k)].rank for k in ("snd", "source_validation")]
                 for row in block.rows}  # fmt: skip
    assert by_method == {"itmc": [2, 1], "kd": [2, 1], "tcp": [1, 1]}


def test_a_task_has_a_table_of_its_own(tmp_path: Path) -> None:
    records = read([write(tmp_path, *grid("hand->own"), *grid("print->own", 1.0))])
    made = score_tables(records)
    assert [one.task for one in made] == ["hand->own", "print->own"]
    best = [one.blocks[1].rows[-1].cells[0] for one in made]
    assert [cell.rank for cell in best] == [1, 1]
    assert best[1].mean == pytest.approx(best[0].mean + 1)


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_the_caption_says_what_the_scores_are_not(tmp_path: Path, form: str) -> None:
    text = document([build(tmp_path, *grid())]).text(form)
    for words in (
        "whose target has no labels",
        "not accuracies",
        "cannot be compared across tasks",
        "higher is better",
        "n = 3 seeds",
        "MACs removed",
        "student MACs",
    ):
        assert words in text
    assert "target accuracy" not in text
    assert "gain" not in text


def test_a_score_that_was_not_taken_is_missing_and_said(tmp_path: Path) -> None:
    made = grid()
    for run in made:
        del run["scores"]["dev"], run["scores"]["source_validation"]  # no holdout
    built = build(tmp_path, *made)
    assert built.n == 3
    assert built.notes == ("14 of 35 cells are missing.",)
    lines = document([built]).text("markdown").splitlines()
    (line,) = (line for line in lines if line.startswith("| source only"))
    assert line.count("—") == 2


def test_csv_has_a_line_a_cell_whatever_the_order_of_the_records(tmp_path: Path) -> None:
    texts = set()
    for name, records in (("a", grid()), ("b", grid()[::-1])):
        for number, made in enumerate(records):
            made["run"] = f"{number:03}"
        texts.add(document([build(tmp_path / name, *records)]).text("csv"))
    (text,) = texts
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == (1 + 2 * 3) * len(SCORES)
    (cell,) = (
        row
        for row in rows
        if (row["method"], row["compression"], row["score"]) == ("kd", "0.75", "entropy")
    )
    assert (cell["task"], cell["mean"], cell["sd"], cell["n"], cell["removed"]) == (
        "hand->own", "-0.4750", "0.0200", "3", "75.00",
    )  # fmt: skip


def test_labelled_and_unlabelled_never_share_a_table(tmp_path: Path) -> None:
    records = read([write(tmp_path, *grid(), record("kd", seed=5), record("itmc", seed=5))])
    (main,) = tables(records)
    assert [column.task for column in main.columns] == ["hand->print", "average"]
    assert {row.method for row in main.rows()} == {"kd", "itmc"}
    (scored,) = score_tables(records)
    assert scored.task == "hand->own"
    assert {cell.n for cell in scored.cells()} == {3}


@pytest.mark.parametrize("form", FORMS)
def test_the_table_command_shows_scores_where_no_target_has_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    write(tmp_path, *grid())
    assert table.main([str(tmp_path), "--format", form]) == 0
    out, err = capsys.readouterr()
    assert out == document(score_tables(read([tmp_path]))).text(form)
    assert err == "no target here has labels: label-free scores, no accuracies\n"


def test_beside_accuracies_the_table_command_shows_scores_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *grid(), record())
    assert table.main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "hand->own" not in out
    assert err == "21 runs on targets without labels: see --by score\n"
    assert table.main([str(tmp_path), "--by", "score"]) == 0
    out, err = capsys.readouterr()
    assert "hand->own" in out
    assert err == ""


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        (compare.main, [], ["no accuracies", "21 runs have no labels", "results.table"]),
        (plot.main, [], ["no accuracies", "21 runs have no labels", "results.table"]),
        (table.main, ["--by", "task"], ["no accuracies", "21 runs have no labels"]),
        (table.main, ["--by", "selection"], ["no accuracies", "21 runs have no labels"]),
        (table.main, ["--select", "last"], ["--select last", "--by score", "the last epoch"]),
        (table.main, ["--mean-class"], ["--mean-class", "--by score"]),
    ],
)
def test_what_needs_accuracies_says_in_one_line_that_there_are_none(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[list[str]], int],
    options: list[str],
    words: list[str],
) -> None:
    write(tmp_path, *grid())
    with pytest.raises(SystemExit) as left:
        command([str(tmp_path), *options])
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_scores_are_refused_where_all_targets_have_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, record())
    with pytest.raises(SystemExit):
        table.main([str(tmp_path), "--by", "score"])
    assert "all targets have labels" in capsys.readouterr().err
