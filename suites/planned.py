"""The plan of a grid as a file: what tables count as missing, and who asks what there is to come.

``OUT/plans/<hash of the command>.json``: the same command replaces its own plan, several commands
may share a folder. ``results`` reads it beside the records.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from itmc.config import digest
from itmc.domains.store import open_domain
from itmc.files import write_atomic
from suites.config import Places, RunConfig
from suites.plan import Plan
from suites.record import dataset_of, method_of, task_of

SCHEMA = 1
PLANS = "plans"


def write_plan(plan: Plan, places: Places, command: tuple[str, ...]) -> Path:
    """Write what ``plan`` is to run in ``places.out``, asked for by ``command``; returns the file.

    Its parts are those of a record, each written once: ``shared`` by all runs, ``methods`` by name
    and ``tasks`` by name. ``config`` identifies a run whatever the version of the code, so that a
    run is known as the successor of one that an older version did.
    """
    runs = [job.run for job in plan.runs]
    first = runs[0]
    content = {
        "schema": SCHEMA,
        "command": list(command),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "shared": {
            "suite": first.suite,
            "protocol": first.protocol,
            "network": first.network.model_dump(mode="json"),
            "data": first.data.model_dump(mode="json"),
            "training": first.training.model_dump(mode="json"),
        },
        "methods": {
            run.method: {
                "method": method_of(run),
                "teacher": run.teacher and run.teacher.model_dump(mode="json"),
            }
            for run in runs
        },
        "tasks": {
            run.task: {
                "task": task_of(run),
                "dataset": dataset_of(run),
                "labelled": open_domain(places.data / run.target).labelled,
            }
            for run in {run.task: run for run in runs}.values()
        },
        "runs": [
            {
                "run": run.key,
                "config": digest(_configuration(run))[:16],
                "method": run.method,
                "task": run.task,
                "compression": run.compression,
                "seed": run.seed,
            }
            for run in runs
        ],
    }
    folder = places.out / PLANS
    folder.mkdir(exist_ok=True)
    path = folder / f"{digest(list(command))[:16]}.json"
    if not _is_there(path, content):
        write_atomic(path, json.dumps(content, indent=1).encode() + b"\n")
    return path


def _configuration(run: RunConfig) -> dict[str, Any]:
    """What the run is, as versions said it that knew neither precisions nor runs by themselves."""
    said: dict[str, Any] = run.model_dump(mode="json", exclude={"task_index"})
    if not run.alone:
        del said["alone"]
    if run.training.precision == "fp32":
        del said["training"]["precision"]
    return said


def _is_there(path: Path, content: dict[str, Any]) -> bool:
    """Whether the file holds this plan, whenever it was written."""
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and held | {"written": None} == content | {"written": None}
