"""Between the jobs of a plan and their entries in the ledger."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Container, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from itmc.errors import UsageError
from slurm.ledger import Entry, Submission, process_start
from slurm.settings import ClusterKind, ClusterSettings
from suites.config import Places, RunConfig
from suites.plan import Job, keys_of


def new_submission(
    jobs: Sequence[Job],
    places: Places,
    command: tuple[str, ...],
    cluster: ClusterKind,
    settings: ClusterSettings,
) -> Submission:
    """The ledger's page for ``jobs``, of which nothing is submitted yet."""
    runs = [job.run.model_dump(mode="json") for job in jobs]
    shared = {
        key: value for key, value in runs[0].items() if all(run[key] == value for run in runs)
    }
    now = datetime.now(UTC)
    return Submission(
        # Pages are in the order of their names: several may be made within a second.
        name=f"{now:%Y%m%d-%H%M%S-%f}-{uuid.uuid4().hex[:4]}",
        command=command,
        written=now.isoformat(timespec="seconds"),
        cluster=cluster,
        settings=settings,
        places=places.model_dump(mode="json"),
        host=socket.gethostname(),
        process=os.getpid(),
        process_start=process_start(os.getpid()),
        shared=shared,
        jobs=tuple(_entry(job, run, shared) for job, run in zip(jobs, runs, strict=True)),
    )


def _entry(job: Job, run: dict[str, object], shared: Container[str]) -> Entry:
    return Entry(
        key=job.key,
        is_run=job.is_run,
        needs=job.needs,
        flops=job.flops,
        epochs=job.epochs,
        what=job.what,
        title=job.title,
        run={key: value for key, value in run.items() if key not in shared},
    )


def jobs_of(submission: Submission, keys: Container[str]) -> list[Job]:
    """Those jobs of ``submission`` that are called ``keys``, as they were planned.

    Raises UsageError where the code has changed, so that they would be other jobs by now.
    """
    return [_job(submission, entry) for entry in submission.jobs if entry.key in keys]


def places_of(submission: Submission) -> Places:
    """Where its runs find and leave things."""
    return Places.model_validate(submission.places)


def _job(submission: Submission, entry: Entry) -> Job:
    try:
        run: RunConfig | None = RunConfig.model_validate(submission.shared | entry.run)
    except ValidationError:
        run = None
    if run is None or entry.key not in keys_of(run):
        raise UsageError(
            f"{entry.title}: the code has changed since it was submitted, so that it is another "
            f"run by now; submit it anew: {' '.join(submission.command)}"
        )
    return Job(entry.key, run, entry.is_run, entry.needs, entry.flops, entry.epochs, entry.what)
