"""Paired differences: figures against independent computation, and what has none."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from results.differences import Difference, Differences, difference, differences
from results.records import read
from results.statistics import holm
from tests.results.factory import TASKS, record, write

accuracies = st.lists(
    st.tuples(*[st.integers(0, 1000).map(lambda count: count / 10)] * 2),
    min_size=1,
    max_size=12,
)


def paired(pairs: list[tuple[float, float]], confidence: float = 0.95) -> Difference:
    """The difference of these (reference, method), a seed each."""
    frame = pd.DataFrame(pairs, columns=["reference", "method"])
    return difference(
        frame.assign(task="a->b", seed=range(len(pairs))), "kd", "KD", "baselines", confidence
    )


def noisy(seed: int = 0) -> list[dict[str, Any]]:
    """Five methods on four tasks and three seeds, at two compressions, and a reference."""
    draw = random.Random(seed)
    methods = ("itmc", "itmc_one_shot", "acp_only", "kd", "dan_student")
    made = [record("dan", task, compression=0.0) for task in TASKS[:4]]
    for number, method in enumerate(methods):
        for task in TASKS[:4]:
            for run in range(3):
                for compression in (0.5, 0.75):
                    accuracy = round(70 - number + draw.gauss(0, 2), 2)
                    made.append(
                        record(method, task, seed=run, compression=compression, accuracy=accuracy)
                    )
    return made


def build(out: Path, *records: dict[str, Any], **options: Any) -> Differences:
    """The differences of the only setting of these records."""
    (made,) = differences(read([write(out, *records)]), **options)
    return made


def rows(made: Differences, compression: float) -> dict[str, Difference]:
    """The rows of a block by method."""
    return {row.method: row for row in dict(made.blocks)[compression]}


def test_figures_are_those_of_the_runs(tmp_path: Path) -> None:
    records = noisy()
    made = build(tmp_path, *records, confidence=0.9)
    runs = {
        (r["method"]["name"], r["compression"]["asked"], r["task"]["name"], r["seed"]): r[
            "accuracy"
        ]["last"]["overall"]
        for r in records
    }
    for compression in (0.5, 0.75):
        found = rows(made, compression)
        for method, row in found.items():
            values = [
                runs["itmc", compression, task, seed] - runs[method, compression, task, seed]
                for task in sorted(TASKS[:4])
                for seed in range(3)
            ]
            assert (row.pairs, row.tasks, row.seeds) == (12, 4, 3)
            assert row.mean == pytest.approx(statistics.fmean(values))
            # Student's interval, which the bootstrap's comes near to.
            half = stats.t.ppf(0.95, 11) * statistics.stdev(values) / math.sqrt(12)
            assert (row.low, row.high) == pytest.approx(
                (row.mean - half, row.mean + half), abs=0.3 * half
            )
            assert row.p == pytest.approx(stats.wilcoxon(np.round(values, 9)).pvalue)
            assert row.won == sum(value > 1e-9 for value in values)
            assert row.lost == sum(value < -1e-9 for value in values)
            assert row.won + row.tied + row.lost == 12
        corrected = holm([row.p for row in found.values()])
        assert [row.holm for row in found.values()] == corrected


def test_only_the_others_that_are_asked_for_are_compared_and_corrected_for(tmp_path: Path) -> None:
    write(tmp_path, *noisy())
    (every,), (made,) = (
        differences(read([tmp_path]), others=others) for others in (None, ["kd", "dan_student"])
    )
    assert list(rows(made, 0.5)) == ["dan_student", "kd"]
    for name, row in rows(made, 0.5).items():
        assert replace(row, holm=0.0) == replace(rows(every, 0.5)[name], holm=0.0)
        assert row.holm <= rows(every, 0.5)[name].holm


def test_rows_stand_by_group_and_then_by_name(tmp_path: Path) -> None:
    made = build(tmp_path, *noisy())
    for _, block in made.blocks:
        assert [row.method for row in block] == ["dan_student", "kd", "acp_only", "itmc_one_shot"]
    # Uncompressed methods have no block.
    assert [compression for compression, _ in made.blocks] == [0.5, 0.75]


def test_only_what_both_have_is_compared(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        *(record(task=TASKS[task], seed=seed, accuracy=70.0) for task in (0, 1) for seed in (0, 1)),
        record("kd", TASKS[0], seed=0, accuracy=71.0),
        record("kd", TASKS[1], seed=1, accuracy=75.0),
        record("kd", TASKS[2], seed=0, accuracy=10.0),
        record("kd", TASKS[0], seed=2, accuracy=10.0),
        record("kd", TASKS[1], seed=0, accuracy=None),
    )
    row = rows(made, 0.5)["kd"]
    assert (row.pairs, row.tasks, row.seeds, row.mean) == (2, 2, 2, -3.0)


def test_a_method_without_common_pairs_is_there_as_missing(tmp_path: Path) -> None:
    made = build(
        tmp_path,
        record(seed=0),
        record("kd", seed=1),
        record("tcp", compression=0.75),
        record("mobileda", seed=0, accuracy=79.0),
    )
    assert {name: row.pairs for name, row in rows(made, 0.5).items()} == {
        "kd": 0,
        "mobileda": 1,
        "tcp": 0,
    }
    # The reference itself has no run at 0.75.
    assert [row.pairs for row in rows(made, 0.75).values()] == [0, 0, 0]
    assert math.isnan(rows(made, 0.5)["kd"].mean)
    assert any("5 rows without a pair" in note for note in made.notes)


def test_one_pair_has_neither_interval_nor_p(tmp_path: Path) -> None:
    made = build(tmp_path, record(accuracy=70.0), record("kd", accuracy=72.5))
    row = rows(made, 0.5)["kd"]
    assert (row.mean, row.won, row.lost) == (-2.5, 0, 1)
    assert all(math.isnan(value) for value in (row.low, row.high, row.p, row.holm))
    assert any("n = 1 pair: no interval and no p" in note for note in made.notes)


@pytest.mark.parametrize("ahead", [0.0, 0.1, -3.3])
@pytest.mark.filterwarnings("error")
def test_differences_without_spread_have_no_interval_and_it_is_said(
    tmp_path: Path, ahead: float
) -> None:
    made = build(
        tmp_path,
        # In floats, 70.3 + 0.1 - 70.3 is not 71.7 + 0.1 - 71.7.
        *(record(seed=seed, accuracy=70.3 + 1.4 * seed + ahead) for seed in range(4)),
        *(record("kd", seed=seed, accuracy=70.3 + 1.4 * seed) for seed in range(4)),
    )
    row = rows(made, 0.5)["kd"]
    assert row.mean == pytest.approx(ahead)
    assert (row.won, row.tied, row.lost) == (4 * (ahead > 0), 4 * (ahead == 0), 4 * (ahead < 0))
    assert all(math.isnan(value) for value in (row.low, row.high))
    assert row.p == pytest.approx(0.125 if ahead else 1.0)
    assert any("all alike" in note for note in made.notes)


def test_the_epoch_is_chosen_as_the_protocol_does(tmp_path: Path) -> None:
    made = []
    for protocol in ("paper", "strict"):
        for method, best in (("itmc", 80.0), ("kd", 90.0)):
            run = record(method, accuracy=70.0, protocol=protocol)
            run["accuracy"]["oracle"]["overall"] = best
            made.append(run)
    records = read([write(tmp_path, *made)])
    assert [rows(made, 0.5)["kd"].mean for made in differences(records)] == [-10.0, 0.0]
    given = differences(records, selection="last")
    assert [rows(made, 0.5)["kd"].mean for made in given] == [0.0, 0.0]


def test_a_setting_without_the_reference_has_none(tmp_path: Path) -> None:
    records = read(
        [
            write(
                tmp_path,
                *(record(method) for method in ("itmc", "kd")),
                *(record(method, suite="office31") for method in ("tcp", "kd")),
                record(suite="alone"),
            )
        ]
    )
    assert [made.setting.suite for made in differences(records)] == ["digits"]
    assert [made.setting.suite for made in differences(records, "kd")] == ["digits", "office31"]
    assert differences(records, "dan") == ()


@settings(max_examples=4, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: random.Random
) -> None:
    records = noisy()[:60]
    folder = tmp_path_factory.mktemp("runs")
    want = build(folder / "a", *records)
    shuffled = [dict(made) for made in records]
    order.shuffle(shuffled)
    for number, made in enumerate(shuffled):
        made["run"] = f"{number:03}"  # the order in which directories are read
    assert build(folder / "b", *shuffled) == want


@settings(max_examples=30, deadline=None)
@given(accuracies, st.floats(0.5, 0.99))
def test_the_other_way_round_everything_is_mirrored(
    pairs: list[tuple[float, float]], confidence: float
) -> None:
    one = paired(pairs, confidence)
    other = paired([(method, reference) for reference, method in pairs], confidence)
    assert other.mean == pytest.approx(-one.mean)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), nan_ok=True)
    assert other.p == pytest.approx(one.p, nan_ok=True)
    assert (other.won, other.tied, other.lost) == (one.lost, one.tied, one.won)


@pytest.mark.parametrize(
    ("seeds", "confidence", "note"),
    [
        (3, 0.95, "With 3 pairs p is 0.25 at least, and no interval covers more than 75 %."),
        (5, 0.95, "With 5 pairs p is 0.0625 at least, and no interval covers more than 93.75 %."),
        (6, 0.95, None),
        (3, 0.7, None),
    ],
)
def test_too_few_pairs_for_the_confidence_are_noted(
    tmp_path: Path, seeds: int, confidence: float, note: str | None
) -> None:
    made = build(
        tmp_path,
        *(
            record(m, seed=s, accuracy=70.0 + s * len(m))
            for m in ("itmc", "kd")
            for s in range(seeds)
        ),
        confidence=confidence,
    )
    assert [text for text in made.notes if "pairs p is" in text] == ([] if note is None else [note])
