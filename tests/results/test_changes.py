"""Two standings compared: matching rows, the difference with its interval, the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from results.changes import Change, compare, difference
from results.entry import Entry
from results.records import ResultsError

BASE = Entry(
    suite="digits",
    dataset="digits",
    protocol="strict",
    backbone="digits_convnet",
    weights="none",
    bottleneck=64,
    image_size=32,
    epochs=6,
    setting="0123abcd",
    data="0123456789ab",
    selection="last",
    metric="overall",
    compression=0.5,
    group="itmc",
    method="itmc",
    label="ITMC",
    task="hand->print",
    tasks=1,
    seeds=(0,),
    accuracies=(80.0,),
    removed=50.0,
    macs=1_000_000.0,
    parameters=51_000.0,
    activations=23_000.0,
    bytes=210_000.0,
    latency_1=0.4,
    latency_32=3.1,
    device="cpu x86_64",
    threads=1,
    records=("0123456789ab",),
)


def entry(accuracies: Mapping[int, float]) -> Entry:
    """An entry with these accuracies by seed."""
    return replace(
        BASE,
        seeds=tuple(accuracies),
        accuracies=tuple(accuracies.values()),
        records=("0123456789ab",) * len(accuracies),
    )


def only(old: Entry, new: Entry, tolerance: float = 0.5) -> Change:
    (row,) = compare([old], [new], tolerance).rows
    return row


def test_the_difference_is_paired_over_the_seeds_in_common() -> None:
    old = entry({0: 70.0, 1: 80.0, 2: 90.0, 7: 10.0})
    new = entry({0: 70.9, 1: 80.4, 2: 91.1, 8: 100.0})
    found = difference(old, new)
    gains = np.array([0.9, 0.4, 1.1])
    # 4.302653: t distribution of 2 degrees of freedom, 0.975, from a printed table.
    half = 4.302653 * gains.std(ddof=1) / math.sqrt(3)
    assert found.pairs == 3
    assert (found.mean, found.low, found.high) == pytest.approx(
        (0.8, 0.8 - half, 0.8 + half), abs=1e-5
    )


# Where one side has no spread.
@pytest.mark.filterwarnings("ignore:Precision loss")
@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 10**4), min_size=2, max_size=5),
    st.lists(st.integers(0, 10**4), min_size=2, max_size=5),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_intervals_are_those_of_the_t_tests(
    first: list[int], second: list[int], confidence: float
) -> None:
    old, new = ([value / 100 for value in values] for values in (first, second))
    both = min(len(old), len(new))
    paired = difference(
        entry(dict(enumerate(old[:both]))), entry(dict(enumerate(new[:both]))), confidence
    )
    if len({round(b - a, 6) for a, b in zip(old, new, strict=False)}) > 1:
        expected = stats.ttest_rel(new[:both], old[:both]).confidence_interval(confidence)
        assert (paired.low, paired.high) == pytest.approx(tuple(expected))
    else:
        assert math.isnan(paired.low)
        assert not paired.is_within_noise()
    unpaired = difference(
        entry(dict(enumerate(old))), entry(dict(enumerate(new, start=10))), confidence
    )
    assert unpaired.pairs == 0
    if len(set(old)) > 1 or len(set(new)) > 1:
        welch = stats.ttest_ind(new, old, equal_var=False).confidence_interval(confidence)
        assert (unpaired.low, unpaired.high) == pytest.approx(tuple(welch))
    else:
        assert math.isnan(unpaired.low)


def test_pairing_sees_what_the_spread_over_seeds_hides() -> None:
    old, new = {0: 60.0, 1: 70.0, 2: 80.0}, {0: 61.0, 1: 71.1, 2: 80.9}
    assert not difference(entry(old), entry(new)).is_within_noise()
    shifted = {seed + 5: value for seed, value in new.items()}
    assert difference(entry(old), entry(shifted)).is_within_noise()


def test_one_seed_gives_a_verdict_and_no_interval() -> None:
    for new in (entry({0: 79.0}), entry({3: 79.0}), entry({0: 79.0, 1: 20.0})):
        row = only(entry({0: 80.0}), new)
        assert row.difference is not None
        assert math.isnan(row.difference.low)
        assert row.verdict == "worse"


@pytest.mark.parametrize(
    ("accuracy", "tolerance", "verdict"),
    [
        (79.4, 0.5, "worse"),
        (79.5, 0.5, "same"),
        (80.5, 0.5, "same"),
        (80.6, 0.5, "better"),
        (79.4, 0.6, "same"),
        (79.9999, 0.0, "worse"),
        (80.0, 0.0, "same"),
    ],
)
def test_the_verdict_is_by_the_tolerance(accuracy: float, tolerance: float, verdict: str) -> None:
    assert only(entry({0: 80.0}), entry({0: accuracy}), tolerance).verdict == verdict


def test_a_difference_of_just_the_tolerance_is_the_same_whatever_its_last_bits() -> None:
    assert 80.4 - 80.1 > 0.3
    assert only(entry({0: 80.1}), entry({0: 80.4}), 0.3).verdict == "same"
    assert only(entry({0: 80.4}), entry({0: 80.1}), 0.3).verdict == "same"


def test_rows_are_new_or_gone_and_stand_where_they_belong() -> None:
    kd = replace(BASE, group="baselines", method="kd")
    dkd = replace(BASE, group="baselines", method="dkd")
    rows = compare([BASE, kd], [BASE, dkd]).rows
    assert [(row.entry.method, row.verdict) for row in rows] == [
        ("dkd", "new"),
        ("kd", "gone"),
        ("itmc", "same"),
    ]


def test_tasks_keep_the_order_of_the_side_that_has_more_of_them() -> None:
    def side(*tasks: str) -> list[Entry]:
        return [replace(BASE, task=task) for task in tasks]

    order = ("hand->print", "print->hand", "hand->scene", "average")
    for sides in ((side(*order), side(order[1])), (side(order[1]), side(*order))):
        assert tuple(row.entry.task for row in compare(*sides).rows) == order


@settings(max_examples=25)
@given(st.permutations(["itmc", "kd", "dkd", "tcp"]), st.integers(1, 4), st.integers(1, 4))
def test_the_other_way_round_every_verdict_is_turned(
    methods: list[str], first: int, second: int
) -> None:
    def side(names: list[str], step: float) -> list[Entry]:
        return [
            replace(BASE, method=name, accuracies=(70 + step * place,))
            for place, name in enumerate(sorted(names))
        ]

    old, new = side(["acp", *methods[:first]], 1.0), side(["acp", *methods[-second:]], -1.0)
    turned = {"better": "worse", "worse": "better", "same": "same", "new": "gone", "gone": "new"}
    there, back = (
        {row.entry.method: row.verdict for row in compare(*sides).rows}
        for sides in ((old, new), (new, old))
    )
    assert back == {method: turned[verdict] for method, verdict in there.items()}


def test_costs_are_told_where_they_changed_by_enough_on_the_same_device() -> None:
    def told(**changed: object) -> dict[str, float]:
        row = only(BASE, replace(BASE, **changed))  # type: ignore[arg-type]
        return {cost.name: round(change, 3) for cost, change in row.costs()}

    assert told() == {}
    assert told(macs=1_009_000.0, latency_1=0.43) == {}
    assert told(macs=980_000.0, latency_1=0.5) == {"macs": -0.02, "latency_1": 0.25}
    assert told(latency_1=0.8, device="A GPU x86_64") == {}
    assert told(latency_1=0.8, threads=8) == {}
    assert told(latency_1=math.nan, macs=math.nan) == {}


def test_without_a_row_in_common_it_says_what_is_apart() -> None:
    other = replace(BASE, epochs=20, setting="89abcdef", selection="oracle")
    with pytest.raises(ResultsError) as refused:
        compare([BASE], [other, replace(other, epochs=40)])
    message = str(refused.value)
    assert "epochs is 6 in OLD and 20, 40 in NEW" in message
    assert "selection is last in OLD and oracle in NEW" in message
    assert "backbone" not in message
    crossed = [replace(BASE, method="kd", epochs=20), replace(BASE, method="itmc", epochs=40)]
    with pytest.raises(ResultsError, match="each row differs"):
        compare(crossed, [replace(row, epochs=60 - int(row.epochs or 0)) for row in crossed])
