"""From records to standings: one entry a setting, compression, method and task, seed by seed."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from results.comparison import GROUPS, Comparison, comparisons, whole
from results.entry import FIGURES, LATENCY_DECIMALS, REMOVED_DECIMALS, Entry
from results.records import Records
from results.schema import AVERAGE, UNADAPTED, accuracy_column
from results.statistics import mean

# Of averages over tasks; what a single run told stays as it is.
_FIGURE_DECIMALS = 4


class _Run(NamedTuple):
    """What an entry needs of a run; the fields are columns of the frame, and `accuracy`."""

    method: str
    compression: float
    task: str
    seed: int
    accuracy: float
    record: str
    dataset: str
    digest: str
    task_index: float
    unpruned: str
    device: str
    machine: str
    reached: float
    student_macs: float
    student_parameters: float
    student_activations: float
    student_bytes: float
    student_latency_1: float
    student_latency_32: float
    student_latency_threads: float
    images: float
    forward_macs: float
    backward_macs: float
    code: float


class _Result(NamedTuple):
    """One seed of an entry, and the runs that it comes from: one, or one a task."""

    seed: int
    accuracy: float
    record: str
    runs: tuple[_Run, ...]

    def figure(self, name: str) -> float:
        """One of `FIGURES`; of several runs their mean."""
        values = [float(getattr(run, name)) for run in self.runs]
        if math.isnan(sum(values)):
            return math.nan
        return values[0] if len(values) == 1 else round(statistics.fmean(values), _FIGURE_DECIMALS)

    def device(self) -> str:
        """Where it was computed, as plots name it; several between commas."""
        places = {
            f"{run.device} ({run.machine})" if run.machine else run.device for run in self.runs
        }
        return ", ".join(sorted(places))


def entries(
    records: Records, selection: str | None = None, metric: str = "overall"
) -> tuple[Entry, ...]:
    """The entries of all settings, in the order of `ordered`.

    Runs without this accuracy count for nothing; where no seed is left there is no entry.

    Args:
        records: the runs.
        selection: a key of `schema.SELECTIONS`; None for each protocol's own.
        metric: a key of `schema.METRICS`.
    """
    found: list[Entry] = []
    for comparison in comparisons(records.frame, records.missing):
        chosen = comparison.setting.selection(selection)
        found += _of_comparison(comparison, chosen, metric)
    tasks = records.frame.sort_values(["task_index", "task"])["task"].unique()
    return ordered(found, list(tasks))


def ordered(found: Iterable[Entry], tasks: Sequence[str]) -> tuple[Entry, ...]:
    """By setting, compression, group, method and task; the average last.

    `source_only` comes first among the references. `tasks` are named in the suite's order; where
    one is named twice the first place counts.
    """
    places: dict[str, int] = {}
    for task in tasks:
        places.setdefault(task, len(places))

    def place(entry: Entry) -> tuple[object, ...]:
        rank = GROUPS.index(entry.group) if entry.group in GROUPS else len(GROUPS)
        return (
            *(-1 if part is None else part for part in entry.where()),
            *(entry.compression, rank, entry.group, entry.method != UNADAPTED, entry.method),
            *(entry.task == AVERAGE, places.get(entry.task, len(places)), entry.task, entry.data),
        )

    return tuple(sorted(found, key=place))


def _of_comparison(comparison: Comparison, selection: str, metric: str) -> Iterator[Entry]:
    """The entries of one setting, in no order."""
    frame = comparison.frame.assign(accuracy=comparison.frame[accuracy_column(selection, metric)])
    # One pass over plain tuples: filtering the frame once a cell takes minutes for 10,000 runs.
    rows = frame.dropna(subset="accuracy")[list(_Run._fields)].itertuples(index=False, name=None)
    cells: dict[tuple[str, float], dict[str, list[_Run]]] = {}
    for run in map(_Run._make, rows):
        tasks = cells.setdefault((run.method, run.compression), {})
        tasks.setdefault(run.task, []).append(run)
    for (method, compression), tasks in cells.items():
        results = {
            task: [_Result(run.seed, run.accuracy, run.record, (run,)) for run in runs]
            for task, runs in tasks.items()
        }
        if len(tasks) == len(comparison.tasks):
            results[AVERAGE] = _averages(list(tasks.values()))
        for task, of_task in results.items():
            if of_task:
                what = (selection, metric, compression, method, task)
                yield _entry(comparison, *what, sorted(of_task))


def _averages(tasks: Sequence[Sequence[_Run]]) -> list[_Result]:
    """The average over tasks of each seed that has all of them."""
    by_seed: dict[int, list[_Run]] = {}
    for run in sorted(run for runs in tasks for run in runs):
        by_seed.setdefault(run.seed, []).append(run)
    return [
        _Result(
            seed,
            mean(run.accuracy for run in runs),
            _hash(run.record for run in runs),
            tuple(runs),
        )
        for seed, runs in by_seed.items()
        if len(runs) == len(tasks)
    ]


def _entry(
    comparison: Comparison,
    selection: str,
    metric: str,
    compression: float,
    method: str,
    task: str,
    results: Sequence[_Result],
) -> Entry:
    """The entry of these seeds, ascending."""
    setting = comparison.setting
    label, group = comparison.describe(method)
    runs = [run for result in results for run in result.runs]
    devices = sorted({f"{run.device} {run.machine}".strip() for run in runs} - {""})
    threads = {whole(run.student_latency_threads) for run in runs}
    comparable = len(devices) <= 1 and len(threads) == 1
    digests = sorted({(run.task, run.digest) for run in runs})
    return Entry(
        suite=setting.suite,
        dataset=next((run.dataset for run in runs if run.dataset), ""),
        protocol=setting.protocol,
        backbone=setting.backbone,
        weights=PurePath(setting.weights).name or setting.weights,
        bottleneck=setting.bottleneck,
        image_size=setting.image_size,
        epochs=setting.epochs,
        setting=setting.key,
        data=_hash(map(" ".join, digests)) if task == AVERAGE else _short_digest(digests[0][1]),
        selection=selection,
        metric=metric,
        compression=compression,
        group=group,
        method=method,
        label=label,
        task=task,
        tasks=len(comparison.tasks) if task == AVERAGE else 1,
        seeds=tuple(result.seed for result in results),
        accuracies=tuple(result.accuracy for result in results),
        removed=_mean((100 * run.reached for run in runs), REMOVED_DECIMALS),
        macs=_mean((run.student_macs for run in runs), 0),
        parameters=_mean((run.student_parameters for run in runs), 0),
        activations=_mean((run.student_activations for run in runs), 0),
        bytes=_mean((run.student_bytes for run in runs), 0),
        latency_1=_median((run.student_latency_1 for run in runs), comparable),
        latency_32=_median((run.student_latency_32 for run in runs), comparable),
        device=", ".join(devices),
        threads=threads.pop() if comparable else None,
        unpruned=next((run.unpruned for run in runs if run.unpruned), ""),
        place=None if task == AVERAGE else whole(runs[0].task_index),
        edition=max(setting.edition, 0),
        figures={name: tuple(result.figure(name) for result in results) for name in FIGURES},
        devices=tuple(result.device() for result in results),
        records=tuple(result.record for result in results),
        behind=tuple(run.record for run in runs),
    )


def _hash(texts: Iterable[str]) -> str:
    """12 hex digits over texts in this order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _short_digest(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or digest


def _mean(values: Iterable[float], decimals: int) -> float:
    told = [value for value in values if not math.isnan(value)]
    return round(statistics.fmean(told), decimals) if told else math.nan


def _median(values: Iterable[float], comparable: bool) -> float:
    told = [value for value in values if not math.isnan(value)] if comparable else []
    return round(statistics.median(told), LATENCY_DECIMALS) if told else math.nan
