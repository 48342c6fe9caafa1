"""`python -m results.table RUNS`: the paper-style table of a suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from results import scores
from results.aggregate import selection_tables, tables
from results.command import add_output, deliver, parser, run
from results.records import Records, ResultsError, plural
from results.render import COLUMNS, document


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the table; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.table",
        "Table of run records: methods by tasks, or by the ways of choosing the epoch, a block "
        "per compression, mean ± sd over seeds. Suites, protocols and backbones get a table each.",
        leaderboards=True,
    )
    built.add_argument(
        "--by",
        choices=["task", "selection", "score"],
        help="columns: the tasks and their average, the average for each way of choosing the "
        "epoch, or, of targets without labels, the label-free scores (default: task, or score "
        "where no target has labels)",
    )
    built.add_argument(
        "--compression",
        metavar="SHARES",
        type=_shares,
        help="only these, such as 0.5,0.75, and what is not compressed (default: all)",
    )
    built.add_argument(
        "--columns",
        metavar="NAMES",
        type=_columns,
        default=(),
        help=f"further columns, separated by commas: {', '.join(COLUMNS)}",
    )
    add_output(built)
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    if arguments.compression is not None:
        records = records.at(arguments.compression)
    by = arguments.by or ("score" if records.frame.empty else "task")
    if by != "task" and arguments.select is not None:
        shows = "all of them" if by == "selection" else "the last epoch"
        raise ResultsError(
            f"--select {arguments.select} does not go with --by {by}, which shows {shows}"
        )
    if by != "task" and arguments.columns:
        raise ResultsError(f"--columns goes with --by task, not with --by {by}")
    if by == "selection" and records.leaderboards:
        raise ResultsError(
            "--by selection: a leaderboard has the accuracies of one selection only; give the runs"
        )
    if by == "score":
        _show_scores(arguments, records)
        return
    records.require_accuracies()
    if count := len(records.unlabelled):
        runs = plural(count, "run")
        print(f"{runs} on targets without labels: see --by score", file=sys.stderr)
    if by == "task":
        shown = tables(records, arguments.select, arguments.metric)
    else:
        shown = selection_tables(records, arguments.metric)
    deliver(document(shown, arguments.columns), arguments)


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not numbers separated by commas, such as 0.5,0.75"
        ) from None


def _columns(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names:
        given = ", ".join(unknown) or "nothing"
        raise argparse.ArgumentTypeError(f"{given} is no column; allowed: {', '.join(COLUMNS)}")
    return names


def _show_scores(arguments: argparse.Namespace, records: Records) -> None:
    if arguments.metric != "overall":
        raise ResultsError("--mean-class does not go with --by score, which shows no accuracies")
    if records.unlabelled.empty:
        raise ResultsError("--by score: all targets have labels; leave --by out for accuracies")
    if arguments.by is None:
        print("no target here has labels: label-free scores, no accuracies", file=sys.stderr)
    deliver(scores.document(scores.score_tables(records)), arguments)


if __name__ == "__main__":
    sys.exit(main())
