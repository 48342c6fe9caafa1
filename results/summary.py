"""All tables and plots of an out directory, as the suite writes them when its grid is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from results import paired, plot
from results.aggregate import selection_tables, tables
from results.command import write_whole
from results.differences import REFERENCE, differences
from results.records import read
from results.render import document

_SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex"}


@dataclass(frozen=True)
class Summary:
    """What was written, and the tables for the terminal.

    Attributes:
        tables: `.md`, `.csv` and `.tex` of `table`, of `selections`, and of `differences` where
            there is something to compare.
        plots: PNG and PDF of each figure.
        text: the main table as the terminal shows it, and the differences where they were asked.
        left_out: one line for each record that could not be used.
    """

    tables: tuple[Path, ...]
    plots: tuple[Path, ...]
    text: str
    left_out: tuple[str, ...]


def write(
    runs: Path,
    width: int | None = None,
    reference: str = REFERENCE,
    show_differences: bool = False,
) -> Summary:
    """Write tables and plots to `runs / "summary"`; the protocol chooses the epoch that counts.

    Args:
        runs: an out directory.
        width: columns of the terminal that `text` is for; None for a text that is not wrapped.
        reference: the method that the others are compared with, pair by pair; without it,
            or without others, there are no differences.
        show_differences: whether `text` ends with them.

    Raises:
        ResultsError: there is no usable record under `runs`, or the files cannot be written.
    """
    out = runs / "summary"
    records = read([runs])
    documents = {
        "table": document(tables(records)),
        "selections": document(selection_tables(records)),
    }
    if found := differences(records, reference):
        documents["differences"] = paired.document(found)
    written = []
    for stem, made in documents.items():
        for suffix, form in _SUFFIXES.items():
            path = out / f"{stem}{suffix}"
            write_whole(path, made.text(form).encode())
            written.append(path)
    plots = plot.write(records, out)
    shown = ["table", "differences"] if show_differences and found else ["table"]
    text = "\n".join(documents[stem].text("terminal", width) for stem in shown)
    return Summary(tuple(written), plots, text, records.left_out)
