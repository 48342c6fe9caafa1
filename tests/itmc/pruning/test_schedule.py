"""The share of MACs to have removed, as a function of the epoch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, strategies as st

from itmc.errors import UsageError
from itmc.pruning.schedule import ScheduleName, share

NAMES = get_args(ScheduleName)
names = st.sampled_from(NAMES)
epochs = st.integers(0, 60)
finals = st.floats(0.01, 0.99)


@given(names, epochs, st.integers(1, 60), finals)
def test_shares_grow_from_zero_to_the_final_one(
    name: str, first: int, length: int, final: float
) -> None:
    last = first + length
    shares = [share(name, e, first, last, final) for e in range(last + 3)]
    assert all(s == 0 for s in shares[: first + 1])
    assert all(s == final for s in shares[last:])
    assert all(a <= b + 1e-12 for a, b in pairwise(shares))
    assert all(0 <= s <= final + 1e-12 for s in shares)


@given(names, st.floats(0, 60), finals)
def test_a_share_is_always_the_same(name: str, epoch: float, final: float) -> None:
    assert share(name, epoch, 5, 40, final) == share(name, epoch, 5, 40, final)


@given(st.floats(0.001, 0.999), finals)
def test_cubic_and_adaptive_follow_the_designs_formula(part: float, final: float) -> None:
    first, last = 3.0, 17.0
    epoch = first + part * (last - first)
    expected = final * (1 - (1 - (epoch - first) / (last - first)) ** 3)
    assert share("cubic", epoch, first, last, final) == pytest.approx(expected, rel=1e-12)
    assert share("adaptive", epoch, first, last, final) == pytest.approx(expected, rel=1e-12)


def test_known_points_of_each_curve() -> None:
    half = {name: share(name, 6, 2, 10, 0.8) for name in NAMES}
    assert half["cubic"] == pytest.approx(0.8 * 7 / 8)
    assert half["linear"] == pytest.approx(0.4)
    assert half["exp"] == pytest.approx(0.8 * (1 - math.exp(-2.5)) / (1 - math.exp(-5)))
    assert half["one_shot"] == 0.8


def test_one_shot_waits_for_the_first_epoch_to_end() -> None:
    assert share("one_shot", 2, 2, 10, 0.8) == 0
    assert share("one_shot", 3, 2, 10, 0.8) == 0.8


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_span_jumps(name: str) -> None:
    assert [share(name, e, 4, 4, 0.5) for e in (3, 4, 5)] == [0, 0.5, 0.5]


def test_an_unknown_schedule_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'cosine'.*cubic, linear, exp, one_shot, adaptive"):
        share("cosine", 1, 0, 2, 0.5)
