"""Tables of accuracies as documents: texts for each format, and a long, tidy CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

from results.aggregate import DECIMALS, Table
from results.beside import published_beside
from results.cells import Block, Cell, Row
from results.comparison import Setting
from results.costs import Costs
from results.schema import AVERAGE, UNADAPTED
from results.sheet import MINUS, MISSING, NO_SD, Document, Line, Section, Sheet, Text

SETTING_HEAD = (
    *("suite", "protocol", "backbone", "weights", "bottleneck", "image_size", "epochs", "data"),
)
_HEAD = (
    *SETTING_HEAD,
    *("selection", "metric", "compression", "group", "method", "task", "mean", "sd", "n"),
)
# What stands in the lines of the average, and its form: attributes of `Costs`.
_TIDY_COSTS = {
    **dict.fromkeys(("removed", "over_source", "over_unpruned"), ".2f"),
    **dict.fromkeys(("macs", "parameters", "activations", "bytes"), ".0f"),
    **dict.fromkeys(("latency_1", "latency_32"), ".4f"),
    **dict.fromkeys(("images", "forward_macs", "backward_macs"), ".0f"),
}


def document(tables: Sequence[Table], columns: Collection[str] = ()) -> Document:
    """Tables of accuracies in all formats; `columns`: those of `COLUMNS` to show besides.

    The CSV has them all.
    """
    return Document(tuple(_sheet(table, columns) for table in tables), _tidy_csv(tables))


def setting_fields(setting: Setting) -> tuple[str | int, ...]:
    """What stands under `SETTING_HEAD`."""
    figures = (setting.bottleneck, setting.image_size, setting.epochs)
    return (
        *(setting.suite, setting.protocol, setting.backbone),
        # Of a file the name: where it lay does not matter.
        PurePath(setting.weights).name or setting.weights,
        *("" if figure is None else figure for figure in figures),
        # Of several tasks there is none: older versions of the data are counted backwards.
        setting.digest.removeprefix("sha256:")[:12] or -setting.edition or "",
    )


def block_title(compression: float) -> str:
    """What the rows of one compression have in common."""
    return f"{100 * compression:g} % of MACs to be removed" if compression else "Uncompressed"


def begins_group(groups: Sequence[str]) -> list[bool]:
    """For the group of each row: whether a new group begins with it, below another."""
    return [False, *(before != group for before, group in pairwise(groups))][: len(groups)]


def figure(value: float, form: str, missing: str = MISSING) -> str:
    """A number as text; `missing` where there is none."""
    return missing if math.isnan(value) else format(value, form).replace("-", MINUS)


def plain(value: float, form: str) -> str:
    """A number for a machine: empty where there is none."""
    return "" if math.isnan(value) else format(value, form)


def quantity(value: float) -> str:
    """`1.80 M`: three digits tell methods apart; more would be noise."""
    if math.isnan(value):
        return MISSING
    units = ("", " k", " M", " G", " T", " P", " E")
    for unit in units:
        # What rounds to four digits is told in the next unit.
        if value < 999.5 or unit == units[-1]:
            break
        value /= 1000
    whole = unit == "" and value == round(value)
    decimals = 0 if whole or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f}{unit}"


@dataclass(frozen=True)
class CostColumn:
    """A column of costs: what asks for it, its head, its figure, and how that is written.

    `asked`: empty where it is always shown.
    """

    asked: str
    head: str
    of: Callable[[Costs], float]
    text: Callable[[float], str]
    meaning: str = ""


def _points(value: float) -> str:
    return figure(value, "+z.1f")


def _milliseconds(value: float) -> str:
    return figure(value, ".2f" if value < 9.995 else ".1f")


_SAME = f"{AVERAGE} minus that of {{}}, same tasks and seeds"
_COSTS = (
    CostColumn("", "MACs removed %", lambda costs: costs.removed, lambda v: figure(v, ".1f")),
    CostColumn(
        *("", "vs source only", lambda costs: costs.over_source, _points),
        _SAME.format(f"our {UNADAPTED}"),
    ),
    CostColumn(
        *("", "vs unpruned", lambda costs: costs.over_unpruned, _points),
        _SAME.format("our unpruned network, adapted in the same way"),
    ),
    CostColumn("macs", "student MACs", lambda costs: costs.macs, quantity),
    CostColumn("parameters", "parameters", lambda costs: costs.parameters, quantity),
    CostColumn(
        *("activations", "activations", lambda costs: costs.activations, quantity),
        "outputs of convolutions and linear layers for one image",
    ),
    CostColumn("size", "bytes", lambda costs: costs.bytes, quantity, "of the saved student"),
    CostColumn(
        *("latency", "ms, batch 1", lambda costs: costs.latency_1, _milliseconds),
        "median latency of the student, median over runs",
    ),
    CostColumn("latency", "ms, batch 32", lambda costs: costs.latency_32, _milliseconds),
    CostColumn(
        *("effort", "images seen", lambda costs: costs.images, quantity),
        "training images drawn for gradient steps, both domains, all stages (mean over runs, as "
        "for the MACs)",
    ),
    CostColumn(
        *("effort", "forward MACs", lambda costs: costs.forward_macs, quantity),
        "of all networks in training",
    ),
    CostColumn(
        *("effort", "backward MACs", lambda costs: costs.backward_macs, quantity),
        "twice the forward MACs of the images that have a backward pass",
    ),
)
# What columns can be asked for.
COLUMNS = tuple(dict.fromkeys(column.asked for column in _COSTS if column.asked))


def cost_columns(blocks: Sequence[Block], asked: Collection[str]) -> tuple[CostColumn, ...]:
    """The columns of costs that are asked for and of which some row has a figure."""
    costs = [row.costs for block in blocks for row in block.rows]
    shown = (column for column in _COSTS if not column.asked or column.asked in asked)
    return tuple(c for c in shown if any(not math.isnan(c.of(of_row)) for of_row in costs))


def sections(
    blocks: Sequence[Block], n: int | None, decimals: Sequence[int], costs: Sequence[CostColumn]
) -> tuple[Section, ...]:
    """A section a block: the cells, with so many decimals a column, and then the costs.

    `n`: the number of seeds that all cells share, None where they differ.
    """

    def line(row: Row, begins: bool) -> Line:
        cells = (
            Text(_cell(cell, n, digits), cell.rank)
            for cell, digits in zip(row.cells, decimals, strict=True)
        )
        return Line(row.label, (*cells, *(Text(c.text(c.of(row.costs))) for c in costs)), begins)

    made = []
    for block in blocks:
        begins = begins_group([row.group for row in block.rows])
        made.append(Section(block_title(block.compression), tuple(map(line, block.rows, begins))))
    return tuple(made)


def _sheet(table: Table, asked: Collection[str]) -> Sheet:
    columns = cost_columns(table.blocks, asked)
    beside = published_beside(table, len(columns))
    meanings = [f"{column.head}: {column.meaning}." for column in columns if column.meaning]
    return Sheet(
        caption=table.caption(),
        heads=(*(column.head for column in table.columns), *(column.head for column in columns)),
        sections=(
            *sections(table.blocks, table.n, [DECIMALS] * len(table.columns), columns),
            *beside.sections,
        ),
        notes=(*meanings, *table.notes, *beside.notes),
    )


def _cell(cell: Cell, n: int | None, decimals: int) -> str:
    """`81.2 ± 0.9`, without sd for one seed; n in brackets where the cells do not share it."""
    if cell.n == 0:
        return MISSING
    form = f"z.{decimals}f"  # "z": what rounds to zero is no negative zero
    # Where every cell is one seed the caption says so, and a dash in each would only be noise.
    sd = "" if n == 1 else f" ± {figure(cell.sd, form, NO_SD)}"
    return f"{figure(cell.mean, form)}{sd}" + (f" ({cell.n})" if n is None else "")


def _tidy_csv(tables: Sequence[Table]) -> str:
    """One line a cell, in a stable order and with two decimals, so that it diffs well.

    Costs are of a method and compression: they stand in the lines of the average.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_HEAD, *_TIDY_COSTS])
    for table in tables:
        for block in table.blocks:
            for row in block.rows:
                for column, cell in zip(table.columns, row.cells, strict=True):
                    of_average = column.task == AVERAGE
                    costs = [plain(getattr(row.costs, c), f) for c, f in _TIDY_COSTS.items()]
                    writer.writerow(
                        [
                            *setting_fields(table.setting),
                            *(column.selection, table.metric, f"{block.compression:g}"),
                            *(row.group, row.method, column.task),
                            *(plain(cell.mean, ".2f"), plain(cell.sd, ".2f"), cell.n),
                            *(costs if of_average else [""] * len(costs)),
                        ]
                    )
    return text.getvalue()
