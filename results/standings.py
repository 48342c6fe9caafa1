"""From records to standings: one entry a setting, compression, method and task, seed by seed."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from results.comparison import GROUPS, Comparison, comparisons, whole
from results.records import Records
from results.schema import AVERAGE, UNADAPTED, accuracy_column
from results.statistics import mean

# Decimals that an entry keeps, so that it is the same whether read from records or from a file.
REMOVED_DECIMALS = 2
LATENCY_DECIMALS = 4


@dataclass(frozen=True)
class Entry:
    """How one method stands on one task, or on the average over the tasks.

    Figures of cost are means over the runs behind the entry (latencies: medians), NaN where no
    record tells.

    Attributes:
        weights: a tag, `none`, or the name of a file, without its folder.
        setting: 8 hex digits over how images were prepared and networks trained.
        data: 12 hex digits over the images and labels of the task; for the average, over the
            tasks and theirs, so that averages over different tasks are never compared.
        task: as the suite names it, or `AVERAGE`, over the seeds that have all tasks.
        tasks: how many tasks it is of.
        compression: share of MACs to be removed, in [0, 1); 0 for references.
        method: name, with what tells it apart where it ran in several variants.
        selection: how the epoch was chosen, a key of `schema.SELECTIONS`.
        metric: a key of `schema.METRICS`.
        seeds: ascending.
        accuracies: in percent, by seed.
        removed: percent of the teacher's MACs that the student lacks.
        macs, parameters, activations, bytes: of the student.
        latency_1, latency_32: of a batch of 1 and of 32, in ms; NaN where the runs were timed on
            several devices or with several numbers of threads.
        device: where the runs were made and timed, as device and processor architecture; several
            are separated by commas.
        threads: of the timing; None where the records do not tell, or differ.
        records: hash of the record, by seed; for the average, over the hashes of its tasks.
        behind: hashes of all records behind the entry; none where it was read from a file.
    """

    suite: str
    dataset: str
    protocol: str
    backbone: str
    weights: str
    bottleneck: int | None
    image_size: int | None
    epochs: int | None
    setting: str
    data: str
    selection: str
    metric: str
    compression: float
    group: str
    method: str
    label: str
    task: str
    tasks: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    removed: float
    macs: float
    parameters: float
    activations: float
    bytes: float
    latency_1: float
    latency_32: float
    device: str
    threads: int | None
    records: tuple[str, ...]
    behind: tuple[str, ...] = field(default=(), compare=False)

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.seeds)

    @property
    def mean(self) -> float:
        """Over seeds, in percent."""
        return mean(self.accuracies)

    @property
    def sd(self) -> float:
        """Standard deviation over seeds (ddof 1), in points; NaN for one seed."""
        return statistics.stdev(self.accuracies) if self.n > 1 else math.nan

    def where(self) -> tuple[str | int | None, ...]:
        """The setting: what two entries must share for their accuracies to be compared."""
        network = (self.backbone, self.weights, self.bottleneck, self.image_size, self.epochs)
        return (self.suite, self.protocol, *network, self.setting, self.selection, self.metric)

    def key(self) -> tuple[str | int | float | None, ...]:
        """What the entry is of; entries with the same key tell of the same thing."""
        return (*self.where(), self.compression, self.method, self.task, self.data)


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
    reached: float
    student_macs: float
    student_parameters: float
    student_activations: float
    student_bytes: float
    student_latency_1: float
    student_latency_32: float
    student_latency_threads: float
    device: str
    machine: str


class _Result(NamedTuple):
    """One seed of an entry, and the runs that it comes from: one, or one a task."""

    seed: int
    accuracy: float
    record: str
    runs: tuple[_Run, ...]


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
        setting=_hash([setting.conditions])[:8],
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
