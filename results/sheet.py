"""Tables of text in five formats: terminal, Markdown, LaTeX (booktabs), HTML and CSV."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill

from results.latex import escaped

MISSING = "—"
# An en dash where there is a mean and no sd, so that it does not read as a missing cell.
NO_SD = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
FORMATS = ("terminal", "markdown", "csv", "latex", "html")
# What moves a terminal's cursor, or ends a line of it or of a table in Markdown.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What Markdown reads as emphasis, code, a tag, a cell's end, a formula, a link or an entity.
_MARKDOWN = re.compile(r"[\\`*_<|~$]|\](?=\()|&(?=[#\w])")


@dataclass(frozen=True)
class Text:
    """A cell's text; `rank` 1 and 2 are marked as best and second best, None takes no mark."""

    text: str
    rank: int | None = None


@dataclass(frozen=True)
class Line:
    """A row; `begins` where a new group of methods begins with it."""

    label: str
    entries: tuple[Text, ...]
    begins: bool = False


@dataclass(frozen=True)
class Section:
    """Rows under a title, which belongs to no column."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Sheet:
    """A table as texts; `heads` are those of the entries, without that of the labels."""

    caption: str
    heads: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]

    def has_ranks(self) -> bool:
        """Whether any entry is marked."""
        return any(
            entry.rank
            for section in self.sections
            for line in section.lines
            for entry in line.entries
        )

    def all_notes(self, marks: str) -> list[str]:
        """The footnotes, with what the marks mean where they are used."""
        first = f"{marks} of the compressed methods at the same compression."
        return [first, *self.notes] if self.has_ranks() else list(self.notes)


@dataclass(frozen=True)
class Document:
    """Tables that belong together, and their CSV, which is one for all."""

    sheets: tuple[Sheet, ...]
    csv: str

    def text(self, form: str, width: int | None = None) -> str:
        """The document in one of `FORMATS`.

        On a terminal of `width` columns (None: any), what does not fit continues further down.
        Best and second best are `*` and `†`, in Markdown, LaTeX and HTML bold and underlined.
        LaTeX needs the packages booktabs and graphicx. HTML is a page by itself.
        """
        if form == "csv":
            return self.csv
        sheets = [_in_lines(sheet) for sheet in self.sheets]
        if form == "terminal":
            return "\n\n".join(_terminal(sheet, width) for sheet in sheets) + "\n"
        if form == "html":
            return _PAGE.format("\n".join(html_table(sheet) for sheet in sheets))
        texts = [(_markdown if form == "markdown" else _latex)(sheet) for sheet in sheets]
        head = "% \\usepackage{booktabs,graphicx}\n" if form == "latex" else ""
        return head + "\n\n".join(texts) + "\n"


def one_line(text: str) -> str:
    """The text without control characters and ends of lines: a space stands for each."""
    return _CONTROL.sub(" ", text)


def _in_lines(sheet: Sheet) -> Sheet:
    """The sheet with each of its texts in one line, whatever the names in them hold."""
    sections = (
        Section(
            one_line(section.title),
            tuple(
                Line(
                    one_line(line.label),
                    tuple(Text(one_line(entry.text), entry.rank) for entry in line.entries),
                    line.begins,
                )
                for line in section.lines
            ),
        )
        for section in sheet.sections
    )
    heads, notes = (tuple(map(one_line, texts)) for texts in (sheet.heads, sheet.notes))
    return Sheet(one_line(sheet.caption), heads, tuple(sections), notes)


def _terminal(sheet: Sheet, width: int | None) -> str:
    heads = ["", *sheet.heads]
    marks = ("  ", " *", " †") if sheet.has_ranks() else ("", "", "")
    lines: list[list[str] | str] = []
    for section in sheet.sections:
        lines.append(section.title)
        for line in section.lines:
            cells = [
                entry.text + ("" if entry.rank is None else marks[entry.rank])
                for entry in line.entries
            ]
            lines.append([f"  {line.label}", *cells])
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
    texts = [sheet.caption, *sheet.all_notes("* best, † second best")]
    caption, *notes = texts if width is None else [fill(text, width) for text in texts]
    return "\n".join([caption, "", "\n\n".join(pages), "", *notes]).rstrip()


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


def _markdown(sheet: Sheet) -> str:
    marks = ("{}", "**{}**", "<u>{}</u>")
    heads = ["method", *(_markdown_text(head.replace("->", " → ")) for head in sheet.heads)]
    lines = [_markdown_row(heads), _markdown_row(["---", *["---:"] * len(sheet.heads)])]
    for section in sheet.sections:
        title = f"*{_markdown_text(section.title)}*"
        lines.append(_markdown_row([title, *[""] * len(sheet.heads)]))
        for line in section.lines:
            cells = [
                marks[entry.rank or 0].format(_markdown_text(entry.text)) for entry in line.entries
            ]
            lines.append(_markdown_row([_markdown_text(line.label), *cells]))
    notes = " ".join(sheet.all_notes("Bold: best, underlined: second best"))
    parts = [f"**{_markdown_text(sheet.caption)}**", "\n".join(lines), _markdown_text(notes)]
    return "\n\n".join(parts).rstrip()


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    """The text, of which Markdown reads nothing as its own."""
    return _MARKDOWN.sub(r"\\\g<0>", text)


def _latex(sheet: Sheet) -> str:
    marks = ("{}", r"\textbf{{{}}}", r"\underline{{{}}}")
    notes = sheet.all_notes("Bold: best, underlined: second best")
    columns = len(sheet.heads) + 1
    lines = [
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{escaped(' '.join((sheet.caption + '.', *notes)))}}}",
        # Many columns make a table wider than the page: shrink it then, and only then.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{@{}l" + "r" * len(sheet.heads) + r"@{}}",
        r"\toprule",
        _latex_row(escaped(head) for head in ("", *sheet.heads)),
    ]
    for section in sheet.sections:
        title = rf"\multicolumn{{{columns}}}{{@{{}}l}}{{\emph{{{escaped(section.title)}}}}}"
        lines += [r"\midrule", rf"{title} \\"]
        for line in section.lines:
            if line.begins:
                lines.append(r"\addlinespace")
            cells = [marks[entry.rank or 0].format(escaped(entry.text)) for entry in line.entries]
            lines.append(_latex_row([escaped(line.label), *cells]))
    lines += [r"\bottomrule", r"\end{tabular}%", "}", r"\end{table}"]
    return "\n".join(lines)


def _latex_row(cells: Iterable[str]) -> str:
    row = " & ".join(cells)
    # Behind the end of a row, and behind some rules, these two begin an argument of theirs.
    first = "{}" if row.startswith(("[", "*")) else ""
    return rf"{first}{row} \\"


# Enough to be read by itself; a page of one's own takes the tables and leaves the rest.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>ITMC Bench</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; }}
figure {{ margin: 0 0 2.5rem; overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; padding-bottom: .6rem; max-width: 60rem; }}
th, td {{ text-align: right; padding: .2rem .6rem; white-space: nowrap; }}
th:first-child {{ text-align: left; font-weight: normal; }}
thead th {{ border-block: 1px solid; font-weight: bold; }}
tbody tr:first-child th {{ padding-top: .7rem; font-style: italic; }}
.begins > * {{ padding-top: .7rem; }}
figcaption {{ max-width: 60rem; font-size: .9em; padding-top: .6rem; }}
</style>
{}
</html>
"""


def html_table(sheet: Sheet) -> str:
    """The table as a `<figure>`, whose caption holds the footnotes."""
    marks = ("{}", "<strong>{}</strong>", "<u>{}</u>")
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in ("", *sheet.heads))
    lines = [
        "<figure><table>",
        f"<caption>{html.escape(sheet.caption)}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
    ]
    for section in sheet.sections:
        title = html.escape(section.title)
        span = f'scope="rowgroup" colspan="{len(sheet.heads) + 1}"'
        lines.append(f"<tbody><tr><th {span}>{title}</th></tr>")
        for line in section.lines:
            cells = (
                marks[entry.rank or 0].format(html.escape(entry.text)) for entry in line.entries
            )
            begins = ' class="begins"' if line.begins else ""
            label = f'<th scope="row">{html.escape(line.label)}</th>'
            lines.append(f"<tr{begins}>{label}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        lines.append("</tbody>")
    notes = sheet.all_notes("Bold: best, underlined: second best")
    notes_line = f"<figcaption>{html.escape(' '.join(notes))}</figcaption>" if notes else ""
    return "\n".join([*lines, "</table>", notes_line, "</figure>"])
