"""What a method costs at a compression, and what it gains over what is not compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import pandas as pd

from results.comparison import Comparison, seed_averages
from results.schema import UNADAPTED

_LATENCIES = ("latency_1", "latency_32")
_NONE = pd.Series(dtype=float)
# By method and compression: accuracy by seed.
References: TypeAlias = "Mapping[str, str]"
Averages: TypeAlias = "Mapping[tuple[str, float], pd.Series[float]]"


@dataclass(frozen=True)
class Costs:
    """What one method cost at one compression: means over its runs, NaN where none tells.

    Attributes:
        removed: share of MACs removed (reached), in percent.
        macs, parameters, activations, bytes: of the student.
        latency_1, latency_32: milliseconds of a batch of 1 and of 32, medians over the runs; NaN
            where those were measured on several devices, or with several numbers of threads.
        over_source: average accuracy minus that of `source_only` over the same tasks and seeds
            (NaN for `source_only` itself, or where that has not all of them).
        over_unpruned: the same, minus that of the reference that adapts the whole network as this
            method adapts its student; NaN for references.
        images: training images drawn for gradient steps, both domains, all stages.
        forward_macs: of all networks in training, all stages.
        backward_macs: twice the forward MACs of the images that have a backward pass.
    """

    removed: float = math.nan
    macs: float = math.nan
    parameters: float = math.nan
    activations: float = math.nan
    bytes: float = math.nan
    latency_1: float = math.nan
    latency_32: float = math.nan
    over_source: float = math.nan
    over_unpruned: float = math.nan
    images: float = math.nan
    forward_macs: float = math.nan
    backward_macs: float = math.nan


def costs(
    runs: pd.DataFrame,
    averages: Averages,
    references: References,
    method: str,
    compression: float,
    same_machine: bool,
) -> Costs:
    """The costs of a method at a compression.

    They are of the runs behind its average, or of all it has where there is none.

    Args:
        runs: those of the method and compression; none where all are missing.
        averages: of accuracies over the tasks.
        references: the methods that gains count from, by their bare names.
        method: its name.
        compression: as asked.
        same_machine: whether all latencies of the table were measured in the same way.
    """
    own = averages.get((method, compression), _NONE)
    if len(own):
        runs = runs[runs["seed"].isin(own.index)]
    unpruned = str(runs["unpruned"].iloc[0]) if len(runs) else ""
    figures = ("macs", "parameters", "activations", "bytes")
    effort = ("images", "forward_macs", "backward_macs")
    return Costs(
        removed=100 * float(runs["reached"].mean()),
        **{figure: float(runs[f"student_{figure}"].mean()) for figure in figures},
        # The machine may have been busy with something else during some of the runs.
        **{t: float(runs[f"student_{t}"].median()) for t in _LATENCIES if same_machine},
        over_source=_gain(own, averages, references.get(UNADAPTED)),
        over_unpruned=_gain(own, averages, references.get(unpruned)),
        **{figure: float(runs[figure].mean()) for figure in effort},
    )


def several_machines(comparison: Comparison) -> bool:
    """Whether latencies were measured on more than one device or number of threads."""
    measured = comparison.frame.dropna(subset=["student_latency_1"])
    return len(measured.drop_duplicates(["device", "machine", "student_latency_threads"])) > 1


def averages_by_cell(comparison: Comparison, column: str) -> Averages:
    """The averages over the tasks of a column of the frame, of the seeds that have all tasks."""
    averages = seed_averages(comparison, column)
    return {
        (str(method), cast(float, compression)): of_cell.set_index("seed")["accuracy"]
        for (method, compression), of_cell in averages.groupby(["method", "compression"])
    }


def references(comparison: Comparison) -> References:
    """The uncompressed methods by their bare names, of those that ran in one variant only.

    What is a gain over one of several variants is not for us to choose.
    """
    frame = comparison.frame
    names = frame[frame["compression"] == 0].groupby("base")["method"].unique()
    return {str(base): str(found[0]) for base, found in names.items() if len(found) == 1}


def no_gain_notes(comparison: Comparison, averages: Averages) -> tuple[str, ...]:
    """Why some method has no gain over a reference that was run, in sentences."""
    known = references(comparison)
    frame = comparison.frame
    asked = {UNADAPTED, *frame["unpruned"].unique()} - {""}
    own = {seed for (_, share), seeds in averages.items() if share > 0 for seed in seeds.index}
    notes = []
    for name in sorted(asked & set(frame.loc[frame["compression"] == 0, "base"])):
        if name not in known:
            notes.append(f"No gain over {name}: it ran in several variants.")
        elif gone := sorted(own - set(averages.get((known[name], 0.0), _NONE).index)):
            seeds = ", ".join(map(str, gone))
            notes.append(
                f"No gain over {name} of methods with an average of seed {seeds}, of which it has "
                "none."
            )
    return tuple(notes)


def _gain(own: pd.Series[float], averages: Averages, reference: str | None) -> float:
    """Mean paired difference; NaN unless the reference has every seed of the average.

    It is NaN for the reference itself.
    """
    other = _NONE if reference is None else averages.get((reference, 0.0), _NONE)
    if own.empty or other is own or not own.index.isin(other.index).all():
        return math.nan
    return float((own - other).dropna().mean())
