"""Statistics of paired comparisons, over arrays: intervals, tests, corrections and ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from results.schema import ACCURACY_DECIMALS

Values = npt.NDArray[np.float64]

# Of intervals, unless another is asked for.
CONFIDENCE = 0.95
# Points from the least possible mean to the largest: ends are right to some 0.00005 of that range.
_POINTS = 2**17
# Up to so many differences their signed ranks are counted out; the sum of more is near normal.
_EXACT = 50


def mean(values: Iterable[float]) -> float:
    """The mean of accuracies in percent, rounded as each of them is; NaN of none.

    All tables, files and pages take it from here, so that none prints another figure: the sum is
    exact, whatever the order.
    """
    several = list(values)
    return round(statistics.fmean(several), ACCURACY_DECIMALS) if several else math.nan


def mean_interval(values: Values, confidence: float) -> tuple[float, float]:
    """The bootstrap confidence interval of a mean: expanded percentiles.

    The percentile interval of Efron and Tibshirani (1993, chapter 13) is too narrow in small
    samples: by sqrt((n - 1) / n), and because it takes the spread for known. Hesterberg (2015,
    "What teachers should know about the bootstrap", The American Statistician 69, section 5)
    takes percentiles further out, Phi(-sqrt(n / (n - 1)) t) and its mirror, with Student's t of
    n - 1 degrees of freedom. No percentile lies beyond the values themselves, so that an interval
    of n values covers no more than 1 - `smallest_p(n)`.

    The percentiles are those of all resamples that there are, so nothing is left to chance.

    Args:
        values: (n,), independent of one another.
        confidence: in (0, 1).

    Returns:
        Lower and upper end; NaN where the values have no spread (one, none, or all alike).
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return math.nan, math.nan
    from scipy import stats

    n = len(values)
    quantile = stats.t.isf((1 - confidence) / 2, n - 1)
    tail = float(stats.norm.sf(math.sqrt(n / (n - 1)) * quantile))
    return _percentiles(values, tail)


def _percentiles(values: Values, tail: float) -> tuple[float, float]:
    """The ends that cut off a share `tail` of the means of all n^n resamples, on either side.

    The sum of n independent draws is distributed as the n-fold convolution of one draw: a power of
    its Fourier transform. For that the values stand on a grid; one between two points is shared
    out between them, so that the mean stays what it is.
    """
    n = len(values)
    steps = (_POINTS - 1) // n
    places = (values - values.min()) / np.ptp(values) * steps
    below = np.minimum(places.astype(int), steps - 1)
    above = places - below
    draw = np.bincount(below, 1 - above, _POINTS) + np.bincount(below + 1, above, _POINTS)
    sums = np.fft.irfft(np.fft.rfft(draw / n) ** n, _POINTS)[: n * steps + 1]
    # From either end, so that values of the other sign have the same interval mirrored.
    low, high = (np.searchsorted(np.cumsum(side), tail) for side in (sums, sums[::-1]))
    step = np.ptp(values) / (n * steps)
    return float(values.min() + low * step), float(values.max() - high * step)


def smallest_p(n: int) -> float:
    """The least two-sided p that n signed ranks can have: that of n differences of one sign."""
    return float(2.0 ** (1 - n))


def signed_rank(values: Values) -> float:
    """The two-sided p of Wilcoxon's signed-rank test that differences are symmetric about 0.

    Zeros are ranked with the others and their ranks split evenly between the signs, as Demšar
    (2006, section 3.1.3) does: to drop them, as Wilcoxon did, would make ties into evidence. The
    null distribution is exact up to 50 differences, also with ties and zeros, and normal beyond.

    Args:
        values: (n,), independent of one another.

    Returns:
        p; 1 where all differences are 0, NaN where there are fewer than two.
    """
    if len(values) < 2:
        return math.nan
    from scipy import stats

    magnitudes = np.abs(values)
    if len(values) > _EXACT:
        # Of zeros alone scipy would divide by their spread.
        return float(stats.wilcoxon(values, zero_method="zsplit").pvalue) if values.any() else 1.0
    if magnitudes.all() and len(np.unique(magnitudes)) == len(values):
        return float(stats.wilcoxon(values, method="exact").pvalue)
    # Ties share average ranks: doubled, all are whole.
    ranks = (2 * stats.rankdata(magnitudes)).astype(int)
    return _sign_flips(ranks[values != 0], values[values != 0] > 0)


