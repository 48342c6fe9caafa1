"""Pages of the ledger and folders of jobs, made up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from slurm.ledger import FOLDER, LOGS, Array, Entry, Submission
from slurm.settings import ClusterSettings
from suites.folders import FAILURE, PROGRESS, RECORD, job_folder
from suites.plan import Job

BEFORE, SUBMITTED, AFTER = (f"2026-01-0{day}T12:00:00+00:00" for day in (1, 2, 3))


def job(key: str, needs: Sequence[str] = (), is_run: bool = True, flops: float = 0.0) -> Job:
    """A job that is looked at and not executed."""
    return Job(key, cast(Any, None), is_run, tuple(needs), flops, 10, key)


def entry(key: str, needs: Sequence[str] = (), is_run: bool = True, epochs: int = 10) -> Entry:
    """Its line in the ledger."""
    return Entry(
        key=key, is_run=is_run, needs=tuple(needs), flops=1e12, epochs=epochs, what=key,
        title=f"title of {key}", run={},
    )  # fmt: skip


def array(
    name: str, *elements: Sequence[str], number: str | None = "7", submitted: str = SUBMITTED
) -> Array:
    """An array with these keys in its elements."""
    return Array(
        name=name, level=0, elements=tuple(tuple(keys) for keys in elements), after=(),
        submitted=submitted, job=number,
    )  # fmt: skip


def page(
    out: Path, entries: Iterable[Entry], *arrays: Array, name: str = "page", **changes: Any
) -> Submission:
    """What one command submitted."""
    given = {
        "command": ("python", "-m", "slurm.submit", "digits"), "written": SUBMITTED,
        "cluster": "slurm", "settings": ClusterSettings(), "host": "login", "process": 1,
        "process_start": "1",
        "shared": {},
    }  # fmt: skip
    return Submission(
        name=name, places={"out": str(out)}, jobs=tuple(entries), arrays=arrays, **(given | changes)
    )


def finish(out: Path, key: str, is_run: bool = True) -> None:
    """Make ``key`` finished."""
    folder = job_folder(out, key, is_run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (RECORD if is_run else "student.json")).write_text("{}")


def fail(out: Path, key: str, reason: str, time: str, is_run: bool = True) -> None:
    """Make ``key`` have failed at ``time``."""
    folder = job_folder(out, key, is_run)
    folder.mkdir(parents=True, exist_ok=True)
    failure = {"title": key, "reason": reason, "traceback": None, "time": time}
    (folder / FAILURE).write_text(json.dumps(failure))


def train(out: Path, key: str, epochs: int, seconds: float, is_run: bool = True) -> None:
    """Let ``epochs`` of ``key`` be over, each after ``seconds``."""
    folder = job_folder(out, key, is_run)
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"seconds": {"train": 0.75 * seconds, "evaluate": 0.25 * seconds}})
    (folder / PROGRESS).write_text(f"{line}\n" * epochs)


def log(out: Path, name: str, text: str, page: str = "page") -> Path:
    """The error log of an element, such as ``7_0``."""
    path = out / FOLDER / LOGS / page / f"{name}_0_log.err"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
