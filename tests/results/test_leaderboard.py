"""``python -m results.leaderboard``: one row a setting, compression, method and task."""

from __future__ import annotations

import csv
import math
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from results.entry import FIGURES, Entry
from results.leaderboard import main
from results.leaderboard_file import COLUMNS, read_file, text
from results.records import ResultsError, read
from results.schema import METRICS, SELECTIONS
from results.standings import entries
from tests.results.factory import TASKS, record, write

ROOT = Path(__file__).parents[2]


def standings(*records: dict[str, Any], folder: Path) -> tuple[Entry, ...]:
    return entries(read([write(folder, *records)]))


def written(runs: Path, file: Path, *options: str) -> str:
    assert main([str(runs), "--out", str(file), *options]) == 0
    return file.read_text()


def timed(made: dict[str, Any], latency: float, **where: Any) -> dict[str, Any]:
    """The record with another latency for a batch of 1, and another device or threads."""
    student = made["cost"]["student"]
    student["latency_ms"] = student["latency_ms"] | {"batch_1": {"p50": latency}}
    student["latency_ms"]["threads"] = where.get("threads", 1)
    made["environment"]["device"] = where.get("device", "cpu")
    return made


def test_an_entry_tells_mean_sd_seeds_and_the_hash_of_each_record(tmp_path: Path) -> None:
    values = {2: 81.5, 0: 80.0, 1: 84.25}
    runs = [record(seed=seed, accuracy=value) for seed, value in values.items()]
    entry, average = standings(*runs, folder=tmp_path)
    hashes = read([tmp_path]).frame.set_index("seed")["record"]
    assert (entry.task, average.task) == ("hand->print", "average")
    assert entry.seeds == (0, 1, 2)
    assert entry.accuracies == (80.0, 84.25, 81.5)
    assert entry.mean == pytest.approx((80.0 + 84.25 + 81.5) / 3)
    assert entry.sd == pytest.approx(statistics.stdev(values.values()))
    assert entry.records == tuple(hashes[seed] for seed in (0, 1, 2))
    assert (entry.macs, entry.removed, entry.latency_32) == (1_800_000, 50.0, 3.1)


def test_the_average_stands_over_the_seeds_that_have_all_tasks(tmp_path: Path) -> None:
    runs = [
        record(task=TASKS[0], seed=0, accuracy=70),
        record(task=TASKS[1], seed=0, accuracy=90),
        record(task=TASKS[0], seed=1, accuracy=10),
    ]
    *tasks, average = standings(*runs, folder=tmp_path)
    assert [(entry.task, entry.n) for entry in tasks] == [(TASKS[0], 2), (TASKS[1], 1)]
    assert (average.task, average.seeds, average.accuracies) == ("average", (0,), (80.0,))
    assert math.isnan(average.sd)
    changed = record(task=TASKS[1], seed=0, accuracy=90, finished="2026-11-23T00:00:00+00:00")
    *_, later = standings(*runs, changed, folder=tmp_path)
    assert later.accuracies == average.accuracies
    assert later.records != average.records


def test_averages_over_different_tasks_are_not_of_the_same(tmp_path: Path) -> None:
    few = standings(record(), folder=tmp_path / "few")[-1]
    many = standings(record(), record(task=TASKS[1]), folder=tmp_path / "many")[-1]
    assert few.task == many.task == "average"
    assert few.key() != many.key()


def test_what_was_trained_otherwise_or_on_other_data_is_not_of_the_same(tmp_path: Path) -> None:
    others: list[dict[str, Any]] = [
        {"training": {"epochs": 6, "lr": 0.1}},
        {"training": {"epochs": 6, "lr": 0.2}},
        {"dataset": {"name": "digits", "digest": "sha256:1"}},
    ]
    found = [
        standings(record(**other), folder=tmp_path / str(place))[0].key()
        for place, other in enumerate([{}, *others])
    ]
    assert len(set(found)) == 4


