"""From runs to cells: what may stand in one table, and mean ± sd over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath

import pandas as pd

from results.records import METRICS, SELECTIONS, Records, accuracy_column, plural

GROUPS = ("references", "baselines", "itmc", "ablations")
# The reference that gains are counted from.
UNADAPTED = "source_only"
AVERAGE = "average"
# Accuracies that print alike share a rank: what cannot be read off the table is not marked.
DECIMALS = 1


@dataclass(frozen=True)
class Setting:
    """What all runs of one table share; runs that differ in any of it are not compared.

    `conditions` is how images were prepared and networks trained, as JSON text; `digest` is empty
    where the tasks of the suite have data digests of their own.
    """

    suite: str
    protocol: str
    backbone: str
    weights: str
    bottleneck: int | None
    image_size: int | None
    epochs: int | None
    conditions: str
    digest: str

    def describe(self) -> str:
        """Backbone, protocol and weights, as a caption names them."""
        # Weights may be a file; where it lay on the machine that ran it does not matter.
        weights = PurePath(self.weights).name
        bottleneck = "" if self.bottleneck is None else f", bottleneck {self.bottleneck}"
        size = "" if self.image_size is None else f" at {self.image_size} px"
        epochs = "" if self.epochs is None else f", {plural(self.epochs, 'epoch')}"
        return (
            f"{self.backbone}{size}{bottleneck}, weights {weights}{epochs}, "
            f"protocol {self.protocol}"
        )


@dataclass(frozen=True)
class Comparison:
    """The runs of one setting, one a (method, compression, task, seed).

    A method that ran with several hyper-parameters is several methods, named by what differs.

    Attributes:
        tasks: in the suite's order.
        superseded: how many older runs of the same cell and seed were left out.
    """

    setting: Setting
    frame: pd.DataFrame
    tasks: tuple[str, ...]
    superseded: int


@dataclass(frozen=True)
class Cell:
    """Mean and standard deviation (ddof 1) over n seeds, in percent.

    NaN stands for what does not exist: the sd of one seed, the mean of none. `rank` is 1 for the
    best and 2 for the second best compressed method of a column, 0 otherwise.
    """

    mean: float
    sd: float
    n: int
    rank: int = 0

    @classmethod
    def over(cls, seeds: pd.Series[float]) -> Cell:
        """The cell of one value a seed; missing values do not count."""
        values = seeds.dropna()
        return cls(float(values.mean()), float(values.std(ddof=1)), len(values))


@dataclass(frozen=True)
class Row:
    """One method at one compression: a cell a task, and the last for their average.

    `removed` is the mean share of MACs removed (reached, in percent), `macs` the student's mean
    MACs, `gain` the average minus that of `source_only` over the same tasks and seeds (NaN
    for `source_only` itself, or where that has not all of them).
    """

    method: str
    label: str
    group: str
    cells: tuple[Cell, ...]
    removed: float
    macs: float
    gain: float


@dataclass(frozen=True)
class Block:
    """The rows of one asked compression; 0 holds the uncompressed references."""

    compression: float
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A paper-style table, ready to be rendered.

    Attributes:
        n: the number of seeds that all cells share; None where they differ.
        notes: footnotes, each a sentence.
    """

    setting: Setting
    selection: str
    metric: str
    tasks: tuple[str, ...]
    blocks: tuple[Block, ...]
    n: int | None
    notes: tuple[str, ...]

    def cells(self) -> Iterable[Cell]:
        """All cells, averages included, row by row."""
        return (cell for block in self.blocks for row in block.rows for cell in row.cells)

    def caption(self) -> str:
        """Suite, metric, network, protocol, selection and n."""
        return (
            f"{self.setting.suite}: {METRICS[self.metric]} (%), {self.setting.describe()}, "
            f"selection: {SELECTIONS[self.selection]}; {seeds_in_words(self.n)}"
        )


def seeds_in_words(n: int | None) -> str:
    """How many seeds stand behind the cells of a table."""
    if n is None:
        return "mean ± sd over n seeds, n in brackets"
    return "n = 1 seed (no sd)" if n == 1 else f"mean ± sd over n = {n} seeds"


