"""From runs to cells: mean ± sd over seeds, by task or by the way of choosing the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd

from results.comparison import (
    UNADAPTED,
    Comparison,
    Setting,
    comparisons,
    method_order,
    seed_averages,
)
from results.records import METRICS, SELECTIONS, Records, accuracy_column, plural

AVERAGE = "average"
# Accuracies that print alike share a rank: what cannot be read off the table is not marked.
DECIMALS = 1


@dataclass(frozen=True)
class Column:
    """What the cells of a column are of: a task (or `AVERAGE`) and a way of choosing the epoch."""

    head: str
    task: str
    selection: str


# The ways that need no target labels first; the one that does says so in its head.
BY_SELECTION = tuple(
    Column("oracle (sees target labels)" if key == "oracle" else words, AVERAGE, key)
    for key, words in SELECTIONS.items()
)


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
class Costs:
    """What one method cost at one compression: means over its runs, NaN where none tells.

    Attributes:
        removed: share of MACs removed (reached), in percent.
        macs: of the student.
        gain: average accuracy minus that of `source_only` over the same tasks and seeds (NaN for
            `source_only` itself, or where that has not all of them).
        images: training images drawn for gradient steps, both domains, all stages.
        forward_macs: of all networks in training, all stages.
        backward_macs: twice the forward MACs of the images that have a backward pass.
    """

    removed: float = math.nan
    macs: float = math.nan
    gain: float = math.nan
    images: float = math.nan
    forward_macs: float = math.nan
    backward_macs: float = math.nan


@dataclass(frozen=True)
class Row:
    """One method at one compression: a cell a column of the table, and what it cost."""

    method: str
    label: str
    group: str
    cells: tuple[Cell, ...]
    costs: Costs = Costs()


@dataclass(frozen=True)
class Block:
    """The rows of one asked compression; 0 holds the uncompressed references."""

    compression: float
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A paper-style table, ready to be rendered.

    Attributes:
        what: what the columns are and how the epoch was chosen, for the caption.
        n: the number of seeds that all cells share; None where they differ.
        notes: footnotes, each a sentence.
    """

    setting: Setting
    metric: str
    columns: tuple[Column, ...]
    what: str
    blocks: tuple[Block, ...]
    n: int | None
    notes: tuple[str, ...]

    def rows(self) -> Iterable[Row]:
        """All rows, block by block."""
        return (row for block in self.blocks for row in block.rows)

    def cells(self) -> Iterable[Cell]:
        """All cells, averages included, row by row."""
        return (cell for row in self.rows() for cell in row.cells)

    def caption(self) -> str:
        """Suite, metric, network, protocol, selection and n."""
        return (
            f"{self.setting.suite}: {METRICS[self.metric]} (%), {self.setting.describe()}, "
            f"{self.what}; {seeds_in_words(self.n)}"
        )


def seeds_in_words(n: int | None) -> str:
    """How many seeds stand behind the cells of a table."""
    if n is None:
        return "mean ± sd over n seeds, n in brackets"
    return "n = 1 seed (no sd)" if n == 1 else f"mean ± sd over n = {n} seeds"


def task_table(
    comparison: Comparison, records: Records, selection: str | None, metric: str
) -> Table:
    """Methods by tasks, their average last, with costs.

    Args:
        comparison: one of `comparisons(records.frame)`.
        records: where the comparison came from; its gaps stand in the footnotes.
        selection: a key of `records.SELECTIONS`; None for the protocol's own.
        metric: a key of `records.METRICS`.
    """
    chosen = comparison.setting.selection(selection)
    columns = tuple(Column(task, task, chosen) for task in (*comparison.tasks, AVERAGE))
    averages = seed_averages(comparison, accuracy_column(chosen, metric))

    def costs(runs: pd.DataFrame, method: str, compression: float) -> Costs:
        return _costs(runs, averages, method, compression)

    return _table(comparison, records, metric, columns, f"selection: {SELECTIONS[chosen]}", costs)


def selection_table(comparison: Comparison, records: Records, metric: str) -> Table:
    """Methods by the ways of choosing the epoch; a cell is the average over the tasks."""
    what = f"average over {plural(len(comparison.tasks), 'task')}, by how the epoch is chosen"
    return _table(comparison, records, metric, BY_SELECTION, what, lambda *_: Costs())