def test_rows_are_by_compression_group_method_and_task(tmp_path: Path) -> None:
    runs = [
        record(method, task, compression=compression)
        for method, compression in (
            *(("tkd_only", 0.5), ("itmc", 0.75), ("itmc", 0.5), ("kd", 0.5)),
            *(("dan", 0.0), ("source_only", 0.0)),
        )
        for task in (TASKS[4], TASKS[1])
    ]
    found = [
        (entry.compression, entry.method, entry.task) for entry in standings(*runs, folder=tmp_path)
    ]
    methods = [(0, "source_only"), (0, "dan"), (0.5, "kd"), (0.5, "itmc"), (0.5, "tkd_only")]
    expected = [*methods, (0.75, "itmc")]
    assert found == [
        (*method, task) for method in expected for task in (TASKS[1], TASKS[4], "average")
    ]


def test_latencies_of_several_devices_or_numbers_of_threads_are_not_mixed(tmp_path: Path) -> None:
    alike = [timed(record(seed=seed), value) for seed, value in enumerate((1.0, 9.0, 2.0))]
    (entry, _) = standings(*alike, folder=tmp_path / "alike")
    assert (entry.latency_1, entry.device, entry.threads) == (2.0, "cpu x86_64", 1)
    other = timed(record(seed=3), 3.0, device="A GPU")
    (entry, _) = standings(*alike, other, folder=tmp_path / "devices")
    assert math.isnan(entry.latency_1)
    assert entry.device == "A GPU x86_64, cpu x86_64"
    other = timed(record(seed=3), 3.0, threads=2)
    (entry, _) = standings(*alike, other, folder=tmp_path / "threads")
    assert math.isnan(entry.latency_1)
    assert entry.threads is None


def test_the_file_is_the_same_wherever_and_in_whatever_order_it_is_read(tmp_path: Path) -> None:
    runs = [
        record(method, task, seed=seed, accuracy=70 + seed)
        for method in ("itmc", "kd")
        for task in TASKS[:3]
        for seed in (0, 1)
    ]
    for made in runs:
        made["network"]["weights"] = str(tmp_path / "start.pt")
    whole = written(write(tmp_path / "a", *runs), tmp_path / "a.csv")
    write(tmp_path / "one", *runs[1::2])
    write(tmp_path / "two", *runs[::2], runs[1])
    shutil.copytree(tmp_path / "two", tmp_path / "elsewhere")
    parts = [str(tmp_path / "one"), str(tmp_path / "elsewhere")]
    for given_parts in (parts, parts[::-1]):
        assert main([*given_parts, "--out", str(tmp_path / "b.csv")]) == 0
        assert (tmp_path / "b.csv").read_text() == whole
    assert str(tmp_path) not in whole


def test_a_new_method_adds_lines_and_changes_none(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", *(record(m, t) for m in ("itmc", "kd") for t in TASKS[:2]))
    before = written(runs, tmp_path / "before.csv").splitlines()
    write(runs, *(record("dkd", t) for t in TASKS[:2]))
    after = written(runs, tmp_path / "after.csv").splitlines()
    assert [line for line in after if line in before] == before
    assert len(after) == len(before) + 3


def test_figures_have_fixed_decimals_and_what_does_not_exist_is_empty(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", record(accuracy=200 / 3), record(seed=1, accuracy=70.0))
    file = tmp_path / "new" / "board.csv"
    written(runs, file)
    assert b"\r" not in file.read_bytes()
    with file.open(newline="", encoding="utf-8") as opened:
        row = next(csv.DictReader(opened))
    assert row["accuracies"] == "66.6667 70.0000"
    assert (row["mean"], row["sd"], row["n"], row["seeds"]) == ("68.33", "2.36", "2", "0 1")
    assert (row["compression"], row["macs"], row["removed"]) == ("0.5", "1800000", "50.00")
    assert row["image_size"] == ""


def test_selection_and_metric_are_those_asked(tmp_path: Path) -> None:
    made = record(accuracy=80.0)
    made["accuracy"]["oracle"] = {"epoch": 3, "overall": 88.0, "mean_class": 85.0}
    runs = write(tmp_path / "runs", made)
    written(runs, tmp_path / "board.csv", "--select", "oracle", "--mean-class")
    entry, _ = read_file(tmp_path / "board.csv")
    assert (entry.mean, entry.selection, entry.metric) == (85.0, "oracle", "mean_class")


def test_a_selection_that_no_run_has_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, record())
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), "--select", "entropy"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert "entropy" in err
    assert err.count("\n") == 1