def comparisons(frame: pd.DataFrame) -> tuple[Comparison, ...]:
    """Split the frame of `records.read` into what may stand in one table, in a stable order."""
    frame = frame.assign(data=_data_edition(frame))
    keys = ["suite", "protocol", "backbone", "weights", "bottleneck", "image_size", "conditions"]
    keys.append("data")
    found = []
    for _, runs in frame.groupby(keys, dropna=False, sort=True):
        first = runs.iloc[0]
        setting = Setting(
            suite=first["suite"],
            protocol=first["protocol"],
            backbone=first["backbone"],
            weights=first["weights"],
            bottleneck=_whole(first["bottleneck"]),
            image_size=_whole(first["image_size"]),
            epochs=_whole(first["epochs"]),
            conditions=first["conditions"],
            digest=first["data"] or _only(runs["digest"]),
        )
        found.append(_comparison(setting, runs))
    return tuple(found)


def _whole(figure: float) -> int | None:
    return None if math.isnan(figure) else int(figure)


def seed_averages(comparison: Comparison, column: str) -> pd.DataFrame:
    """Average over tasks for each seed that has them all.

    Returns:
        Columns `method`, `compression`, `seed` and `accuracy` (percent).
    """
    wide = comparison.frame.pivot(
        index=["method", "compression", "seed"], columns="task", values=column
    )
    complete = wide.reindex(columns=list(comparison.tasks)).dropna()
    return complete.mean(axis="columns").rename("accuracy").reset_index()


def method_order(comparison: Comparison) -> list[str]:
    """Method names: by group, and by name within one; the unadapted reference comes first."""
    groups = comparison.frame.drop_duplicates("method").set_index("method")["group"]

    def position(method: str) -> tuple[int, str, bool, str]:
        group = str(groups[method])
        rank = GROUPS.index(group) if group in GROUPS else len(GROUPS)
        return rank, group, method != UNADAPTED, method

    return sorted((str(method) for method in groups.index), key=position)


def table(comparison: Comparison, records: Records, selection: str, metric: str) -> Table:
    """The table of one comparison.

    Args:
        comparison: one of `comparisons(records.frame)`.
        records: where the comparison came from; its gaps stand in the footnotes.
        selection: a key of `records.SELECTIONS`.
        metric: a key of `records.METRICS`.
    """
    column = accuracy_column(selection, metric)
    averages = seed_averages(comparison, column)
    compressed = set(comparison.frame.loc[comparison.frame["compression"] > 0, "method"])
    blocks = []
    for compression in sorted(comparison.frame["compression"].unique()):
        runs = comparison.frame[comparison.frame["compression"] == compression]
        # A method that has no run at this compression stands there as missing, all the same.
        present = compressed if compression > 0 else set(runs["method"])
        rows = tuple(
            _row(comparison, column, averages, method, float(compression))
            for method in method_order(comparison)
            if method in present
        )
        blocks.append(Block(float(compression), _ranked(rows) if compression > 0 else rows))
    built = Table(comparison.setting, selection, metric, comparison.tasks, tuple(blocks), None, ())
    counts = {cell.n for cell in built.cells() if cell.n}
    return replace(
        built,
        n=counts.pop() if len(counts) == 1 else None,
        notes=_notes(built, comparison, records, column, len(averages)),
    )


def tables(records: Records, selection: str = "last", metric: str = "overall") -> tuple[Table, ...]:
    """One table a setting: suites, protocols and backbones are never mixed."""
    return tuple(
        table(comparison, records, selection, metric) for comparison in comparisons(records.frame)
    )


def _data_edition(frame: pd.DataFrame) -> pd.Series[str]:
    """The data digest where a suite's task was run on several versions of its data, else empty."""
    editions = frame.groupby(["suite", "task"])["digest"].transform("nunique")
    several = editions.groupby(frame["suite"]).transform("max") > 1
    return frame["digest"].where(several, "")


def _only(values: pd.Series[str]) -> str:
    return str(values.iloc[0]) if values.nunique() == 1 else ""


def _comparison(setting: Setting, runs: pd.DataFrame) -> Comparison:
    runs = pd.concat([_told_apart(method) for _, method in runs.groupby("method", sort=True)])
    newest = runs.sort_values(["finished", "run"]).drop_duplicates(
        ["method", "compression", "task", "seed"], keep="last"
    )
    newest = newest.sort_values(["method", "compression", "task", "seed"], ignore_index=True)
    tasks = (
        newest.groupby("task")["task_index"].min().reset_index().sort_values(["task_index", "task"])
    )
    return Comparison(setting, newest, tuple(tasks["task"]), len(runs) - len(newest))


