"""Accuracies as points with the interval of their mean over seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from results.comparison import method_order, seed_averages
from results.plots.subject import NoDataError, Subject
from results.records import plural
from results.statistics import CONFIDENCE

HARD = "\N{NO-BREAK SPACE}"
# Hard spaces, so that no line breaks within figures.
INTERVAL = f"{100 * CONFIDENCE:g} % t interval over seeds".replace(" ", HARD, 2)
# More bands than these would cover one another.
BANDS = 6


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Ends of Student's t interval of the mean of these, a value a seed; NaN of fewer than two.

    A bootstrap of the three seeds that are usual draws again from three values, and is far too
    narrow; this one is right for any number if accuracies are normal over seeds.
    """
    from scipy.stats import t

    several = np.asarray(values, dtype=float)
    if len(several) < 2:
        return math.nan, math.nan
    half = t.ppf((1 + CONFIDENCE) / 2, len(several) - 1) * several.std(ddof=1)
    half /= math.sqrt(len(several))
    return float(several.mean() - half), float(several.mean() + half)


def averages(subject: Subject) -> pd.DataFrame:
    """Columns `method`, `compression`, `seed`, `accuracy`: the averages over all tasks.

    Of the methods that are drawn, in the order of tables.

    Raises:
        NoDataError: no seed has all tasks.
    """
    found = ordered(subject, seed_averages(subject.comparison, subject.accuracy))
    if found.empty:
        tasks = plural(len(subject.comparison.tasks), "task")
        raise NoDataError(f"no seed has the accuracies of all {tasks}")
    return found


def ordered(subject: Subject, values: pd.DataFrame) -> pd.DataFrame:
    """The rows of the methods that are drawn and of references, in the order of tables."""
    order = {method: place for place, method in enumerate(method_order(subject.comparison))}
    values = values[~values["method"].isin(subject.left_out())]
    return values.sort_values(
        ["method", "compression", "seed"],
        key=lambda column: column.map(order) if column.name == "method" else column,
        ignore_index=True,
    )


def single(points: pd.DataFrame) -> bool:
    """Whether there is only one compression: then there are points and bars, no lines and bands."""
    return bool(points.loc[points["compression"] > 0, "compression"].nunique() <= 1)


def with_interval(subject: Subject, methods: Collection[str]) -> set[str]:
    """The methods that have a band or bars: all where these are few, else ITMC and its variants."""
    few = len(methods) <= BANDS
    return {method for method in methods if few or subject.group(method) == "itmc"}


def interval_in_words(subject: Subject, points: pd.DataFrame, shape: str, all_have: bool) -> str:
    """What the bands or bars show, and n; with one seed there are none.

    Args:
        subject: what is drawn.
        points: a row a seed; columns `method`, `compression`, and `task` where that counts.
        shape: `band` or `bar`.
        all_have: whether every method has one, however many there are.
    """
    keys = [key for key in ("method", "compression", "task") if key in points]
    counts = points.groupby(keys).size()
    low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
    n = (f"n = {low}" if low == high else f"n = {low} to {high}").replace(" ", HARD)
    if high <= 1:
        return f"{n}, no interval"
    methods = set(points.loc[points["compression"] > 0, "method"])
    having = methods if all_have else with_interval(subject, methods)
    if not having:
        return n
    whose = f"{shape}s" if having == methods else f"{shape} (ITMC only)"
    return f"{whose}: {INTERVAL}, {n}"


def left_out_in_words(subject: Subject) -> str:
    """How many ablations are not drawn; empty where none is left out."""
    count = len(subject.left_out())
    return f"without {plural(count, 'ablation')}".replace(" ", HARD) if count else ""