def test_the_module_prints_and_tells_what_is_not_in_it(tmp_path: Path) -> None:
    write(tmp_path, record())
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "config.yaml").write_text("")
    command = [sys.executable, "-m", "results.leaderboard", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == ",".join(column.name for column in COLUMNS)
    assert done.stdout.count("\n") == 3
    assert done.stderr == "not in the leaderboard: 1 run unfinished\n"


WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
WHOLE = st.none() | st.integers(1, 10**6)
HEX = "0123456789abcdef"


def figures(decimals: int) -> st.SearchStrategy[float]:
    return st.just(math.nan) | st.floats(0, 1e9).map(lambda value: round(value, decimals))


FIGURE = st.just(math.nan) | st.integers(0, 10**18).map(float) | figures(6)


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    seeds = sorted(draw(st.sets(st.integers(0, 99), min_size=1, max_size=4)))
    accuracies = [round(draw(st.floats(0, 100)), 4) for _ in seeds]
    names = ("suite", "protocol", "backbone", "weights", "group", "method", "label", "task", "data")
    values: dict[str, Any] = {
        **{name: draw(WORDS) for name in names},
        **{name: draw(WORDS | st.just("")) for name in ("dataset", "device")},
        **{name: draw(WHOLE) for name in ("bottleneck", "image_size", "epochs", "threads")},
        **{name: draw(figures(0)) for name in ("macs", "parameters", "activations", "bytes")},
        **{name: draw(figures(4)) for name in ("latency_1", "latency_32")},
        "setting": draw(st.text(HEX, min_size=8, max_size=8)),
        "selection": draw(st.sampled_from(sorted(SELECTIONS))),
        "metric": draw(st.sampled_from(sorted(METRICS))),
        "compression": draw(st.floats(0, 1, exclude_max=True)),
        "tasks": draw(st.integers(1, 99)),
        "seeds": tuple(seeds),
        "accuracies": tuple(accuracies),
        "removed": draw(figures(2)),
        "records": tuple(draw(st.text(HEX, min_size=12, max_size=12)) for _ in seeds),
        "unpruned": draw(WORDS | st.just("")),
        "place": draw(WHOLE),
        "edition": draw(st.integers(0, 9)),
        "figures": {name: tuple(draw(FIGURE) for _ in seeds) for name in FIGURES},
        "devices": tuple(draw(WORDS.filter(lambda word: ";" not in word)) for _ in seeds),
    }
    return Entry(**values)


@settings(max_examples=50)
@given(st.lists(any_entry(), min_size=1, max_size=3, unique_by=Entry.key))
def test_a_file_reads_back_as_the_entries_it_was_written_of(
    tmp_path_factory: pytest.TempPathFactory, found: list[Entry]
) -> None:
    file = tmp_path_factory.mktemp("board") / "board.csv"
    file.write_text(text(found), encoding="utf-8", newline="")
    assert read_file(file) == tuple(found)
    # As a checkout with other line ends has it.
    file.write_text(text(found), encoding="utf-8", newline="\r\n")
    assert read_file(file) == tuple(found)


def test_a_file_reads_back_as_the_records_do(tmp_path: Path) -> None:
    runs = [record(t, seed=s, accuracy=100 / (s + 3)) for t in ("itmc", "kd") for s in range(3)]
    found = standings(*runs, folder=tmp_path)
    (tmp_path / "board.csv").write_text(text(found))
    assert read_file(tmp_path / "board.csv") == found


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("suite", "", "is empty"),
        ("epochs", "six", "'six' is not a whole number"),
        ("setting", "xyz", "8 hex digits"),
        ("selection", "best", "'best' is none of last,"),
        ("metric", "loss", "overall, mean_class"),
        ("compression", "1.5", "[0, 1)"),
        ("compression", "", "[0, 1)"),
        ("mean", "85.00", "85 where the accuracies give 80.50"),
        ("sd", "", "nothing where the accuracies give 0.71"),
        ("n", "0", "'0' is not a number of seeds from 1 on"),
        ("seeds", "", "is empty"),
        ("accuracies", "", "is empty"),
        ("n", "3", "3 where the accuracies give 2"),
        ("seeds", "1 0", "not ascending"),
        ("seeds", "0 1 2", "2 for 3 seeds"),
        ("accuracies", "80.0000 nan", "'nan' is not a number"),
        ("accuracies", "80.0000 101.0000", "percentages"),
        ("macs", "-5", "'-5' is not a number"),
        ("macs", "1" * 400, "is not a number"),
        ("records", "0123456789ab", "1 for 2 seeds"),
        ("records", "a b", "12 hex digits"),
        ("images", "1 2 3", "3 for 2 seeds"),
        ("forward_macs", "many", "'many' is not a number"),
        ("edition", "", "'' is not a whole number"),
    ],
)
def test_a_damaged_cell_is_named_by_line_and_column(
    tmp_path: Path, column: str, cell: str, words: str
) -> None:
    entry, _ = standings(record(), record(seed=1, accuracy=81.0), folder=tmp_path)
    file = tmp_path / "board.csv"
    rows = list(csv.reader(text([entry, replace(entry, method="other")]).splitlines()))
    rows[2][rows[0].index(column)] = cell
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    with pytest.raises(ResultsError) as refused:
        read_file(file)
    message = str(refused.value)
    assert message.startswith(f"{file}, line 3: column ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: "", ["is not a leaderboard"]),
        (lambda t: "a,b\n1,2\n", ["is not a leaderboard"]),
        (lambda t: t.splitlines()[0] + "\n", ["has no rows"]),
        (lambda t: t.replace("macs", "flops", 1), ["line 1", "without macs", "with 'flops'"]),
        (lambda t: t.replace("suite,dataset", "dataset,suite"), ["line 1", "another order"]),
        (lambda t: t + t.splitlines()[1] + "\n", ["line 4", "same as a line before"]),
        (lambda t: t + "digits,digits\n", ["line 4", "2 cells, expected 49"]),
        (lambda t: t + '"digits', ["line 4", "unexpected end"]),
    ],
)
def test_what_is_no_leaderboard_of_this_version_is_refused(
    tmp_path: Path, change: Any, words: list[str]
) -> None:
    whole = text(standings(record(), folder=tmp_path))
    file = tmp_path / "board.csv"
    file.write_text(change(whole))
    with pytest.raises(ResultsError) as refused:
        read_file(file)
    for word in (*words, str(file)):
        assert word in str(refused.value)


def test_a_file_that_a_spreadsheet_saved_is_read_all_the_same(tmp_path: Path) -> None:
    made = standings(record(), folder=tmp_path)
    file = tmp_path / "board.csv"
    lines = text(made).splitlines()
    file.write_bytes(("\ufeff" + "\r\n".join([*lines[:2], "", *lines[2:], "", ""])).encode())
    assert text(read_file(file)) == text(made)


def test_no_accuracy_of_the_protocols_own_choice_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record(protocol="paper")
    made["accuracy"]["oracle"]["overall"] = None
    with pytest.raises(SystemExit) as left:
        main([str(write(tmp_path, made))])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "no accuracy by oracle in 1 run; choose by --select: last, source_validation" in said
    assert "None" not in said


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "board.csv").write_bytes(b"\xff\xfe\x00suite")
    with pytest.raises(ResultsError, match="UTF-8"):
        read_file(tmp_path / "board.csv")
