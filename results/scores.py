"""Label-free scores of runs whose target has no labels: a table a task, for it has no accuracy."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from results.aggregate import missing_note, read_notes
from results.cells import Block, Cell, Row, ranked, seeds_in_words, shared_n
from results.comparison import Comparison, Setting, comparisons, method_order
from results.costs import Costs
from results.records import Records
from results.render import SETTING_HEAD, cost_columns, plain, sections, setting_fields
from results.schema import SCORES, SELECTIONS, score_column
from results.sheet import Document, Sheet

_HEAD = (
    *SETTING_HEAD,
    *("compression", "group", "method", "task", "score", "mean", "sd", "n"),
    *("removed", "student_macs"),
)
# In print: one is a percentage, the others are of the order of 1.
_DECIMALS = tuple(1 if key == "source_validation" else 3 for key in SCORES)
_MEANINGS = (
    "Source validation: accuracy (%) on source images kept out of training. Entropy: minus the "
    "mean entropy of the predictions. InfoMax: entropy of the mean prediction minus mean entropy. "
    "SND: entropy of soft neighbourhoods. DEV: minus the source risk, weighted towards the target."
)


@dataclass(frozen=True)
class ScoreTable:
    """The scores of the last epoch on one task of a setting; a cell a key of `SCORES` in each row.

    Attributes:
        n: the number of seeds that all cells share; None where they differ.
        notes: footnotes, each a sentence.
    """

    setting: Setting
    task: str
    blocks: tuple[Block, ...]
    n: int | None
    notes: tuple[str, ...]

    def cells(self) -> Iterable[Cell]:
        """All cells, row by row."""
        return (cell for block in self.blocks for row in block.rows for cell in row.cells)

    def caption(self) -> str:
        """Suite, task, what the scores are and are not, network, protocol and n."""
        return (
            f"{self.setting.suite}: label-free scores of the last epoch on {self.task}, whose "
            "target has no labels; they are not accuracies and cannot be compared across tasks; "
            f"higher is better; {self.setting.describe()}; {seeds_in_words(self.n)}"
        )


def score_tables(records: Records) -> tuple[ScoreTable, ...]:
    """A table for each setting and task without target labels.

    Each task has its own, for no score of one says anything beside that of another.
    """
    return tuple(
        _table(comparison, task, records)
        for comparison in comparisons(records.unlabelled, records.missing_unlabelled)
        for task in comparison.tasks
    )


def document(tables: Sequence[ScoreTable]) -> Document:
    """Tables of scores in all formats."""
    return Document(tuple(_sheet(table) for table in tables), _tidy_csv(tables))


def _table(comparison: Comparison, task: str, records: Records) -> ScoreTable:
    of_task = comparison.frame[comparison.frame["task"] == task]
    blocks = []
    for compression in comparison.compressions():
        runs = of_task[of_task["compression"] == compression]
        # As in the table of accuracies, a method without a run stands there as missing.
        present = set(comparison.compressed() if compression > 0 else runs["method"])
        rows = tuple(
            _row(comparison, method, runs[runs["method"] == method])
            for method in method_order(comparison)
            if method in present
        )
        if rows:
            blocks.append(Block(compression, ranked(rows, _DECIMALS) if compression > 0 else rows))
    built = ScoreTable(comparison.setting, task, tuple(blocks), None, ())
    cells = list(built.cells())
    return replace(
        built,
        n=shared_n(cells),
        notes=(*missing_note(cells), *read_notes(comparison, records)),
    )


def _row(comparison: Comparison, method: str, runs: pd.DataFrame) -> Row:
    label, group = comparison.describe(method)
    cells = tuple(Cell.over(runs[score_column(key)]) for key in SCORES)
    reached, macs = runs["reached"].mean(), runs["student_macs"].mean()
    return Row(method, label, group, cells, Costs(removed=100 * float(reached), macs=float(macs)))


def _sheet(table: ScoreTable) -> Sheet:
    costs = cost_columns(table.blocks, ("macs",))
    return Sheet(
        caption=table.caption(),
        heads=(*(SELECTIONS[key] for key in SCORES), *(cost.head for cost in costs)),
        sections=sections(table.blocks, table.n, _DECIMALS, costs),
        notes=(_MEANINGS, *table.notes),
    )


def _tidy_csv(tables: Sequence[ScoreTable]) -> str:
    """One line a cell, in a stable order; `removed` in percent, as reached."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for table in tables:
        for block in table.blocks:
            for row in block.rows:
                costs = (plain(row.costs.removed, ".2f"), plain(row.costs.macs, ".0f"))
                for key, cell in zip(SCORES, row.cells, strict=True):
                    writer.writerow(
                        [
                            *setting_fields(table.setting),
                            *(f"{block.compression:g}", row.group, row.method, table.task, key),
                            *(plain(cell.mean, ".4f"), plain(cell.sd, ".4f"), cell.n),
                            *costs,
                        ]
                    )
    return text.getvalue()
