"""Tables as text: terminal, Markdown, LaTeX (booktabs) and long, tidy CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from textwrap import fill

from results.aggregate import AVERAGE, UNADAPTED, Block, Cell, Row, Table

MISSING = "—"
# An en dash where there is a mean and no sd, so that it does not read as a missing cell.
NO_SD = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_CSV_HEAD = (
    *("suite", "protocol", "backbone", "weights", "bottleneck", "image_size", "epochs", "data"),
    *("selection", "metric"),
    *("compression", "group", "method", "task", "mean", "sd", "n"),
)
# Characters that LaTeX reads as commands, and those that its default fonts lack.
_LATEX = {
    "->": r"$\to$",
    "→": r"$\to$",
    "±": r"$\pm$",
    "—": "---",
    NO_SD: "--",
    MINUS: "$-$",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_LATEX_PATTERN = re.compile("|".join(re.escape(key) for key in _LATEX))


def terminal(tables: Sequence[Table], width: int | None = None) -> str:
    """Aligned text; best `*`, second best `†`. Columns beyond `width` continue further down."""
    return "\n\n".join(_terminal(table, width) for table in tables) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    """Markdown tables; best bold, second best underlined."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """LaTeX tables for booktabs and graphicx; best bold, second best underlined."""
    head = "% \\usepackage{booktabs,graphicx}\n"
    return head + "\n\n".join(_latex(table) for table in tables) + "\n"


def tidy_csv(tables: Sequence[Table]) -> str:
    """One line a cell, in a stable order and with two decimals, so that it diffs well."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    for table in tables:
        setting = table.setting
        shared = (
            *(setting.suite, setting.protocol, setting.backbone, setting.weights),
            *(
                "" if figure is None else figure
                for figure in (setting.bottleneck, setting.image_size, setting.epochs)
            ),
            *(setting.digest.removeprefix("sha256:")[:12], table.selection, table.metric),
        )
        for block in table.blocks:
            for row in block.rows:
                for task, cell in zip((*table.tasks, AVERAGE), row.cells, strict=True):
                    writer.writerow(
                        [
                            *shared,
                            *(f"{block.compression:g}", row.group, row.method, task),
                            *(_figure(cell.mean, ".2f", ""), _figure(cell.sd, ".2f", ""), cell.n),
                        ]
                    )
    return text.getvalue()


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": tidy_csv,
    "latex": latex,
}


def _figure(value: float, form: str, missing: str = MISSING) -> str:
    return missing if math.isnan(value) else format(value, form)


def _cell(cell: Cell, n: int | None) -> str:
    """`81.2 ± 0.9`, without sd for one seed; n in brackets where the cells do not share it."""
    if cell.n == 0:
        return MISSING
    # Where every cell is one seed the caption says so, and a dash in each would only be noise.
    sd = "" if n == 1 else f" ± {_figure(cell.sd, '.1f', NO_SD)}"
    return f"{cell.mean:.1f}{sd}" + (f" ({cell.n})" if n is None else "")


def _macs(macs: float) -> str:
    if math.isnan(macs):
        return MISSING
    value, unit = (macs / 1e9, "G") if macs >= 1e9 else (macs / 1e6, "M")
    # Three digits tell students apart; more would be noise.
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def _has_gain(table: Table) -> bool:
    return any(not math.isnan(row.gain) for block in table.blocks for row in block.rows)


def _cost_heads(table: Table) -> tuple[str, ...]:
    heads = ("MACs removed %", "student MACs", "gain")
    return heads if _has_gain(table) else heads[:2]


def _costs(row: Row, table: Table) -> tuple[str, ...]:
    gain = _figure(row.gain, "+.1f").replace("-", MINUS)
    costs = _figure(row.removed, ".1f"), _macs(row.macs), gain
    return costs if _has_gain(table) else costs[:2]


def _title(block: Block) -> str:
    if block.compression == 0:
        return "Uncompressed"
    return f"{100 * block.compression:g} % of MACs to be removed"


def _by_group(block: Block) -> Iterator[tuple[Row, bool]]:
    """Each row, and whether a new group of methods begins with it."""
    if block.rows:
        yield block.rows[0], False
    for before, row in pairwise(block.rows):
        yield row, row.group != before.group


