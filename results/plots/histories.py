"""Histories and widths of the runs that are drawn, and of which methods they are shown."""

from __future__ import annotations

from pathlib import Path

from results.comparison import Comparison
from results.details import Details, read_details
from results.plots.subject import Subject
from results.records import plural
from results.schema import DamagedRecordError

# More lines in a panel cannot be followed.
LINES = 6


def read_histories(comparison: Comparison) -> tuple[dict[str, Details], tuple[str, ...]]:
    """The details of the compressed runs by path, and a line for each that is damaged."""
    runs = comparison.frame
    found, damaged = {}, []
    for path in runs.loc[runs["compression"] > 0, "path"]:
        try:
            found[str(path)] = read_details(Path(path))
        except DamagedRecordError as error:
            damaged.append(f"{path}: {error}")
    return found, tuple(damaged)


def damaged_in_words(subject: Subject) -> str:
    """How many runs of the methods shown are left out for their history; empty where none is."""
    runs = subject.comparison.frame
    shown = runs["method"].isin(few(subject)) & (runs["compression"] > 0)
    count = int((shown & ~runs["path"].isin(list(subject.details))).sum())
    return f"without {plural(count, 'run')} of damaged history" if count else ""


def few(subject: Subject) -> list[str]:
    """The methods that are shown where only a few can be: those named, else the ones of interest.

    Those are ITMC, KD, and what prunes in several steps, in this order; six at most.
    """
    if subject.named:
        return subject.drawn()
    runs = subject.comparison.frame
    details = subject.details
    stepwise = {
        method
        for method, path in zip(runs["method"], runs["path"], strict=True)
        if path in details and len(details[path].events()) > 1
    }

    def rank(method: str) -> int:
        if subject.group(method) == "itmc":
            return 0
        base = method.partition("[")[0]
        return 1 if base == "kd" else 2 if method in stepwise else 3

    chosen = sorted((rank(method), place) for place, method in enumerate(subject.drawn()))
    wanted = {place for how, place in chosen[:LINES] if how < 3}
    # Where none of them is there, what is there is of interest.
    return [
        method for place, method in enumerate(subject.drawn()) if place in wanted or not wanted
    ][:LINES]
