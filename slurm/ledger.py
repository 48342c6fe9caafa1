"""What was submitted, as files: ``OUT/slurm/<submission>.json``, one for each command.

They say which run is which element of which job array, and hold all that is needed to submit a run
again. Whether it is finished its own folder says, whether it is queued the scheduler.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from itmc.config import Frozen
from itmc.errors import UsageError
from itmc.files import write_atomic
from slurm.settings import ClusterKind, ClusterSettings

FOLDER, LOGS = "slurm", "logs"
SCHEMA: Literal[1] = 1


class Entry(Frozen):
    """A job of the plan; ``run`` is what of its configuration is not shared by all."""

    key: str
    is_run: bool
    needs: tuple[str, ...]
    flops: float
    epochs: int
    what: str
    title: str
    run: dict[str, Any]


class Array(Frozen):
    """A job array."""

    name: str
    level: int
    elements: tuple[tuple[str, ...], ...]
    """Keys of the jobs in each element."""
    after: tuple[str, ...]
    submitted: str
    """When, in UTC."""
    job: str | None = None
    """Its number in the cluster; None from before it is submitted until that has come back."""

    def log(self, index: int) -> str:
        """How the names of the log files of an element begin."""
        return f"{self.job}_{index}" if len(self.elements) > 1 else f"{self.job}"


class Submission(Frozen):
    """One command that submitted jobs."""

    schema_version: Literal[1] = SCHEMA
    name: str
    command: tuple[str, ...]
    written: str
    cluster: ClusterKind
    settings: ClusterSettings
    places: dict[str, Any]
    """Of ``suites.config``."""
    host: str
    process: int
    """Which process submitted it: without a cluster, that which runs it."""
    process_start: str
    """When that began, by its machine's own count: numbers of processes are used again."""
    shared: dict[str, Any]
    """What all runs have in common."""
    jobs: tuple[Entry, ...]
    arrays: tuple[Array, ...] = ()


def process_start(process: int) -> str:
    """When a process of this machine began; nothing where there is none, or it cannot be told."""
    try:
        # Behind the name, which may hold anything, the 20th field is the start in clock ticks.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def write(submission: Submission) -> None:
    """Write ``submission`` to its output folder, over what it said before."""
    folder = Path(submission.places["out"]) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    content = submission.model_dump_json()
    write_atomic(folder / f"{submission.name}.json", content.encode() + b"\n")


def with_array(submission: Submission, array: Array) -> Submission:
    """``submission`` with ``array`` instead of what was called so; it is written at once."""
    others = [known for known in submission.arrays if known.name != array.name]
    return with_arrays(submission, [*others, array])


def with_arrays(submission: Submission, arrays: Sequence[Array]) -> Submission:
    """``submission`` with these arrays; it is written at once."""
    changed = submission.model_copy(update={"arrays": tuple(arrays)})
    write(changed)
    return changed


def remove(submission: Submission) -> None:
    """Remove the page of a submission of which the cluster has taken nothing."""
    (Path(submission.places["out"]) / FOLDER / f"{submission.name}.json").unlink()


def read(out: Path) -> list[Submission]:
    """All submissions of an output folder, the oldest first.

    Raises UsageError that names a file which cannot be read.
    """
    return [_read(path) for path in sorted((out / FOLDER).glob("*.json"))]


def _read(path: Path) -> Submission:
    try:
        content = json.loads(path.read_bytes())
        version = content["schema_version"]
        if version == SCHEMA:
            return Submission.model_validate(content)
    except (OSError, ValueError, TypeError, KeyError) as error:  # pydantic's is a ValueError
        raise UsageError(f"{path} is damaged; move it away, then submit again") from error
    raise UsageError(
        f"{path} was written by another version of this project (schema {version}, this one reads "
        f"{SCHEMA}); move it away, then submit again"
    )
