"""What the cluster gets to run: a worker for each element of an array."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from itmc.files import write_atomic
from slurm.arrays import ArrayPlan
from slurm.ledger import FOLDER, LOGS, Submission
from slurm.worker import Need, Task, Worker

if TYPE_CHECKING:
    from suites.plan import Job


def logs_of(submission: Submission) -> Path:
    """Where submitit keeps scripts, logs, and what the workers are given."""
    return Path(submission.places["out"]) / FOLDER / LOGS / submission.name


def prepare(submission: Submission, code: Mapping[str, str]) -> None:
    """Write what all workers of ``submission`` read: the version of the code that planned it."""
    logs_of(submission).mkdir(parents=True, exist_ok=True)
    write_atomic(_code_of(submission), json.dumps(code, indent=1).encode() + b"\n")


def workers(submission: Submission, plan: ArrayPlan, in_process: bool = False) -> list[Worker]:
    """The workers of the elements of ``plan``."""
    titles = {entry.key: entry.title for entry in submission.jobs}
    places = json.dumps(submission.places)
    return [
        Worker(
            tasks=tuple(_task(job, titles) for job in element),
            out=Path(submission.places["out"]),
            places=places,
            code=_code_of(submission),
            in_process=in_process,
        )
        for element in plan.elements
    ]


def _task(job: Job, titles: Mapping[str, str]) -> Task:
    return Task(
        key=job.key,
        is_run=job.is_run,
        what=job.what,
        title=job.title,
        run=job.run.model_dump_json(),
        needs=tuple(Need(key, titles.get(key, f"stage {key}")) for key in job.needs),
    )


def _code_of(submission: Submission) -> Path:
    return logs_of(submission) / "code.json"
