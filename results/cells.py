"""What tables are made of: mean ± sd over seeds, rows of methods, marks for the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from results.costs import Costs
from results.statistics import mean


@dataclass(frozen=True)
class Cell:
    """Mean and standard deviation (ddof 1) over n seeds, in the unit of the column.

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
        values = seeds.dropna().to_list()
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(mean(values), sd, len(values))


@dataclass(frozen=True)
class Row:
    """One method at one compression: a cell a column of the table, and what it cost."""

    method: str
    label: str
    group: str
    cells: tuple[Cell, ...]
    costs: Costs = field(default_factory=Costs)


@dataclass(frozen=True)
class Block:
    """The rows of one asked compression; 0 holds the uncompressed references."""

    compression: float
    rows: tuple[Row, ...]


def ranked(rows: tuple[Row, ...], decimals: Sequence[int]) -> tuple[Row, ...]:
    """The rows with the best and second best of each column marked; higher is better.

    `decimals`: how many each column is printed with. What prints alike shares a rank: what cannot
    be read off the table is not marked.
    """
    columns = []
    for column, digits in zip(
        zip(*(row.cells for row in rows), strict=True), decimals, strict=True
    ):
        shown = [round(cell.mean, digits) for cell in column]
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


def shared_n(cells: Iterable[Cell]) -> int | None:
    """The number of seeds that all cells with any share; None where they differ."""
    counts = {cell.n for cell in cells if cell.n}
    return counts.pop() if len(counts) == 1 else None


def seeds_in_words(n: int | None) -> str:
    """How many seeds stand behind the cells of a table."""
    if n is None:
        return "mean ± sd over n seeds, n in brackets"
    return "n = 1 seed (no sd)" if n == 1 else f"mean ± sd over n = {n} seeds"
