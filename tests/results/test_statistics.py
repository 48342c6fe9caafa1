"""Statistics against published examples, other derivations and what must hold of any numbers."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain, combinations, combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from results.statistics import (
    Values,
    average_ranks,
    cliques,
    critical_difference,
    friedman,
    holm,
    mean_interval,
    signed_rank,
    smallest_p,
)

# Demšar (2006), table 6: ranks of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
DEMSAR_RANKS = np.array(
    [
        *([4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5]),
        *([3, 2, 4, 1], [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5]),
        *([3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2]),
    ]
)
# Demšar (2006), table 2: AUC of C4.5+m minus that of C4.5, in thousandths.
DEMSAR_DIFFERENCES = [5, -8, 17, 33, 6, -5, 7, 0, 63, 0, 22, 47, 9, 21]
# Hollander and Wolfe, example 3.1: depression of nine patients before and after therapy.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
# Wilcoxon (1945): heights of cross- minus self-fertilised plants, Darwin's 15 pairs.
PLANTS = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]

whole = st.lists(st.integers(-6, 6), min_size=2, max_size=9)


def array(values: object) -> Values:
    """As floats."""
    return np.asarray(values, dtype=float)


def counted_out(values: list[int]) -> float:
    """p of the signed-rank test by going through all signs of all differences."""
    size = [abs(value) for value in values]
    ranks = [sum(o < s for o in size) + (sum(o == s for o in size) + 1) / 2 for s in size]
    signs = [(value > 0) - (value < 0) for value in values]
    observed = abs(sum(s * r for s, r in zip(signs, ranks, strict=True)))
    as_far = [
        abs(sum(s * r * (v != 0) for s, r, v in zip(flipped, ranks, values, strict=True)))
        >= observed
        for flipped in product((-1, 1), repeat=len(values))
    ]
    return sum(as_far) / len(as_far)


def test_the_signed_rank_test_gives_wilcoxons_and_hollander_and_wolfes_p() -> None:
    assert signed_rank(array(PLANTS)) == pytest.approx(0.041259765625)
    differences = [round(after - before, 6) for before, after in zip(BEFORE, AFTER, strict=True)]
    # T+ = 5 for n = 9; one-sided .020 in their table.
    assert signed_rank(array(differences)) == pytest.approx(2 * 10 / 2**9)


def test_demsars_differences_are_significant_as_he_finds() -> None:
    # He has R+ = 93 and R- = 12, below the critical 21 of N = 14: p < 0.05. With z = -2.54 the
    # normal distribution gives 0.0111.
    p = signed_rank(array(DEMSAR_DIFFERENCES))
    assert p == pytest.approx(counted_out(DEMSAR_DIFFERENCES))
    assert p == pytest.approx(2 * stats.norm.sf(2.54), abs=0.004)


@pytest.mark.parametrize("n", range(2, 13))
def test_differences_of_one_sign_have_the_smallest_p(n: int) -> None:
    for values in (np.arange(n) + 1.0, -np.arange(n) - 1.0, np.full(n, 0.5)):
        assert signed_rank(array(values)) == pytest.approx(2.0 ** (1 - n)) == smallest_p(n)


@settings(deadline=None)
@given(whole)
def test_the_signed_rank_test_counts_out_all_signs_also_with_ties_and_zeros(
    values: list[int],
) -> None:
    assert signed_rank(array(values)) == pytest.approx(counted_out(values))
    assert signed_rank(-array(values)) == pytest.approx(signed_rank(array(values)))


def test_ties_give_what_scipys_permutation_test_gives() -> None:
    values = array([1, 1, -1, 2, 3, 3, 0, -2, 5])
    method = stats.PermutationMethod(n_resamples=np.inf)
    permuted = stats.wilcoxon(values, zero_method="zsplit", method=method)
    assert signed_rank(values) == pytest.approx(permuted.pvalue)


@pytest.mark.parametrize("n", [2, 9, 60])
@pytest.mark.filterwarnings("error")
def test_of_nothing_but_zeros_p_is_1_and_of_less_than_a_pair_there_is_none(n: int) -> None:
    assert signed_rank(np.zeros(n)) == 1.0
    assert math.isnan(signed_rank(array([3.0])))
    assert math.isnan(signed_rank(array([])))


def test_the_exact_and_the_normal_distribution_meet_at_many_differences() -> None:
    values = np.round(np.random.default_rng(0).normal(0.3, 1, 51), 1)
    assert signed_rank(values) == pytest.approx(signed_rank(values[:50]), rel=0.25)


def test_the_interval_is_that_of_a_bootstrap_written_out() -> None:
    values = np.random.default_rng(1).normal(2, 3, 9)
    draw = np.random.default_rng(2)
    means = values[draw.integers(9, size=(200_000, 9))].mean(axis=1)
    tail = stats.norm.cdf(-math.sqrt(9 / 8) * stats.t.ppf(0.975, 8))
    low, high = mean_interval(values, 0.95)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])), abs=0.08)
    # It is wider than plain percentiles and of the width of Student's interval.
    plain = np.quantile(means, [0.025, 0.975])
    student = 2 * stats.t.ppf(0.975, 8) * values.std(ddof=1) / 3
    assert np.ptp(plain) < 0.9 * (high - low)
    assert high - low == pytest.approx(student, rel=0.1)


def counted_percentiles(values: Values, tail: float) -> tuple[float, float]:
    """Percentiles of the means of all resamples, those of the same values counted as one."""
    n = len(values)
    ways = {
        chosen: math.factorial(n) / math.prod(map(math.factorial, Counter(chosen).values()))
        for chosen in combinations_with_replacement(range(n), n)
    }
    means = sorted((values[list(chosen)].mean(), number) for chosen, number in ways.items())
    shares = np.cumsum([number for _, number in means]) / n**n
    low, high = np.searchsorted(shares, [tail, 1 - tail])
    return means[low][0], means[high][0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_interval_is_that_of_all_resamples_there_are(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(1, 5, n).round(2)
    for confidence in (0.8, 0.95):
        tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.isf((1 - confidence) / 2, n - 1))
        want = counted_percentiles(values, tail)
        assert mean_interval(values, confidence) == pytest.approx(want, abs=1e-3)


def test_of_many_values_the_interval_is_students() -> None:
    values = np.random.default_rng(3).normal(0, 1, 400)
    want = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx(tuple(want), abs=0.01)


def test_intervals_of_nine_cover_what_they_say() -> None:
    draw = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        low, high = mean_interval(draw.normal(1, 1, 9), 0.8)
        covered += low <= 1 <= high
    # Three standard errors of a share of 0.8.
    assert covered / 300 == pytest.approx(0.8, abs=0.07)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8), st.floats(0.5, 0.99))
def test_the_interval_is_the_same_each_time_within_the_values_and_mirrored(
    values: list[int], confidence: float
) -> None:
    low, high = mean_interval(array(values), confidence)
    if len(set(values)) == 1:
        assert math.isnan(low)
        assert math.isnan(high)
        return
    assert min(values) <= low <= high <= max(values)
    assert mean_interval(array(values), confidence) == (low, high)
    assert mean_interval(-array(values), confidence) == pytest.approx((-high, -low))
    assert mean_interval(array(values) + 7, confidence) == pytest.approx((low + 7, high + 7))


def test_of_less_than_two_values_there_is_no_interval() -> None:
    for values in ([], [2.0]):
        assert all(math.isnan(end) for end in mean_interval(array(values), 0.95))


def closed_testing(ps: list[float], place: int) -> float:
    """Holm by its definition: p is rejected where Bonferroni rejects every set it is in."""
    others = [number for number in range(len(ps)) if number != place]
    sets = chain.from_iterable(combinations(others, size) for size in range(len(ps)))
    return max(
        min(1.0, (1 + len(rest)) * min(ps[number] for number in (place, *rest))) for rest in sets
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 6))
def test_holm_is_closed_testing_by_bonferroni(ps: list[float], place: int) -> None:
    corrected = holm([*ps[:place], math.nan, *ps[place:]])
    assert math.isnan(corrected.pop(min(place, len(ps))))
    assert corrected == pytest.approx([closed_testing(ps, at) for at in range(len(ps))])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lowers_nothing(ps: list[float]) -> None:
    corrected = holm(ps)
    assert all(p <= after <= 1 for p, after in zip(ps, corrected, strict=True))
    by_p = [after for _, after in sorted(zip(ps, corrected, strict=True))]
    assert by_p == sorted(by_p)


def test_holm_rejects_in_demsars_example_what_he_rejects() -> None:
    # Section 3.2.2, C4.5 against the others: 0.016 < 0.05 / 3, 0.019 < 0.05 / 2, but not 0.607.
    corrected = holm([0.019, 0.607, 0.016])
    assert corrected == pytest.approx([0.048, 0.607, 0.048])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_ranks_are_demsars() -> None:
    # The higher accuracy has the lower rank, so minus the ranks have these ranks.
    assert average_ranks(-DEMSAR_RANKS) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)


def test_friedmans_test_is_demsars_up_to_his_ties() -> None:
    ranks = average_ranks(-DEMSAR_RANKS)
    without = 12 * 14 / (4 * 5) * (np.sum(ranks**2) - 4 * 5**2 / 4)
    assert without == pytest.approx(9.28, abs=0.005)
    assert 13 * without / (14 * 3 - without) == pytest.approx(3.69, abs=0.005)
    # Ties lessen the variance of ranks: 6 for each pair and 60 for all four, of N k (k^2 - 1).
    found = friedman(-DEMSAR_RANKS)
    assert found.chi2 == pytest.approx(without / (1 - (3 * 6 + 60) / (14 * 4 * 15)))
    assert found.f == pytest.approx(13 * found.chi2 / (14 * 3 - found.chi2))
    assert found.p == pytest.approx(stats.f.sf(found.f, 3, 39))
    # He rejects at 0.05: the critical F of 3 and 39 degrees of freedom is 2.85.
    assert stats.f.isf(0.05, 3, 39) == pytest.approx(2.85, abs=0.005)
    assert found.p < 0.05


def test_friedmans_test_without_ties_is_the_formula() -> None:
    values = np.random.default_rng(5).normal(size=(8, 5))
    ranks = average_ranks(values)
    chi2 = 12 * 8 / (5 * 6) * (np.sum(ranks**2) - 5 * 6**2 / 4)
    assert friedman(values).chi2 == pytest.approx(chi2)


@pytest.mark.filterwarnings("error")
def test_blocks_that_all_agree_or_have_nothing_but_ties_have_a_p() -> None:
    agreed = friedman(np.tile([3.0, 2.0, 1.0], (4, 1)))
    assert agreed.f == math.inf
    assert agreed.p == pytest.approx(6.0**-3)
    assert friedman(np.ones((4, 3))).p == 1.0


@pytest.mark.parametrize(
    ("alpha", "qs"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_the_critical_difference_is_by_demsars_table_5(alpha: float, qs: list[float]) -> None:
    for methods, q in enumerate(qs, start=2):
        want = q * math.sqrt(methods * (methods + 1) / (6 * 14))
        assert critical_difference(methods, 14, alpha) == pytest.approx(want, rel=5e-4)
    # For two methods, the studentised range is the normal quantile times the root of two.
    want = stats.norm.isf(alpha / 2) * math.sqrt(2 * 3 / (6 * 14))
    assert critical_difference(2, 14, alpha) == pytest.approx(want)


def test_the_critical_difference_is_that_of_demsars_example() -> None:
    assert critical_difference(4, 14, 0.05) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, 0.10) == pytest.approx(1.12, abs=0.005)
    # At 0.10 C4.5, the last, is worse than the first two and not than the third.
    ranks = [1.964, 2.000, 2.893, 3.143]
    assert cliques(ranks, critical_difference(4, 14, 0.10)) == (range(3), range(2, 4))


@given(st.lists(st.integers(10, 60), min_size=2, max_size=9), st.integers(1, 40))
def test_cliques_hold_just_the_pairs_that_are_near_and_none_is_in_another(
    tenths: list[int], critical: int
) -> None:
    ranks = sorted(float(tenth) for tenth in tenths)
    found = cliques(ranks, critical)
    joined = {pair for clique in found for pair in combinations(clique, 2)}
    near = {(a, b) for a, b in combinations(range(len(ranks)), 2) if ranks[b] - ranks[a] < critical}
    assert joined == near
    assert not any(set(a) <= set(b) for a in found for b in found if a != b)
