"""`python -m results.leaderboard RUNS`: all results as one CSV, to be kept in git and compared.

The file depends on the records only: not on when, where or in which order they were read.
`leaderboard_file` has its columns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.command import encoded, parser, run, say, show, write_whole
from results.entry import Entry
from results.leaderboard_file import read_file, text
from results.leaderboard_records import check_averages
from results.records import Records, ResultsError, default_selection, plural
from results.schema import AVERAGE, SELECTIONS
from results.standings import entries, ordered


def standings_of(records: Records, selection: str | None, metric: str) -> tuple[Entry, ...]:
    """The entries of the records, as `standings.entries` gives them.

    Raises:
        ResultsError: there is none.
    """
    records.require_accuracies()
    found = entries(records, selection, metric)
    if not found:
        protocols = records.frame["protocol"].unique()
        tried = [selection] if selection else sorted({*map(default_selection, protocols)})
        others = ", ".join(name for name in SELECTIONS if name not in tried)
        raise ResultsError(
            f"no accuracy by {' or '.join(tried)} in {plural(len(records.frame), 'run')}; choose "
            f"by --select: {others}"
        )
    return found


def updated(old: Sequence[Entry], new: Sequence[Entry]) -> tuple[Entry, ...]:
    """`old`, where a method at a compression that is in `new` too has all its rows from there.

    Raises:
        ResultsError: `new` lacks a task or a seed that `old` has of such a method.
    """
    anew = {_cell(entry) for entry in new}
    _check_covered([entry for entry in old if _cell(entry) in anew], new)
    kept = [entry for entry in old if _cell(entry) not in anew]
    # Entries come in the order of their suite; the average has no place in it.
    tasks = [entry.task for entry in (*old, *new)]
    return ordered([*kept, *new], tasks)


def _check_covered(replaced: Sequence[Entry], new: Sequence[Entry]) -> None:
    seeds: dict[tuple[Any, ...], set[int]] = {}
    for entry in new:
        seeds.setdefault((_cell(entry), entry.task), set()).update(entry.seeds)
    lacking: dict[tuple[Any, ...], list[str]] = {}
    for entry in replaced:
        there = seeds.get((_cell(entry), entry.task), set())
        gone = [str(seed) for seed in entry.seeds if seed not in there]
        if gone and entry.task != AVERAGE:
            which = f" of seed {' and '.join(gone)}" if there else ""
            lacking.setdefault(_cell(entry), []).append(f"{entry.task}{which}")
    for (*_, compression, method), tasks in lacking.items():
        raise ResultsError(
            f"{method} at compression {compression:g}: these runs lack {', '.join(tasks)}, which "
            "FILE has; give all of them"
        )


def _cell(entry: Entry) -> tuple[Any, ...]:
    return (*entry.where(), entry.compression, entry.method)


def main(argv: Sequence[str] | None = None) -> int:
    """Write or print the leaderboard; the exit code is 0, or 2 for wrong usage."""
    built = parser(
        "results.leaderboard",
        "All results as one CSV with a row a method, compression and task: accuracy over seeds, "
        "costs and the hashes of the records; two of them diff well in git.",
    )
    built.add_argument("--out", metavar="FILE", type=Path, help="write here instead of printing")
    built.add_argument(
        "--update",
        metavar="FILE",
        type=Path,
        help="put these methods, at these compressions, into this leaderboard, in the place of "
        "what it has of them, with all its tasks and seeds; all else in it stays",
    )
    return run(built, _command, argv)


def _command(arguments: argparse.Namespace, records: Records) -> None:
    standings = standings_of(records, arguments.select, arguments.metric)
    if gaps := records.gaps():
        say(f"not in the leaderboard: {gaps}")
    if arguments.update is not None:
        standings = updated(read_file(arguments.update), standings)
        # Runs of other tasks than FILE has would make a leaderboard that no command reads.
        check_averages(arguments.update, standings)
    out = arguments.out or arguments.update
    if out is None:
        show(text(standings), for_program=True)
        return
    write_whole(out, encoded(text(standings)))
    show(f"{out}\n")


if __name__ == "__main__":
    sys.exit(main())
