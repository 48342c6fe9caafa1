"""What ``step`` measures of one method at one compression, as rows of plain values for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itmc.acp import share_by
from itmc.cost import count_macs
from itmc.itmc import Alternate, ITMCConfig
from itmc.training.config import TrainingConfig
from suites.bench import clock
from suites.bench.domains import Domains
from suites.bench.machine import Limits
from suites.bench.stages import Settings, context_of, stage_of
from suites.bench.ways import Naive, Ours
from suites.bench.work import Passes, Work, work_of

_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2}
_FRACTIONS = (25, 50, 75)


@dataclass(frozen=True)
class Cell:
    """A method, whose student is at ``compression`` on its way to ``final``."""

    method: str
    compression: float
    final: float


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``rounds``, or ``seconds`` where that is None."""

    rounds: int | None
    seconds: float


def measured(
    cell: Cell,
    settings: Settings,
    domains: Domains,
    against_naive: bool,
    effort: Effort,
    report: Callable[[int], None],
) -> list[dict[str, Any]]:
    """A row of ``cell`` for each way; ``report`` hears how many rounds are done.

    ``model_flops`` are those that the method needs: ours, which passes nothing twice.

    Raises UsageError where the student cannot be that small.
    """
    stage = stage_of(cell.method, cell.compression, cell.final, context_of(settings, domains))
    left = count_macs(stage.student, stage.context.example) / stage.context.unpruned_macs
    with ExitStack() as stack:
        ways: dict[str, Ours | Naive] = {"ours": Ours(stage)}
        precisions: dict[str, str] = {"ours": settings.compute.precision}
        if against_naive:
            other = stage_of(
                cell.method, cell.compression, cell.final, context_of(settings, domains)
            )
            ways["naive"] = stack.enter_context(closing(Naive(other, settings, domains)))
            precisions["naive"] = "tf32" if settings.device.type == "cuda" else "fp32"
        works = {name: _work(way) for name, way in ways.items()}
        taken = clock.rounds(list(ways.values()), effort.rounds, effort.seconds, report)
        rows = [
            {
                "method": cell.method,
                "compression": cell.compression,
                "macs_left": left,
                "way": name,
                "precision": precisions[name],
                **_speed(taken[:, column], settings.batch),
                "flops": works[name].flops,
                "model_flops": works["ours"].flops,
                "bytes": works[name].elements * _BYTES[precisions[name]],
                **_phases(way),
                "host_wait_seconds": clock.host_wait(way),
            }
            for column, (name, way) in enumerate(ways.items())
        ]
    if against_naive:
        rows[0]["speedup"] = quartiles(taken[:, 1] / taken[:, 0])
    return rows


def rated(row: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """``row`` beside what the machine could do: the use of its FLOPs, and the least seconds."""
    rate = limits.rates[row["precision"]]
    return row | {
        "mfu": row["model_flops"] / row["seconds"]["median"] / rate,
        "least_seconds": {
            "arithmetic": row["flops"] / rate,
            "memory": row["bytes"] / limits.bandwidth,
        },
    }


def quartiles(values: NDArray[np.float64]) -> dict[str, float]:
    """The middle of ``values``, and the ends of the middle half."""
    low, middle, high = np.percentile(values, _FRACTIONS)
    return {"low": float(low), "median": float(middle), "high": float(high)}


def over_a_run(rows: Sequence[dict[str, Any]], knobs: ITMCConfig, final: float) -> dict[str, float]:
    """Images a second of a whole run of ITMC from c = 0 to ``final``, by way.

    Of its E epochs, which have the same number of images, epoch e has the student at c(e) = s(e),
    the schedule's share. With r(c) interpolated linearly between the compressions that were
    measured it is E / sum over e of 1 / r(c(e)). Empty where 0 or ``final`` was not measured.
    """
    epochs = Alternate.length(
        Alternate.Knobs(compression=final, **knobs.model_dump()), TrainingConfig()
    )
    passed = [share_by(knobs, final, epochs, done) for done in range(epochs)]
    averages = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        speed = {
            row["compression"]: row["images_per_second"]
            for row in rows
            if row["way"] == way and row["method"] == "itmc"
        }
        if {0.0, final} <= speed.keys():
            known = sorted(speed)
            at_epochs = np.interp(passed, known, [speed[c] for c in known])
            averages[way] = float(1 / np.mean(1 / at_epochs))
    return averages


def _work(way: Ours | Naive) -> Work:
    """Counted in one step, before anything is compiled."""
    passes = Passes()
    with way.turn(), passes.watch(way.networks().values()):
        way.step()
    return work_of(passes, way.example)


def _phases(way: Ours | Naive) -> dict[str, Any]:
    phases, peak = clock.peak_memory(way.device, lambda: clock.seconds_by_phase(way))
    return {"phases": phases, "peak_bytes": peak}


def _speed(seconds: NDArray[np.float64], batch: int) -> dict[str, Any]:
    return {
        "seconds": quartiles(seconds),
        "rounds": len(seconds),
        "images_per_second": 2 * batch / float(np.median(seconds)),
    }
