"""What the page says in words and figures: state of the plans, environments, citations."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from results.plans import PlanFile
from results.records import FINISHED, STATES, Records

SUPERSEDED = "superseded by a newer plan"
PLAN_STATES = (FINISHED, *STATES, SUPERSEDED)
# Of a long list of failures the first tell what is the matter.
MOST_FAILURES = 200
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Part:
    """A stretch of a bar: so many runs of a state; `start` and `width` in percent."""

    state: str
    count: int
    start: float
    width: float


@dataclass(frozen=True)
class PlanState:
    """How far a plan is; the parts of its bar are in the order of `STATES`."""

    command: str
    written: str
    runs: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Failure:
    """A run that failed, and why, in one line."""

    run: str
    title: str
    reason: str


@dataclass(frozen=True)
class Environment:
    """Where runs were made: what they share, and how many there are."""

    runs: int
    device: str
    machine: str
    precision: str
    commit: str
    code: str
    versions: str
    first: str
    last: str


@dataclass(frozen=True)
class Citation:
    """A text to cite, and what is cited with it."""

    text: str
    methods: str


@dataclass(frozen=True)
class Facts:
    """All facts of a report.

    Attributes:
        counts: of runs by state, only those that there are any of, finished ones always.
        failures: of the runs that failed, the first `MOST_FAILURES`.
        left_out: a line for each record or plan that cannot be used.
    """

    counts: tuple[tuple[str, int], ...]
    plans: tuple[PlanState, ...]
    failures: tuple[Failure, ...]
    left_out: tuple[str, ...]
    environments: tuple[Environment, ...]
    citations: tuple[Citation, ...]
    commits: tuple[str, ...]


def facts(records: Records, folders: Sequence[Path]) -> Facts:
    """The facts of these records, which were read from these folders."""
    runs = pd.concat([records.frame, records.unlabelled], ignore_index=True)
    return Facts(
        counts=_counts(records, len(runs)),
        plans=tuple(_plan_state(plan, records, set(runs["run"])) for plan in records.plans),
        failures=tuple(_failure(run) for run in records.failed[:MOST_FAILURES]),
        left_out=tuple(
            _relative(line, folders) for line in (*records.left_out, *records.damaged_plans)
        ),
        environments=tuple(_environments(runs)),
        citations=tuple(_citations(runs)),
        commits=tuple(sorted({str(commit) for commit in runs["commit"] if commit})),
    )


def _counts(records: Records, finished: int) -> tuple[tuple[str, int], ...]:
    others = records.count_missing().items()
    return ((FINISHED, finished), *((state, count) for state, count in others if count))


def _plan_state(plan: PlanFile, records: Records, finished: set[str]) -> PlanState:
    states: dict[str, str] = {}
    for missing in (records.missing, records.missing_unlabelled):
        if len(missing):
            states |= dict(zip(missing["run"], missing["state"], strict=True))
    counts = Counter(
        FINISHED if run.run in finished else states.get(run.run, SUPERSEDED) for run in plan.runs
    )
    parts = []
    start = 0.0
    for state in PLAN_STATES:
        if count := counts[state]:
            width = 100 * count / len(plan.runs)
            parts.append(Part(state, count, round(start, 3), round(width, 3)))
            start += width
    return PlanState(plan.command, plan.written, len(plan.runs), tuple(parts))


def _failure(run: Path) -> Failure:
    """What `failure.json` tells; it may have been written by anything that then failed."""
    title = reason = UNKNOWN
    try:
        told = json.loads((run / "failure.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return Failure(run.name, title, "failure.json cannot be read")
    if isinstance(told, dict):
        title = str(told.get("title") or UNKNOWN)
        reason = str(told.get("reason") or UNKNOWN)
    return Failure(run.name, title, reason)


def _relative(line: str, folders: Sequence[Path]) -> str:
    """The line without the folder that its path begins with: where it lay matters to nobody."""
    for folder in folders:
        line = line.removeprefix(f"{folder}/")
    return line


def _environments(runs: pd.DataFrame) -> Iterable[Environment]:
    keys = ["device", "machine", "precision", "commit", "code", "versions"]
    for _, alike in runs.groupby(keys, dropna=False):
        first = alike.iloc[0]
        yield Environment(
            runs=len(alike),
            device=first["device"] or UNKNOWN,
            machine=first["machine"] or UNKNOWN,
            precision=first["precision"] or UNKNOWN,
            commit=first["commit"] or UNKNOWN,
            code=UNKNOWN if math.isnan(first["code"]) else f"{first['code']:g}",
            versions=_versions(first["versions"]),
            first=alike["finished"].min()[:10],
            last=alike["finished"].max()[:10],
        )


def _versions(told: str) -> str:
    """`python 3.11.7, torch 2.6.0, …`, from the JSON text of a row."""
    versions = json.loads(told)
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or UNKNOWN


def _citations(runs: pd.DataFrame) -> Iterable[Citation]:
    """One a text, in the order of its first method's label."""
    labels: dict[str, set[str]] = {}
    for label, text in zip(runs["label"], runs["citation"], strict=True):
        if text:
            labels.setdefault(str(text), set()).add(str(label))
    for text, cited in sorted(labels.items(), key=lambda item: (sorted(item[1]), item[0])):
        yield Citation(text, ", ".join(sorted(cited)))
