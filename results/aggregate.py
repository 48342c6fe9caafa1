"""From runs to cells: mean ± sd over seeds, by task or by the way of choosing the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from results.cells import Block, Cell, Row, ranked, seeds_in_words, shared_n
from results.comparison import (
    Comparison,
    Setting,
    comparisons,
    method_order,
    seed_averages,
)
from results.costs import (
    Costs,
    averages_by_cell,
    costs,
    no_gain_notes,
    references,
    several_machines,
)
from results.records import STATES, Records, plural
from results.schema import AVERAGE, METRICS, SELECTIONS, accuracy_column

# Of accuracies in print.
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


def task_table(
    comparison: Comparison, records: Records, selection: str | None, metric: str
) -> Table:
    """Methods by tasks, their average last, with costs.

    Args:
        comparison: one of `comparisons` of the records.
        records: where the comparison came from; its gaps stand in the footnotes.
        selection: a key of `schema.SELECTIONS`; None for the protocol's own.
        metric: a key of `schema.METRICS`.
    """
    chosen = comparison.setting.selection(selection)
    columns = tuple(Column(task, task, chosen) for task in (*comparison.tasks, AVERAGE))
    averages = averages_by_cell(comparison, accuracy_column(chosen, metric))
    same_machine = not several_machines(comparison)
    known = references(comparison)

    def of_method(runs: pd.DataFrame, method: str, compression: float) -> Costs:
        return costs(runs, averages, known, method, compression, same_machine)

    what = f"selection: {SELECTIONS[chosen]}"
    built = _table(comparison, records, metric, columns, what, of_method)
    return replace(built, notes=(*no_gain_notes(comparison, averages), *built.notes))


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
        for comparison in comparisons(records.frame, records.missing)
    )


def selection_tables(records: Records, metric: str = "overall") -> tuple[Table, ...]:
    """One table a setting: methods by the ways of choosing the epoch."""
    return tuple(
        selection_table(comparison, records, metric)
        for comparison in comparisons(records.frame, records.missing)
    )


def gap_notes(comparison: Comparison, records: Records) -> tuple[str, ...]:
    """What was read and has no place in a table of accuracies, in sentences."""
    notes = []
    if count := len(records.unlabelled):
        notes.append(
            f"{plural(count, 'run')} on targets without labels left out: they have no accuracy, "
            "only the scores of their own table."
        )
    return (*notes, *read_notes(comparison, records))


def read_notes(comparison: Comparison, records: Records) -> tuple[str, ...]:
    """What was read and does not count, in sentences."""
    notes = []
    if comparison.superseded:
        notes.append(
            f"{plural(comparison.superseded, 'older run')} of the same cells and seeds left out; "
            "the newest counts."
        )
    if len(comparison.missing):
        counts = comparison.missing["state"].value_counts()
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
        runs = plural(len(comparison.asked), "run")
        notes.append(f"Of the {runs} asked for, {len(comparison.missing)} are missing: {states}.")
    if (gaps := records.gaps()) and sum(records.count_missing().values()) != len(
        comparison.missing
    ):
        notes.append(f"Among all runs read: {gaps}.")
    if count := len(records.damaged_plans):
        plans = plural(count, "plan")
        notes.append(f"{plans} could not be read; what was asked for there is not known.")
    versions = comparison.frame["code"].dropna().unique()
    if len(versions) > 1:
        known = ", ".join(f"{version:g}" for version in sorted(versions))
        notes.append(f"The runs are of several versions of the training code: {known}.")
    return tuple(notes)


def missing_note(cells: Sequence[Cell]) -> tuple[str, ...]:
    """How many cells are empty, in a sentence, if any is."""
    missing = sum(cell.n == 0 for cell in cells)
    return (f"{missing} of {len(cells)} cells are missing.",) if missing else ()


def _table(
    comparison: Comparison,
    records: Records,
    metric: str,
    columns: tuple[Column, ...],
    what: str,
    of_method: Callable[[pd.DataFrame, str, float], Costs],
) -> Table:
    """The table of these columns; `of_method` tells what a method's runs at a compression cost."""
    keys = {column: accuracy_column(column.selection, metric) for column in columns}
    averages = {key: averages_by_cell(comparison, key) for key in set(keys.values())}
    nothing, no_average = comparison.frame.iloc[:0], pd.Series(dtype=float)
    by_cell = dict(iter(comparison.frame.groupby(["method", "compression"])))
    blocks = []
    for compression in comparison.compressions():
        present = _present(comparison, compression)
        rows = []
        for method in method_order(comparison):
            if method not in present:
                continue
            runs = by_cell.get((method, compression), nothing)
            cells = tuple(
                Cell.over(
                    averages[key].get((method, compression), no_average)
                    if column.task == AVERAGE
                    else runs.loc[runs["task"] == column.task, key]
                )
                for column, key in keys.items()
            )
            label, group = comparison.describe(method)
            rows.append(Row(method, label, group, cells, of_method(runs, method, compression)))
        decimals = [DECIMALS] * len(columns)
        shown = ranked(tuple(rows), decimals) if compression > 0 else tuple(rows)
        blocks.append(Block(compression, shown))
    built = Table(comparison.setting, metric, columns, what, tuple(blocks), None, ())
    return replace(built, n=shared_n(built.cells()), notes=_notes(built, comparison, records))


def _present(comparison: Comparison, compression: float) -> set[str]:
    """The methods of a block: at each compression all that are asked for at any."""
    asked = comparison.asked
    of_block = asked["compression"] > 0 if compression > 0 else asked["compression"] == 0
    return set(asked.loc[of_block, "method"])


def _notes(built: Table, comparison: Comparison, records: Records) -> tuple[str, ...]:
    """What a reader must know of what is not there, by the choice of the epoch."""
    notes = list(missing_note(list(built.cells())))
    started = len(comparison.frame.drop_duplicates(["method", "compression", "seed"]))
    lacking, blank = [], []
    for selection in dict.fromkeys(column.selection for column in built.columns):
        key = accuracy_column(selection, built.metric)
        if short := started - len(seed_averages(comparison, key)):
            lacking.append(f"{SELECTIONS[selection]} {short}")
        if runs := int(comparison.frame[key].isna().sum()):
            blank.append(f"{SELECTIONS[selection]} {runs}")
    if lacking:
        tasks = plural(len(comparison.tasks), "task")
        notes.append(
            f"An average stands only over seeds that have all {tasks}; of {started} (method, "
            f"compression, seed), these have not: {', '.join(lacking)}."
        )
    if blank:
        notes.append(f"Finished runs without this accuracy: {', '.join(blank)}.")
    if several_machines(comparison):
        notes.append("Latencies were measured on several devices or numbers of threads: left out.")
    return (*notes, *gap_notes(comparison, records))
