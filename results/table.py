"""`python -m results.table RUNS`: the paper-style table of a suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from results.aggregate import selection_tables, tables
from results.command import add_output, deliver, parser, run
from results.records import Records, ResultsError
from results.render import document


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the table; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.table",
        "Table of run records: methods by tasks, or by the ways of choosing the epoch, a block "
        "per compression, mean ± sd over seeds. Suites, protocols and backbones get a table each.",
    )
    built.add_argument(
        "--by",
        choices=["task", "selection"],
        default="task",
        help="columns: the tasks and their average, or the average for each way of choosing the "
        "epoch (default: %(default)s)",
    )
    add_output(built)
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    if arguments.by == "task":
        shown = tables(records, arguments.select, arguments.metric)
    elif arguments.select is None:
        shown = selection_tables(records, arguments.metric)
    else:
        raise ResultsError(
            f"--select {arguments.select} does not go with --by selection, which shows all of them"
        )
    deliver(document(shown), arguments)


if __name__ == "__main__":
    sys.exit(main())