def tables(
    records: Records, selection: str | None = None, metric: str = "overall"
) -> tuple[Table, ...]:
    """One table a setting: suites, protocols and backbones are never mixed.

    Without a `selection` the epoch is chosen as each setting's protocol does.
    """
    return tuple(
        task_table(comparison, records, selection, metric)
        for comparison in comparisons(records.frame)
    )


def selection_tables(records: Records, metric: str = "overall") -> tuple[Table, ...]:
    """One table a setting: methods by the ways of choosing the epoch."""
    return tuple(
        selection_table(comparison, records, metric) for comparison in comparisons(records.frame)
    )


def gap_notes(comparison: Comparison, records: Records) -> tuple[str, ...]:
    """What was read and does not count, in sentences."""
    notes = []
    if comparison.superseded:
        notes.append(
            f"{plural(comparison.superseded, 'older run')} of the same cells and seeds left out; "
            "the newest counts."
        )
    if records.gaps():
        notes.append(f"Among all runs read: {records.gaps()}.")
    return tuple(notes)


def _table(
    comparison: Comparison,
    records: Records,
    metric: str,
    columns: tuple[Column, ...],
    what: str,
    costs: Callable[[pd.DataFrame, str, float], Costs],
) -> Table:
    """The table of these columns; `costs` tells what a method's runs at a compression cost."""
    keys = {column: accuracy_column(column.selection, metric) for column in columns}
    averages = {key: seed_averages(comparison, key) for key in set(keys.values())}
    blocks = []
    for compression in comparison.compressions():
        of_block = comparison.frame[comparison.frame["compression"] == compression]
        # A method that has no run at this compression stands there as missing, all the same.
        present = set(comparison.compressed() if compression > 0 else of_block["method"])
        rows = []
        for method in method_order(comparison):
            if method not in present:
                continue
            runs = of_block[of_block["method"] == method]
            cells = tuple(
                Cell.over(
                    _average(averages[key], method, compression)
                    if column.task == AVERAGE
                    else runs.loc[runs["task"] == column.task, key]
                )
                for column, key in keys.items()
            )
            label, group = comparison.describe(method)
            rows.append(Row(method, label, group, cells, costs(runs, method, compression)))
        blocks.append(Block(compression, _ranked(tuple(rows)) if compression > 0 else tuple(rows)))
    built = Table(comparison.setting, metric, columns, what, tuple(blocks), None, ())
    counts = {cell.n for cell in built.cells() if cell.n}
    return replace(
        built,
        n=counts.pop() if len(counts) == 1 else None,
        notes=_notes(built, comparison, records),
    )


def _costs(runs: pd.DataFrame, averages: pd.DataFrame, method: str, compression: float) -> Costs:
    unadapted = _average(averages, UNADAPTED, 0.0)
    gain = _gain(_average(averages, method, compression), unadapted)
    effort = ("images", "forward_macs", "backward_macs")
    return Costs(
        removed=100 * float(runs["reached"].mean()),
        macs=float(runs["student_macs"].mean()),
        gain=math.nan if method == UNADAPTED else gain,
        **{figure: float(runs[figure].mean()) for figure in effort},
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


def _notes(built: Table, comparison: Comparison, records: Records) -> tuple[str, ...]:
    """What a reader must know of what is not there, by the choice of the epoch."""
    notes = []
    cells = list(built.cells())
    missing = sum(cell.n == 0 for cell in cells)
    if missing:
        notes.append(f"{missing} of {len(cells)} cells are missing.")
    started = len(comparison.frame.drop_duplicates(["method", "compression", "seed"]))
    lacking, blank = [], []
    for selection in dict.fromkeys(column.selection for column in built.columns):
        key = accuracy_column(selection, built.metric)
        if short := started - len(seed_averages(comparison, key)):
            lacking.append(f"{SELECTIONS[selection]} {short}")
        if runs := int(comparison.frame[key].isna().sum()):
            blank.append(f"{SELECTIONS[selection]} {runs}")
    if lacking:
        notes.append(
            f"An average stands only over seeds that have all {len(comparison.tasks)} tasks; "
            f"of {started} (method, compression, seed), these have not: {', '.join(lacking)}."
        )
    if blank:
        notes.append(f"Finished runs without this accuracy: {', '.join(blank)}.")
    return (*notes, *gap_notes(comparison, records))
