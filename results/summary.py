"""All tables and plots of an out directory, as the suite writes them when its grid is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from results import compare, leaderboard_file, plot, scores
from results.aggregate import selection_tables, tables
from results.command import write_whole
from results.differences import REFERENCE, differences
from results.ranks import ranks
from results.records import Records, read
from results.render import document
from results.sheet import Document
from results.standings import entries

NO_ACCURACIES = "No target here has labels: there are no tables or plots of accuracies.\n"
_SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".html": "html"}


@dataclass(frozen=True)
class Summary:
    """What was written, and the tables for the terminal.

    Attributes:
        tables: `.md`, `.csv`, `.tex` and `.html` of `table`, of `selections`, of `differences`
            where there is something to compare, and of `scores` where a target has no labels; where
            none has any, of `scores` only. Besides, where any has, `leaderboard.csv`.
        plots: PNG and PDF of each figure; none where no target has labels.
        text: the main table as the terminal shows it, the differences where they were asked, and
            the scores; a line says why there are no accuracies.
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
    documents = _documents(records, reference)
    written = []
    for stem, made in documents.items():
        for suffix, form in _SUFFIXES.items():
            path = out / f"{stem}{suffix}"
            write_whole(path, made.text(form).encode())
            written.append(path)
    if not records.frame.empty:
        path = out / "leaderboard.csv"
        write_whole(path, leaderboard_file.text(entries(records)).encode())
        written.append(path)
    plots = plot.write(records, out)
    hidden = {"selections"} if show_differences else {"selections", "differences"}
    texts = [made.text("terminal", width) for stem, made in documents.items() if stem not in hidden]
    if records.frame.empty:
        texts.insert(0, NO_ACCURACIES)
    return Summary(tuple(written), plots, "\n".join(texts), records.left_out)


def _documents(records: Records, reference: str) -> dict[str, Document]:
    """The tables that these records have, by the name of their files."""
    made: dict[str, Document] = {}
    if not records.frame.empty:
        made["table"] = document(tables(records))
        made["selections"] = document(selection_tables(records))
    if found := differences(records, reference):
        made["differences"] = compare.document(found, ranks(records))
    if not records.unlabelled.empty:
        made["scores"] = scores.document(scores.score_tables(records))
    return made
