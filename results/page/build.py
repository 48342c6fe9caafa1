"""From records to the data of the page: entries linked to the runs behind them, and curves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from results.comparison import Comparison, comparisons
from results.details import read_details
from results.entry import Entry
from results.page.data import (
    CurveData,
    EntryData,
    MethodData,
    PageData,
    RunData,
    SettingData,
    Texts,
)
from results.records import Records
from results.schema import (
    ACCURACY_DECIMALS,
    METRICS,
    SELECTIONS,
    DamagedRecordError,
    accuracy_column,
)
from results.standings import entries

# Runs whose curves are in the page: with many more it would be slow to open.
MOST_CURVES = 1000
CURVE_DECIMALS = 2
# Whose curves come first where there is not room for all; other groups come after these.
_CURVES_FIRST = ("itmc", "references", "baselines", "ablations")


class _Run(NamedTuple):
    """What the page needs of a run; the fields are columns of the frame, and `accuracy`."""

    method: str
    group: str
    compression: float
    task: str
    seed: int
    accuracy: float
    record: str
    path: str
    commit: str
    command: str
    finished: str
    knobs: str


class _Linked(NamedTuple):
    """An entry, the number of its comparison, and the places of the runs behind it."""

    entry: Entry
    comparison: int
    runs: tuple[int, ...]


def page_data(records: Records, selection: str | None, metric: str) -> PageData:
    """The data of the page.

    Args:
        records: the runs.
        selection: a key of `schema.SELECTIONS`; None for each protocol's own.
        metric: a key of `schema.METRICS`.
    """
    compared = comparisons(records.frame, records.missing)
    runs, numbers = _runs(compared, selection, metric)
    described = [_described(comparison) for comparison in compared]
    methods = _methods(described)
    places = {method: place for place, method in enumerate(methods)}
    texts = Texts()
    curves, left_out = _curves(runs, metric)
    linked = [
        _entry(linked, places[described[linked.comparison][linked.entry.method]])
        for linked in _linked(entries(records, selection, metric), runs, numbers)
    ]
    # Before the reader sorts: the best first in each setting, compression and task.
    linked.sort(key=lambda entry: (entry.setting, entry.compression, entry.task, -entry.mean))
    return PageData(
        metric=METRICS[metric],
        settings=_settings(compared, selection),
        methods=tuple(methods),
        runs=tuple(_run(run, texts) for run in runs),
        entries=tuple(linked),
        curves=curves,
        texts=texts.all(),
        curves_left_out=left_out,
    )


def _runs(
    compared: Sequence[Comparison], selection: str | None, metric: str
) -> tuple[list[_Run], list[int]]:
    """All runs that are compared, and for each the number of its comparison."""
    runs: list[_Run] = []
    numbers: list[int] = []
    for number, comparison in enumerate(compared):
        column = accuracy_column(comparison.setting.selection(selection), metric)
        frame = comparison.frame.assign(accuracy=comparison.frame[column])
        rows = frame[list(_Run._fields)].itertuples(index=False, name=None)
        runs += map(_Run._make, rows)
        numbers += [number] * len(frame)
    return runs, numbers


def _linked(
    shown: Sequence[Entry], runs: Sequence[_Run], numbers: Sequence[int]
) -> Iterator[_Linked]:
    """Each entry with the runs behind it, which are all of one comparison."""
    by_record = {run.record: place for place, run in enumerate(runs)}
    for entry in shown:
        behind = tuple(by_record[record] for record in entry.behind)
        yield _Linked(entry, numbers[behind[0]], behind)


def _settings(compared: Sequence[Comparison], selection: str | None) -> tuple[SettingData, ...]:
    titles = [f"{c.setting.suite}: {c.setting.describe()}" for c in compared]
    counts = Counter(titles)
    seen: Counter[str] = Counter()
    made = []
    for comparison, title in zip(compared, titles, strict=True):
        setting = comparison.setting
        seen[title] += 1
        # What tells such settings apart is too much for a title; the rows' details have it.
        number = f" (setting {seen[title]} of {counts[title]})" if counts[title] > 1 else ""
        conditions = json.loads(setting.conditions)
        made.append(
            SettingData(
                title=title + number,
                suite=setting.suite,
                backbone=setting.backbone,
                protocol=setting.protocol,
                selection=SELECTIONS[setting.selection(selection)],
                tasks=comparison.tasks,
                training=json.dumps(conditions["training"]),
                data=json.dumps(conditions["data"]),
                digest=setting.digest,
            )
        )
    return tuple(made)


def _described(comparison: Comparison) -> dict[str, MethodData]:
    """The methods of a comparison, by name; how they are drawn is not known yet."""
    citations = comparison.frame.drop_duplicates("method").set_index("method")["citation"]
    made = {}
    for method, citation in citations.items():
        label, group = comparison.describe(str(method))
        made[str(method)] = MethodData(str(method), label, group, str(citation))
    return made


def _methods(described: Sequence[dict[str, MethodData]]) -> list[MethodData]:
    """All methods, each once."""
    return list(dict.fromkeys(method for of_one in described for method in of_one.values()))


def _run(run: _Run, texts: Texts) -> RunData:
    return RunData(
        record=run.record,
        task=run.task,
        seed=run.seed,
        commit=texts.place(run.commit),
        command=texts.place(run.command),
        finished=texts.place(run.finished),
        knobs=texts.place(run.knobs),
    )


def _entry(linked: _Linked, method: int) -> EntryData:
    entry = linked.entry
    return EntryData(
        setting=linked.comparison,
        method=method,
        task=entry.task,
        compression=entry.compression,
        mean=entry.mean,
        sd=round(entry.sd, ACCURACY_DECIMALS),
        seeds=entry.seeds,
        accuracies=entry.accuracies,
        removed=entry.removed,
        macs=entry.macs,
        parameters=entry.parameters,
        bytes=entry.bytes,
        activations=entry.activations,
        latency_1=entry.latency_1,
        latency_32=entry.latency_32,
        device=entry.device,
        threads=entry.threads,
        runs=linked.runs,
    )


def _curves(runs: Sequence[_Run], metric: str) -> tuple[tuple[CurveData, ...], int]:
    """The curves of the runs, and of how many runs there was no room for them.

    Whole methods are left out, so that what is shown of one is shown of all its runs.
    """
    groups = {run.method: run.group for run in runs}
    counts = Counter(run.method for run in runs)
    wanted: set[str] = set()
    room = MOST_CURVES
    for method in sorted(groups, key=lambda method: (_turn(groups[method]), method)):
        if counts[method] <= room:
            wanted.add(method)
            room -= counts[method]
    curves = [
        _curve(place, Path(run.path), metric)
        for place, run in enumerate(runs)
        if run.method in wanted
    ]
    left_out = sum(count for method, count in counts.items() if method not in wanted)
    return tuple(curve for curve in curves if curve is not None), left_out


def _turn(group: str) -> int:
    return _CURVES_FIRST.index(group) if group in _CURVES_FIRST else len(_CURVES_FIRST)


def _curve(place: int, path: Path, metric: str) -> CurveData | None:
    """The curve of a run; None where its record has none, or one that cannot be used."""
    try:
        details = read_details(path)
    except DamagedRecordError:
        return None
    accuracy = [value for value in details.accuracy[metric] if value is not None]
    if not accuracy or len(accuracy) != len(details.stage):
        return None
    stages = details.stage
    starts = [epoch for epoch, stage in enumerate(stages) if stage not in stages[:epoch][-1:]]
    return CurveData(
        run=place,
        accuracy=tuple(round(value, CURVE_DECIMALS) for value in accuracy),
        events=details.events(),
        starts=tuple((stages[epoch], epoch) for epoch in starts),
    )
