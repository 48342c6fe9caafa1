"""`python -m results.report RUNS --out DIR`: one self-contained HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from results.command import encoded, parser, run, show, write_whole
from results.page.render import page
from results.records import Records

_PAGE = "index.html"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and print its path; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.report",
        "Report of run records as one HTML page that needs no network: summary, leaderboard, "
        "accuracy against cost, curves, state of the plans, environment, and how to cite and "
        "re-create each number.",
    )
    built.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help=f"folder for the page, {_PAGE}",
    )
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    records.require_accuracies()
    text = page(records, tuple(arguments.runs), arguments.select, arguments.metric)
    path = arguments.out / _PAGE
    write_whole(path, encoded(text))
    show(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
