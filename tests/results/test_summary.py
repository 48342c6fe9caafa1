"""What a suite writes when its grid is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results import compare, scores, summary
from results.aggregate import selection_tables, tables
from results.differences import differences
from results.ranks import ranks
from results.records import read
from results.render import document
from tests.results.factory import record, write

PLOTS = {
    f"{stem}.{form}"
    for stem in (
        *("accuracy_vs_compression", "per_task"),
        *("accuracy_vs_macs", "accuracy_vs_latency"),
    )
    for form in ("png", "pdf")
}


def files(*stems: str) -> set[str]:
    """The names of tables and plots."""
    formats = ("md", "csv", "tex", "html")
    return PLOTS | {"leaderboard.csv"} | {f"{stem}.{form}" for stem in stems for form in formats}


def grid(*methods: str) -> list[dict[str, Any]]:
    """Two seeds of each method."""
    return [
        record(method, seed=seed, accuracy=70.0 + seed * number)
        for number, method in enumerate(methods)
        for seed in (0, 1)
    ]


def test_everything_is_written_and_listed(tmp_path: Path) -> None:
    write(tmp_path, *grid("itmc", "kd"))
    for _ in range(2):  # a second time, over the first
        made = summary.write(tmp_path)
    listed = [*made.tables, *made.plots]
    assert {path.name for path in listed} == files("table", "selections", "differences")
    assert sorted((tmp_path / "summary").iterdir()) == sorted(listed)
    assert all(path.stat().st_size for path in listed)
    records = read([tmp_path])
    assert made.text == document(tables(records)).text("terminal")
    out = tmp_path / "summary"
    for name, shown in (
        ("table", document(tables(records))),
        ("selections", document(selection_tables(records))),
        ("differences", compare.document(differences(records), ranks(records))),
    ):
        forms = ((".md", "markdown"), (".csv", "csv"), (".tex", "latex"), (".html", "html"))
        for suffix, form in forms:
            assert (out / f"{name}{suffix}").read_text() == shown.text(form)


@pytest.mark.parametrize("methods", [("itmc",), ("kd", "tcp"), ("itmc", "dan")])
def test_without_something_to_compare_there_are_no_differences(
    tmp_path: Path, methods: tuple[str, ...]
) -> None:
    made = grid(*methods)
    for run in made:
        if run["method"]["name"] == "dan":
            run["compression"]["asked"] = 0.0
    written = summary.write(write(tmp_path, *made), show_differences=True)
    assert {path.name for path in (*written.tables, *written.plots)} == files("table", "selections")
    assert written.text == document(tables(read([tmp_path]))).text("terminal")


def test_the_text_ends_with_the_differences_where_they_are_asked(tmp_path: Path) -> None:
    write(tmp_path, *grid("itmc", "kd", "tcp"))
    made = summary.write(tmp_path, 60, reference="kd", show_differences=True)
    records = read([tmp_path])
    main = document(tables(records)).text("terminal", 60)
    differ = compare.document(differences(records, "kd"), ranks(records)).text("terminal", 60)
    assert made.text == main + "\n" + differ
    assert "kd minus each method" in (tmp_path / "summary" / "differences.md").read_text()


def unlabelled(*methods: str) -> list[dict[str, Any]]:
    """Two seeds of each method on a target without labels."""
    return [
        record(method, "hand->own", seed=seed, labelled=False)
        for method in methods
        for seed in (0, 1)
    ]


def test_targets_without_labels_add_a_table_and_change_no_other(tmp_path: Path) -> None:
    labelled = grid("itmc", "kd")
    summary.write(write(tmp_path / "a", *labelled))
    made = summary.write(write(tmp_path / "b", *labelled, *unlabelled("itmc", "kd")))
    listed = [*made.tables, *made.plots]
    assert {path.name for path in listed} == files("table", "selections", "differences", "scores")
    for path in listed:
        if path.stem == "scores":
            continue
        before = (tmp_path / "a" / "summary" / path.name).read_bytes()
        if path.suffix in (".md", ".tex", ".html"):
            note = "4 runs on targets without labels left out: they have no accuracy"
            assert note in path.read_text()
            assert b"without labels" not in before
        else:
            assert path.read_bytes() == before
    records = read([tmp_path / "b"])
    main, scored = document(tables(records)), scores.document(scores.score_tables(records))
    assert made.text == main.text("terminal") + "\n" + scored.text("terminal")


def test_of_targets_without_labels_alone_there_are_only_scores(tmp_path: Path) -> None:
    made = summary.write(write(tmp_path, *unlabelled("itmc", "kd")), show_differences=True)
    assert made.plots == ()
    assert {path.name for path in (tmp_path / "summary").iterdir()} == {
        f"scores.{suffix}" for suffix in ("md", "csv", "tex", "html")
    }
    shown = scores.document(scores.score_tables(read([tmp_path])))
    assert made.text == summary.NO_ACCURACIES + "\n" + shown.text("terminal")
    assert (tmp_path / "summary" / "scores.md").read_text() == shown.text("markdown")
