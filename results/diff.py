"""`python -m results.diff OLD NEW`: what changed between two leaderboards or folders of runs.

The exit code is 0 where all is the same or better, 1 where a row is worse by more than the
tolerance (or what else `--fail-on` names), and 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from results.change_report import as_json, document, headline
from results.changes import GONE, TOLERANCE, WORSE, Change, Changes, compare
from results.command import (
    Parser,
    add_choice,
    encoded,
    guarded,
    read_and_say,
    say,
    show,
    terminal_width,
    write_whole,
)
from results.entry import Entry
from results.leaderboard import standings_of
from results.leaderboard_file import read_file
from results.part import part
from results.records import ResultsError
from results.schema import AVERAGE

FORMATS = ("terminal", "markdown", "json")
# The rows that make the exit code 1.
FAIL_ON: dict[str, Callable[[Change], bool]] = {
    "worse": lambda row: row.verdict == WORSE,
    "gone": lambda row: row.verdict in (WORSE, GONE) or bool(row.lost_seeds()),
    "any": lambda row: not row.is_exact(),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; the exit code is 0, 1 where `--fail-on` says so, or 2 for wrong usage."""
    built = _parser()
    arguments = built.parse_args(argv)

    def body() -> int:
        old, new = _sides(built, arguments)
        if arguments.part:
            old, new = part(old, new)
        if arguments.averages:
            old, new = _averages(old), _averages(new)
        changes = compare(old, new, tolerance=arguments.tolerance)
        _deliver(changes, arguments)
        return int(any(map(FAIL_ON[arguments.fail_on], changes.rows)))

    return guarded(built, body)


def _parser() -> Parser:
    built = Parser(
        prog="python -m results.diff",
        description="What changed between two leaderboards or folders of runs, row by row: the "
        "difference in accuracy with its interval, and a verdict.",
        epilog="Exit code: 0 the same or better, 1 what --fail-on names, 2 wrong usage.",
    )
    for name, words in (("old", "before"), ("new", "after")):
        built.add_argument(
            name,
            metavar=name.upper(),
            type=Path,
            help=f"the results {words}: a leaderboard (CSV) or an out directory of runs",
        )
    built.add_argument(
        "--tolerance",
        metavar="POINTS",
        type=_points,
        default=TOLERANCE,
        help="a row is worse or better where its accuracy changed by more than this (default: "
        "%(default)s)",
    )
    built.add_argument(
        "--fail-on",
        choices=list(FAIL_ON),
        default="worse",
        help="exit code 1 where a row is worse; worse or gone, or lacks a seed that it had; or any "
        "that is not exactly as it was, latencies apart (default: %(default)s)",
    )
    built.add_argument(
        "--part",
        action="store_true",
        help="NEW is a part of OLD run again: compare its runs alone, over the same tasks and "
        "seeds; a run that OLD has not is wrong usage",
    )
    built.add_argument(
        "--averages",
        action="store_true",
        help="compare averages over tasks only, which scatter less than single tasks",
    )
    built.add_argument("--all", action="store_true", help="show the rows that are the same, too")
    built.add_argument(
        "--format",
        choices=list(FORMATS),
        default="terminal",
        help="output format (default: %(default)s)",
    )
    built.add_argument("--out", metavar="FILE", type=Path, help="write here instead of printing")
    add_choice(built)  # of folders of runs
    return built


def _averages(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    found = tuple(entry for entry in entries if entry.task == AVERAGE)
    if not found:
        raise ResultsError("--averages: there are none; no method has a seed with all tasks")
    return found


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = math.nan
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points from 0 to 100")
    return points


def _sides(
    built: Parser, arguments: argparse.Namespace
) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """The entries of both sides.

    Raises:
        ResultsError: one of them cannot be read, or an option has nothing to apply to.
    """
    given = [
        *(["--select"] if arguments.select else []),
        *(["--mean-class"] if arguments.metric != "overall" else []),
    ]
    if given and not (arguments.old.is_dir() or arguments.new.is_dir()):
        raise ResultsError(
            f"{' and '.join(given)}: for folders of runs only; a leaderboard has been made with "
            "its own choice"
        )
    old, new = (
        _side(built, path, arguments.select, arguments.metric)
        for path in (arguments.old, arguments.new)
    )
    return old, new


def _side(built: Parser, path: Path, selection: str | None, metric: str) -> tuple[Entry, ...]:
    if path.is_dir():
        records = read_and_say(built, [path])
        if gaps := records.gaps():
            say(f"not in {path}: {gaps}")
        return standings_of(records, selection, metric)
    if not path.exists():
        raise ResultsError(f"{path} does not exist; give a leaderboard (CSV) or a folder of runs")
    return read_file(path)


def _deliver(changes: Changes, arguments: argparse.Namespace) -> None:
    """Print the changes or write them to the file that was asked for."""
    if arguments.out is not None:
        write_whole(arguments.out, encoded(_text(changes, arguments, None)))
        show(f"{arguments.out}\n")
        return
    text = _text(changes, arguments, terminal_width())
    show(text, for_program=arguments.format == "json")


def _text(changes: Changes, arguments: argparse.Namespace, width: int | None) -> str:
    if arguments.format == "json":
        return as_json(changes)
    tables = document(changes, arguments.all)
    verdict = headline(changes)
    if arguments.format == "markdown":
        verdict = f"**{verdict}**"
    if tables is None:
        return f"{verdict}\n"
    return f"{verdict}\n\n{tables.text(arguments.format, width)}"


if __name__ == "__main__":
    sys.exit(main())
