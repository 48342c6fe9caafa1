"""All tables and plots of an out directory, as the suite writes them when its grid is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from results import plot
from results.aggregate import tables
from results.command import write_whole
from results.records import read
from results.render import latex, markdown, terminal, tidy_csv


@dataclass(frozen=True)
class Summary:
    """What was written, and the table for the terminal.

    Attributes:
        tables: `table.md`, `table.csv` and `table.tex`.
        plots: PNG and PDF of each figure.
        text: the table as the terminal shows it.
        left_out: one line for each record that could not be used.
    """

    tables: tuple[Path, ...]
    plots: tuple[Path, ...]
    text: str
    left_out: tuple[str, ...]


def write(runs: Path, width: int | None = None) -> Summary:
    """Write tables and plots of the last epoch's accuracy to `runs / "summary"`.

    Args:
        runs: an out directory.
        width: columns of the terminal that `text` is for; None for a text that is not wrapped.

    Raises:
        ResultsError: there is no usable record under `runs`, or the files cannot be written.
    """
    out = runs / "summary"
    records = read([runs])
    shown = tables(records)
    written = []
    for name, text in (
        ("table.md", markdown(shown)),
        ("table.csv", tidy_csv(shown)),
        ("table.tex", latex(shown)),
    ):
        write_whole(out / name, text.encode())
        written.append(out / name)
    plots = plot.write(records, out)
    return Summary(tuple(written), plots, terminal(shown, width), records.left_out)
