"""`python -m results.table RUNS`: the paper-style table of a suite."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from results.aggregate import tables
from results.command import parser, run, write_whole
from results.records import Records
from results.render import FORMATS, terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the table; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.table",
        "Table of run records: methods by tasks, a block per compression, mean ± sd over seeds. "
        "Suites, protocols and backbones get a table each.",
    )
    built.add_argument(
        "--format",
        choices=list(FORMATS),
        default="terminal",
        help="output format (default: %(default)s)",
    )
    built.add_argument("--out", metavar="FILE", type=Path, help="write here instead of printing")
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    shown = tables(records, arguments.select, arguments.metric)
    if arguments.out is not None:
        write_whole(arguments.out, FORMATS[arguments.format](shown).encode())
        print(arguments.out)
    elif arguments.format == "terminal" and sys.stdout.isatty():
        sys.stdout.write(terminal(shown, shutil.get_terminal_size().columns))
    else:
        sys.stdout.write(FORMATS[arguments.format](shown))


if __name__ == "__main__":
    sys.exit(main())
