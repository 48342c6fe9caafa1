"""Paired differences: figures against independent computation, and what has none."""

from __future__ import annotations

import math
import random
import statistics
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from results.differences import Difference, Differences, difference, differences, holm
from results.records import read
from tests.results.factory import TASKS, record, write

accuracies = st.lists(
    st.tuples(*[st.integers(0, 1000).map(lambda count: count / 10)] * 2),
    min_size=1,
    max_size=12,
)


def paired(pairs: list[tuple[float, float]], confidence: float = 0.95) -> Difference:
    """The difference of these (method, reference), a seed each."""
    frame = pd.DataFrame(pairs, columns=["method", "reference"])
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


def test_figures_are_those_of_the_formulas(tmp_path: Path) -> None:
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
                runs[method, compression, task, seed] - runs["itmc", compression, task, seed]
                for task in TASKS[:4]
                for seed in range(3)
            ]
            n, mean = len(values), statistics.fmean(values)
            error = statistics.stdev(values) / math.sqrt(n)
            half = stats.t.ppf(0.95, n - 1) * error  # both sides of 0.9
            assert (row.pairs, row.tasks, row.seeds) == (12, 4, 3)
            assert row.mean == pytest.approx(mean)
            assert (row.low, row.high) == pytest.approx((mean - half, mean + half))
            assert row.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, n - 1))
            assert row.won == sum(value > 0 for value in values)
            assert row.lost == sum(value < 0 for value in values)
            assert row.won + row.tied + row.lost == n
        raw = {method: row.p for method, row in found.items()}
        for method, row in found.items():
            assert row.holm == pytest.approx(closed_testing(list(raw.values()), raw[method]))


def closed_testing(ps: list[float], p: float) -> float:
    """Holm by its definition: p is rejected where Bonferroni rejects every set it is in."""
    place = ps.index(p)
    others = [number for number in range(len(ps)) if number != place]
    sets = chain.from_iterable(combinations(others, size) for size in range(len(ps)))
    return max(
        min(1.0, (1 + len(rest)) * min(ps[number] for number in (place, *rest))) for rest in sets
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 6))
def test_holm_is_closed_testing_by_bonferroni(ps: list[float], place: int) -> None:
    corrected = holm([*ps[:place], math.nan, *ps[place:]])
    untested = min(place, len(ps))
    assert math.isnan(corrected.pop(untested))
    assert corrected == pytest.approx([closed_testing(ps, p) for p in ps])


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
    assert (row.pairs, row.tasks, row.seeds, row.mean) == (2, 2, 2, 3.0)


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
    assert (row.mean, row.won) == (2.5, 1)
    assert all(math.isnan(value) for value in (row.low, row.high, row.p, row.holm))
    assert any("n = 1 pair: no interval and no p" in note for note in made.notes)


@pytest.mark.parametrize("ahead", [0.0, 0.1, -3.3])
@pytest.mark.filterwarnings("error")
def test_differences_without_spread_have_neither_and_it_is_said(
    tmp_path: Path, ahead: float
) -> None:
    made = build(
        tmp_path,
        # In floats, 70.3 + 0.1 - 70.3 is not 71.7 + 0.1 - 71.7.
        *(record(seed=seed, accuracy=70.3 + 1.4 * seed) for seed in range(4)),
        *(record("kd", seed=seed, accuracy=70.3 + 1.4 * seed + ahead) for seed in range(4)),
    )
    row = rows(made, 0.5)["kd"]
    assert row.mean == pytest.approx(ahead)
    assert (row.won, row.tied, row.lost) == (4 * (ahead > 0), 4 * (ahead == 0), 4 * (ahead < 0))
    assert all(math.isnan(value) for value in (row.low, row.high, row.p, row.holm))
    assert any("all alike" in note for note in made.notes)


def test_the_epoch_is_chosen_as_the_protocol_does(tmp_path: Path) -> None:
    made = []
    for protocol in ("paper", "strict"):
        for method, best in (("itmc", 80.0), ("kd", 90.0)):
            run = record(method, accuracy=70.0, protocol=protocol)
            run["accuracy"]["oracle"]["overall"] = best
            made.append(run)
    records = read([write(tmp_path, *made)])
    assert [rows(made, 0.5)["kd"].mean for made in differences(records)] == [10.0, 0.0]
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


@settings(max_examples=20, deadline=None)
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


@given(accuracies, st.integers(-50, 50))
def test_a_constant_moves_mean_and_interval_and_nothing_else(
    pairs: list[tuple[float, float]], shift: int
) -> None:
    before, after = paired(pairs), paired([(method + shift, ref) for method, ref in pairs])
    assert after.mean == pytest.approx(before.mean + shift, abs=1e-6)
    assert after.low == pytest.approx(before.low + shift, abs=1e-6, nan_ok=True)
    assert after.high == pytest.approx(before.high + shift, abs=1e-6, nan_ok=True)


@given(accuracies, st.floats(0.5, 0.99))
def test_the_other_way_round_everything_is_mirrored(
    pairs: list[tuple[float, float]], confidence: float
) -> None:
    one = paired(pairs, confidence)
    other = paired([(reference, method) for method, reference in pairs], confidence)
    assert other.mean == pytest.approx(-one.mean)
    assert other.low == pytest.approx(-one.high, nan_ok=True)
    assert other.p == pytest.approx(one.p, nan_ok=True)
    assert (other.won, other.tied, other.lost) == (one.lost, one.tied, one.won)


@given(accuracies)
def test_p_and_interval_agree(pairs: list[tuple[float, float]]) -> None:
    row = paired(pairs)
    if not math.isnan(row.p) and not math.isclose(row.p, 0.05, rel_tol=1e-6):
        assert (row.p < 0.05) == (row.low > 0 or row.high < 0)
    assert math.isnan(row.p) == math.isnan(row.low) == math.isnan(row.high)
