"""Where a run and a shared stage live, and what their folders hold."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from pathlib import Path

from itmc.errors import UsageError, first_line
from itmc.files import write_atomic

RECORD, FAILURE, CONFIG, LOG = "record.json", "failure.json", "config.yaml", "log.txt"
PROGRESS = "progress.jsonl"
"""As ``itmc.training.checkpoint`` writes it: a line an epoch."""
LEASE = ".lease"
"""Held by the process that works in the folder, and there as long as it does."""
_STUDENT = "student.json"


def job_folder(out: Path, key: str, is_run: bool) -> Path:
    """Where the run or the shared stage ``key`` lives."""
    return out / key if is_run else out / "stages" / key


def is_finished(out: Path, key: str, is_run: bool) -> bool:
    """Whether the run or shared stage ``key`` is finished: its last file is there."""
    return (job_folder(out, key, is_run) / (RECORD if is_run else _STUDENT)).exists()


def record_failure(
    folder: Path, title: str, error: BaseException | str, keep_first: bool = False
) -> str:
    """Write ``failure.json``, if that is possible; returns the reason in one line.

    ``keep_first``: leave one that is there already as it is.
    """
    reason, trace = str(error), None
    if isinstance(error, BaseException):
        # Bad input explains itself; of anything else the reader wants to know the kind.
        reason = reason if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
    reason = (reason.strip().splitlines() or ["unknown"])[0]
    failure = {
        "title": title,
        "reason": reason,
        "traceback": trace,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if keep_first and (folder / FAILURE).exists():
        return reason
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FAILURE, json.dumps(failure, indent=1).encode() + b"\n")
    except OSError as unwritable:  # a full disk, say, which may be what the failure is about
        return f"{reason} (not recorded: {first_line(unwritable)})"
    return reason


def recorded_failure(folder: Path, since: str = "") -> str:
    """Why the job in ``folder`` has failed ``since`` a time (UTC, ISO); nothing if it has not."""
    try:
        failure = json.loads((folder / FAILURE).read_bytes())
        return str(failure["reason"]) if failure["time"] >= since else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
