"""``python -m slurm.retry OUT``: submit again what has failed or is missing, and only that."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from slurm.ledger import Entry, Submission
from slurm.settings import add_cluster_options, settings_of
from slurm.states import Standing, State, standings
from slurm.status import submitted
from suites.command import DONE, Parser, exit_code
from suites.progress import Steps, bars

# What loads torch is imported where it is needed, so that Ctrl-C in these seconds is caught too.

STOPPED = "stopped; what was submitted stays, and the same command submits the rest"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    words = tuple(sys.argv[1:] if arguments is None else arguments)
    return exit_code("slurm.retry", lambda: _run(words), STOPPED)


def _run(words: tuple[str, ...]) -> int:
    options = _parser().parse_args(words)
    pages = submitted(options.out.resolve())
    found = standings(options.out.resolve(), pages)
    states: tuple[State, ...] = ("failed", "missing")
    if options.failed != options.missing:
        states = ("failed",) if options.failed else ("missing",)
    wanted = with_stages([one for one in found if one.state in states], found)
    if not wanted:
        print(f"nothing is {' or '.join(states)}")
        return DONE
    grid, command = [one.entry for one in found], ("python", "-m", "slurm.retry", *words)
    return max(
        _submit(page, keys, grid, command, options)
        for page, keys in _in_order(wanted, found, pages)
    )


def with_stages(chosen: Iterable[Standing], found: Sequence[Standing]) -> set[str]:
    """Keys of ``chosen``, and of the stages they need that are neither finished nor in hand."""
    by_key = {one.entry.key: one for one in found}
    wanted: set[str] = set()
    waiting = [one.entry.key for one in chosen]
    while waiting:
        key = waiting.pop()
        if key not in wanted and by_key[key].state in ("failed", "missing"):
            wanted.add(key)
            waiting += [need for need in by_key[key].entry.needs if need in by_key]
    return wanted


def _in_order(
    wanted: set[str], found: Iterable[Standing], pages: Sequence[Submission]
) -> Iterator[tuple[Submission, set[str]]]:
    """What to submit again together: of one page, and after the stages that it needs.

    A job is on the last page that it stands on. Where a stage is on another one than what needs it
    the pages come level by level, so that each finds in the queue what it waits for.
    """
    page_of = {entry.key: n for n, page in enumerate(pages) for entry in page.jobs}
    chosen = [(one.level, page_of[one.entry.key], one.entry.key) for one in found]
    ordered = sorted(entry for entry in chosen if entry[2] in wanted)
    for number, members in groupby(ordered, key=lambda entry: entry[1]):
        yield pages[number], {key for _, _, key in members}


def _submit(
    page: Submission,
    keys: set[str],
    grid: Sequence[Entry],
    command: tuple[str, ...],
    options: argparse.Namespace,
) -> int:
    """Submit what of ``page`` is called ``keys``, with its settings but for the ``options``."""
    from slurm.code import code_version
    from slurm.grid import Request, hand_in, machine_of, resolved, show
    from slurm.recall import jobs_of, places_of

    code = code_version()
    given = settings_of(options, page.settings.model_dump(exclude_defaults=True))
    settings = resolved(given, page.cluster, "auto")
    machine = machine_of(settings)
    submitted = places_of(page)
    usual = machine_of(resolved(page.settings, page.cluster, "auto")).threads
    # Those of --threads stay: another number would sum what is half done in another order.
    threads = machine.threads if submitted.threads == usual else submitted.threads
    places = submitted.model_copy(update={"device": machine.device, "threads": threads})
    with bars() as (console, bar):
        screen = Steps(console, bar)
        request = Request(places, command, page.cluster, settings, grid, code)
        jobs = jobs_of(page, keys)
        if options.dry_run:
            show(jobs, request, screen.say)
            return DONE
        return hand_in(jobs, request, screen.say)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m slurm.retry",
        description="Submit again what has failed or is missing of what was submitted for OUT, "
        "with its settings, which options change: more --mem, say, or another --partition.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the --out of python -m slurm.submit")
    parser.add_argument("--failed", action="store_true", help="only what has failed")
    parser.add_argument("--missing", action="store_true", help="only what is missing")
    add_cluster_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="show it and submit nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