def _sign_flips(ranks: npt.NDArray[np.int_], positive: npt.NDArray[np.bool_]) -> float:
    """p of a sum of whole ranks among all choices of signs; scipy's tables know no ties.

    Half the rank of each zero stands on either side whatever the signs, so zeros are not needed.
    """
    total = int(ranks.sum())
    ways = np.zeros(total + 1)
    ways[0] = 1
    for rank in ranks:
        ways[rank:] = ways[rank:] + ways[: total + 1 - rank]
    off_centre = np.abs(2 * np.arange(total + 1) - total)
    observed = abs(2 * int(ranks[positive].sum()) - total)
    return float(ways[off_centre >= observed].sum() / ways.sum())


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of several p-values (Holm 1979, Scandinavian J. of Statistics 6).

    NaN is no test and stays NaN.
    """
    tested = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    corrected = [math.nan] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[place] = highest
    return corrected


def average_ranks(values: Values) -> Values:
    """The mean over blocks of each column's rank in its block, 1 the highest value; ties share.

    Args:
        values: (blocks, methods).
    """
    from scipy import stats

    return np.asarray(stats.rankdata(-values, axis=1).mean(axis=0))


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all methods rank alike.

    Attributes:
        chi2: Friedman's statistic, corrected for ties.
        f: Iman and Davenport's, less conservative; infinite where all blocks agree.
        p: of `f`.
    """

    chi2: float
    f: float
    p: float


def friedman(values: Values) -> Friedman:
    """Friedman's test with the F of Iman and Davenport (1980), as in Demšar (2006, section 3.2.2).

    F has k - 1 and (k - 1)(N - 1) degrees of freedom for k methods and N blocks. Where few blocks
    agree, F knows no bounds, but the share of the k!^N orders that agree so well does: p is not
    below k!^(1 - N).

    Args:
        values: (blocks, methods), at least two by three.
    """
    from scipy import stats

    blocks, methods = values.shape
    if not np.ptp(values, axis=1).any():
        return Friedman(0.0, 0.0, 1.0)
    chi2 = float(stats.friedmanchisquare(*values.T).statistic)
    rest = blocks * (methods - 1) - chi2
    f = math.inf if rest < 1e-9 else (blocks - 1) * chi2 / rest
    p = float(stats.f.sf(f, methods - 1, (methods - 1) * (blocks - 1)))
    least = math.exp((1 - blocks) * math.lgamma(methods + 1))
    return Friedman(chi2, f, max(p, least))


def critical_difference(methods: int, blocks: int, alpha: float) -> float:
    """Nemenyi's: average ranks that differ by as much differ significantly at level `alpha`.

    q sqrt(k (k + 1) / (6 N)), with q the upper quantile of the studentised range of k infinite
    samples, divided by sqrt(2) (Demšar 2006, section 3.2.2 and table 5).
    """
    from scipy import stats

    q = float(stats.studentized_range.isf(alpha, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def cliques(ranks: Sequence[float], critical: float) -> tuple[range, ...]:
    """Places of ascending ranks that differ by less than `critical`: largest sets, two or more."""
    ends = [sum(rank - first < critical for rank in ranks) for first in ranks]
    # A set that ends where the one before it ends is part of that.
    starts = [0, *(place for place, (a, b) in enumerate(pairwise(ends), start=1) if b > a)]
    return tuple(range(start, ends[start]) for start in starts if ends[start] - start > 1)
