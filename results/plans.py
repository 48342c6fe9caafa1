"""The plans beside the records: which runs are to come, so that what is missing can be counted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.schema import DamagedRecordError, identity_of

SCHEMA = 1
FOLDER = "plans"


@dataclass(frozen=True)
class PlannedRun:
    """A run that a plan asks for.

    Attributes:
        config: identifies it whatever the version of the code.
        row: what is known before it has run, as `schema.identity_of` gives it, and `labelled`:
            whether its target has labels.
    """

    run: str
    config: str
    row: dict[str, Any]


@dataclass(frozen=True)
class PlanFile:
    """One plan: the command that made it, and its runs."""

    path: Path
    command: str
    written: str
    runs: tuple[PlannedRun, ...]


def read_plans(folder: Path) -> tuple[tuple[PlanFile, ...], tuple[str, ...]]:
    """The plans of an out directory, the oldest first, and a line for each that is damaged."""
    plans, damaged = [], []
    try:
        paths = sorted((folder / FOLDER).glob("*.json"))
    except OSError as error:
        return (), (f"{folder / FOLDER}: cannot be looked into ({error.strerror})",)
    for path in paths:
        try:
            plans.append(_plan(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}" if not str(error) else str(error)
            damaged.append(f"{path}: no usable plan ({reason})")
    return tuple(sorted(plans, key=lambda plan: (plan.written, plan.path))), tuple(damaged)


def wanted(plans: Sequence[PlanFile]) -> dict[str, PlannedRun]:
    """The runs that are asked for, by key.

    What an older version of the code would have called otherwise, and never finished, is not
    waited for: of two plans of one configuration the newer counts.
    """
    newest: dict[str, PlannedRun] = {}
    for plan in plans:
        for run in plan.runs:
            newest[run.config] = run
    return {run.run: run for run in newest.values()}


def _plan(path: Path) -> PlanFile:
    content = json.loads(path.read_bytes())
    if content["schema"] != SCHEMA:
        raise DamagedRecordError(f"schema {content['schema']}; this version reads schema {SCHEMA}")
    command = shlex.join(map(str, content["command"]))
    return PlanFile(path, command, str(content["written"]), tuple(_runs(content)))


def _runs(content: Mapping[str, Any]) -> Iterator[PlannedRun]:
    shared = dict(content["shared"])
    if "training" in shared:  # as in records of schema 3 and before
        shared["training"] = {"precision": "fp32", **shared["training"]}
    for run in content["runs"]:
        described = {
            **shared,
            **content["methods"][run["method"]],
            **content["tasks"][run["task"]],
            "run": run["run"],
            "seed": run["seed"],
            "compression": {"asked": run["compression"]},
        }
        row = identity_of(described) | {"labelled": bool(described.get("labelled", True))}
        yield PlannedRun(str(run["run"]), str(run["config"]), row)
