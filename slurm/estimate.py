"""How long jobs take: from what was measured in this grid, else from what the settings assume."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from itmc.files import whole_lines
from slurm.arrays import ArrayPlan
from slurm.settings import ClusterSettings
from suites.folders import PROGRESS, is_finished, job_folder

STARTUP_SECONDS = 15.0
"""Of each job, before it trains: Python, its libraries and the data."""
TERA = 1e12


class Costed(Protocol):
    """A job of a plan, or its entry in the ledger."""

    @property
    def key(self) -> str:
        """Name of its folder."""

    @property
    def is_run(self) -> bool:
        """Or a shared stage."""

    @property
    def flops(self) -> float:
        """Estimated floating-point operations of its training."""


@dataclass(frozen=True)
class Rate:
    """What one run makes of its GPU or cores."""

    flops_per_second: float
    measured_on: int
    """Jobs that it was measured on; 0 where it is assumed."""

    def seconds(self, flops: float) -> float:
        """How long a job takes that trains with so many floating-point operations."""
        return STARTUP_SECONDS + flops / self.flops_per_second

    def __str__(self) -> str:
        said = f"{self.flops_per_second / TERA:.3g} TFLOP/s a run"
        if self.measured_on:
            return f"{said}, measured on {self.measured_on} finished jobs"
        return f"{said}, assumed until something has finished (tflops in a cluster file)"


def rate(out: Path, jobs: Iterable[Costed], settings: ClusterSettings) -> Rate:
    """Of those of ``jobs`` that are finished in ``out``, else what ``settings`` assume."""
    finished = [job for job in jobs if job.flops and is_finished(out, job.key, job.is_run)]
    flops, seconds = measured(out, finished)
    if seconds:
        return Rate(flops / seconds, len(finished))
    return Rate(settings.assumed_tflops * TERA, 0)


def measured(out: Path, finished: Iterable[Costed]) -> tuple[float, float]:
    """Floating-point operations of ``finished`` jobs together, and the seconds that they took."""
    flops, seconds = 0.0, 0.0
    for job in finished:
        flops += job.flops
        seconds += trained(job_folder(out, job.key, job.is_run))[1]
    return flops, seconds


def trained(folder: Path) -> tuple[int, float]:
    """Epochs that are over in the folder of a job, and the seconds that they took."""
    try:
        lines = whole_lines(folder / PROGRESS)
        return len(lines), sum(sum(json.loads(line)["seconds"].values()) for line in lines)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, 0.0


def element_seconds(plan: ArrayPlan, found: Rate) -> list[float]:
    """How long each element of an array takes: as long as the longest of its jobs."""
    return [max(found.seconds(job.flops) for job in element) for element in plan.elements]


def hours(made: Sequence[ArrayPlan], found: Rate, settings: ClusterSettings) -> tuple[str, float]:
    """What arrays cost: the unit, GPU-hours or core-hours, and how many."""
    seconds = sum(sum(element_seconds(plan, found)) for plan in made)
    if settings.gpus_per_node:
        return "GPU-hours", seconds * settings.nodes * settings.gpus_per_node / 3600
    return "core-hours", seconds * settings.nodes * settings.cpus / 3600


def shortest(made: Sequence[ArrayPlan], found: Rate, settings: ClusterSettings) -> float:
    """Seconds that the levels take one after the other, where the cluster has room at once."""
    by_level: dict[int, list[float]] = {}
    for plan in made:
        by_level.setdefault(plan.level, []).extend(element_seconds(plan, found))
    at_once = settings.array_parallelism
    return sum(
        max(max(seconds), sum(seconds) / min(at_once or len(seconds), len(seconds)))
        for seconds in by_level.values()
    )


def duration(seconds: float) -> str:
    """``seconds`` as people say it: ``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