def _terminal(table: Table, width: int | None) -> str:
    heads = ["", *table.tasks, AVERAGE, *_cost_heads(table)]
    # A block's title is one text, which belongs to no column.
    lines: list[list[str] | str] = []
    marks = ("  ", " *", " †") if any(cell.rank for cell in table.cells()) else ("", "", "")
    for block in table.blocks:
        lines.append(_title(block))
        for row, _ in _by_group(block):
            cells = [_cell(cell, table.n) + marks[cell.rank] for cell in row.cells]
            lines.append([f"  {row.label}", *cells, *_costs(row, table)])
    body = [heads, *(line for line in lines if isinstance(line, list))]
    widths = [max(len(text) for text in column) for column in zip(*body, strict=True)]
    pages = []
    for columns in _pages(widths, width):
        page = [_aligned(heads, widths, columns)]
        page.append("─" * len(page[0]))
        page += [
            line if isinstance(line, str) else _aligned(line, widths, columns) for line in lines
        ]
        pages.append("\n".join(page))
    notes = _notes(table, "* best, † second best")
    texts = [table.caption(), *notes]
    caption, *notes = texts if width is None else [fill(text, width) for text in texts]
    return "\n".join([caption, "", "\n\n".join(pages), "", *notes]).rstrip()


def _notes(table: Table, marks: str) -> list[str]:
    """The footnotes, with what the marks and the last column mean where they are used."""
    notes = []
    if any(cell.rank for cell in table.cells()):
        notes.append(f"{marks} of the compressed methods at the same compression.")
    if _has_gain(table):
        notes.append(f"gain: {AVERAGE} minus that of {UNADAPTED}, same tasks and seeds.")
    return [*notes, *table.notes]


def _pages(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Columns that fit side by side; the first column, the methods, starts every page."""
    pages: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        used = sum(widths[shown] + 2 for shown in pages[-1]) + widths[column]
        if width is not None and used > width and len(pages[-1]) > 1:
            pages.append([0])
        pages[-1].append(column)
    return pages


def _aligned(texts: Sequence[str], widths: Sequence[int], columns: Sequence[int]) -> str:
    first, *others = columns
    cells = [texts[first].ljust(widths[first])]
    cells += [texts[column].rjust(widths[column]) for column in others]
    return "  ".join(cells).rstrip()


def _markdown(table: Table) -> str:
    marks = ("{}", "**{}**", "<u>{}</u>")
    heads = [
        "method",
        *(task.replace("->", " → ") for task in table.tasks),
        AVERAGE,
        *_cost_heads(table),
    ]
    lines = [_markdown_row(heads), _markdown_row(["---", *["---:"] * (len(heads) - 1)])]
    for block in table.blocks:
        lines.append(_markdown_row([f"*{_title(block)}*", *[""] * (len(heads) - 1)]))
        for row, _ in _by_group(block):
            cells = [marks[cell.rank].format(_cell(cell, table.n)) for cell in row.cells]
            lines.append(_markdown_row([row.label, *cells, *_costs(row, table)]))
    notes = " ".join(_notes(table, "Bold: best, underlined: second best"))
    parts = [f"**{_markdown_text(table.caption())}**", "\n".join(lines), _markdown_text(notes)]
    return "\n\n".join(parts).rstrip()


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _markdown_text(text: str) -> str:
    """Underscores in names would otherwise read as emphasis."""
    return re.sub(r"([_*<|])", r"\\\1", text)


def _latex(table: Table) -> str:
    marks = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")
    heads = ["", *table.tasks, AVERAGE, *_cost_heads(table)]
    notes = _notes(table, "Bold: best, underlined: second best")
    lines = [
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{_escaped(' '.join((table.caption() + '.', *notes)))}}}",
        # Many tasks make a table wider than the page: shrink it then, and only then.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{@{}l" + "r" * (len(heads) - 1) + r"@{}}",
        r"\toprule",
        _latex_row(_escaped(head) for head in heads),
    ]
    for block in table.blocks:
        title = rf"\multicolumn{{{len(heads)}}}{{@{{}}l}}{{\emph{{{_escaped(_title(block))}}}}}"
        lines += [r"\midrule", rf"{title} \\"]
        for row, begins in _by_group(block):
            if begins:
                lines.append(r"\addlinespace")
            cells = [marks[cell.rank].format(_escaped(_cell(cell, table.n))) for cell in row.cells]
            lines.append(
                _latex_row([_escaped(row.label), *cells, *map(_escaped, _costs(row, table))])
            )
    lines += [r"\bottomrule", r"\end{tabular}%", "}", r"\end{table}"]
    return "\n".join(lines)


def _latex_row(cells: Sequence[str] | Iterator[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match.group()], text)