def _told_apart(runs: pd.DataFrame) -> pd.DataFrame:
    """One method's runs, its name and label extended by the hyper-parameters that differ."""
    texts = sorted(runs["knobs"].unique())
    # A label may be reworded between two versions of the code; the newest counts.
    label = runs.sort_values(["finished", "run"])["label"].iloc[-1]
    group = runs.sort_values(["finished", "run"])["group"].iloc[-1]
    runs = runs.assign(label=label, group=group)
    if len(texts) == 1:
        return runs
    knobs = {text: json.loads(text) for text in texts}
    names = sorted(
        name
        for name in set().union(*knobs.values())
        if len({json.dumps(values.get(name)) for values in knobs.values()}) > 1
    )
    variants = {
        text: ", ".join(f"{name}={values.get(name)}" for name in names)
        for text, values in knobs.items()
    }
    variant = runs["knobs"].map(variants)
    return runs.assign(
        method=runs["method"] + "[" + variant + "]", label=runs["label"] + " (" + variant + ")"
    )


def _row(
    comparison: Comparison,
    column: str,
    averages: pd.DataFrame,
    method: str,
    compression: float,
) -> Row:
    of_method = comparison.frame[comparison.frame["method"] == method]
    runs = of_method[of_method["compression"] == compression]
    average = _average(averages, method, compression)
    cells = [Cell.over(runs.loc[runs["task"] == task, column]) for task in comparison.tasks]
    return Row(
        method=method,
        label=of_method["label"].iloc[0],
        group=of_method["group"].iloc[0],
        cells=(*cells, Cell.over(average)),
        removed=100 * float(runs["reached"].mean()),
        macs=float(runs["student_macs"].mean()),
        gain=math.nan
        if method == UNADAPTED
        else _gain(average, _average(averages, UNADAPTED, 0.0)),
    )


def _average(averages: pd.DataFrame, method: str, compression: float) -> pd.Series[float]:
    """Average accuracy by seed; empty where no seed has all tasks."""
    rows = (averages["method"] == method) & (averages["compression"] == compression)
    return averages[rows].set_index("seed")["accuracy"]


def _gain(average: pd.Series[float], unadapted: pd.Series[float]) -> float:
    """Mean paired difference; NaN unless the reference has every seed of the average."""
    if average.empty or not average.index.isin(unadapted.index).all():
        return math.nan
    return float((average - unadapted).dropna().mean())


def _ranked(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows with the best and second best of each column marked."""
    columns = []
    for column in zip(*(row.cells for row in rows), strict=True):
        shown = [round(cell.mean, DECIMALS) for cell in column]
        steps = sorted({value for value in shown if not math.isnan(value)}, reverse=True)
        # Best of one is no distinction.
        contested = sum(cell.n > 0 for cell in column) > 1
        ranks = {value: rank for rank, value in enumerate(steps[:2], start=1)} if contested else {}
        columns.append(
            [
                replace(cell, rank=ranks.get(value, 0))
                for cell, value in zip(column, shown, strict=True)
            ]
        )
    return tuple(
        replace(row, cells=cells)
        for row, cells in zip(rows, zip(*columns, strict=True), strict=True)
    )


def _notes(
    built: Table, comparison: Comparison, records: Records, column: str, averaged: int
) -> tuple[str, ...]:
    """What a reader must know of what is not there."""
    notes = []
    cells = list(built.cells())
    missing = sum(cell.n == 0 for cell in cells)
    if missing:
        notes.append(f"{missing} of {len(cells)} cells are missing.")
    started = len(comparison.frame.drop_duplicates(["method", "compression", "seed"]))
    if averaged < started:
        notes.append(
            f"An average stands only over seeds that have all {len(comparison.tasks)} tasks; "
            f"{started - averaged} of {started} (method, compression, seed) have not."
        )
    blank = int(comparison.frame[column].isna().sum())
    if blank:
        notes.append(
            f"{plural(blank, 'finished run')} without this accuracy "
            f"(selection: {SELECTIONS[built.selection]})."
        )
    if comparison.superseded:
        notes.append(
            f"{plural(comparison.superseded, 'older run')} of the same cells and seeds left out; "
            "the newest counts."
        )
    if records.gaps():
        notes.append(f"Among all runs read: {records.gaps()}.")
    return tuple(notes)
