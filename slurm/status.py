"""``python -m slurm.status OUT``: what has become of everything submitted for an output folder."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from itmc.errors import UsageError
from slurm import ledger
from slurm.estimate import STARTUP_SECONDS, duration, measured
from slurm.states import STATES, Standing, standings
from suites.command import DONE, FAILED, Parser, at_least, exit_code
from suites.folders import job_folder

SECONDS = 10
"""Between two looks of ``--watch``."""
_SHOWN = 15
_SAMPLE = 64
"""Finished jobs that the pace is taken from."""
_USUAL = {"", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit", "Prolog"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 1 where something has failed or is missing."""
    return exit_code("slurm.status", lambda: _run(_parser().parse_args(arguments)), "stopped")


def submitted(out: Path) -> list[ledger.Submission]:
    """What was submitted for ``out``. Raises UsageError where nothing was."""
    pages = ledger.read(out)
    if not pages:
        raise UsageError(
            f"nothing was submitted for {str(out)!r}; give the --out of a python -m slurm.submit"
        )
    return pages


def _run(options: argparse.Namespace) -> int:
    out = options.out.resolve()
    if options.json and options.watch is not None:
        raise UsageError("--json is for one look, --watch for many; give one of the two")
    found = standings(out, submitted(out))
    if options.json:
        print(json.dumps([_as_json(out, one) for one in found], indent=1))
    elif options.watch is None:
        Console().print(view(out, found, options.all), soft_wrap=True)
    else:
        found = _watch(out, options.watch, options.all)
    return FAILED if any(one.state in ("failed", "missing") for one in found) else DONE


def _watch(out: Path, seconds: int, show_all: bool) -> list[Standing]:
    """Look again until nothing waits or runs; Ctrl-C ends it, and no job."""
    found = standings(out, submitted(out))
    with _frames() as (console, show):
        while True:
            now = Text(f"{datetime.now():%Y-%m-%d %H:%M:%S}", style="dim")
            show(Group(now, view(out, found, show_all)))
            if not any(one.is_in_hand for one in found):
                return found
            time.sleep(seconds)
            try:
                found = standings(out, submitted(out))
            except UsageError as error:  # a scheduler with much to do answers the next time
                console.print(f"{error}; what is shown is older", markup=False)


@contextmanager
def _frames() -> Iterator[tuple[Console, Callable[[RenderableType], None]]]:
    """What shows one picture in place of the last on a terminal, and below it elsewhere."""
    console = Console()
    if not console.is_terminal:
        yield console, partial(console.print, soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield console, partial(live.update, refresh=True)


def view(out: Path, found: Sequence[Standing], show_all: bool = False) -> RenderableType:
    """A table by level; what runs, what waits unusually, what has failed or is missing; the ETA."""
    parts: list[RenderableType] = [_by_level(found), Text(_eta(out, found))]
    for state, title in (("running", "running"), ("failed", "FAILED"), ("missing", "MISSING")):
        these = [one for one in found if one.state == state]
        if these:
            parts.append(_listed(title, these, None if show_all else _SHOWN))
    held = Counter(one.reason for one in found if one.state == "queued")
    parts += [
        Text(f"{count} queued: {reason}") for reason, count in held.items() if reason not in _USUAL
    ]
    return Group(*parts)


def _by_level(found: Iterable[Standing]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("level")
    for heading in ("jobs", *STATES):
        table.add_column(heading, justify="right")
    levels: dict[int, list[Standing]] = {}
    for one in found:
        levels.setdefault(one.level, []).append(one)
    rows = [(str(level), levels[level]) for level in sorted(levels)]
    if len(rows) > 1:
        rows.append(("all", [one for _, members in rows for one in members]))
    for name, members in rows:
        counts = Counter(one.state for one in members)
        table.add_row(name, str(len(members)), *(str(counts[state] or "") for state in STATES))
    return table


def _listed(title: str, these: Sequence[Standing], shown: int | None) -> Text:
    """``these`` a line each, or where ``shown`` so many lines of those with the same to tell."""
    if shown is None:
        lines = [f"  {_named(one)}: {_told(one)}" for one in these]
    else:
        alike: dict[str, list[Standing]] = {}
        for one in sorted(these, key=lambda one: one.reason.startswith("needs ")):
            alike.setdefault(_told(one), []).append(one)
        lines = [f"  {_summed(members)}: {told}" for told, members in alike.items()]
        if len(lines) > shown:
            lines[shown:] = [f"  and {len(lines) - shown} more; --all shows them"]
    return Text("\n".join([f"{title}:", *lines]))


def _summed(alike: Sequence[Standing]) -> str:
    first = _named(alike[0])
    return first if len(alike) == 1 else f"{len(alike)} jobs, such as {first}"


def _named(one: Standing) -> str:
    """The job, and where its logs lie."""
    return f"{one.entry.title} ({one.entry.key}{f', job {one.job}' if one.job else ''})"


def _told(one: Standing) -> str:
    if one.state != "running":
        return one.reason
    epochs = f"epoch {one.epochs} of {one.entry.epochs}"
    left = _left(one)
    return epochs if left is None else f"{epochs}, {duration(left)} to go"


def _left(one: Standing) -> float | None:
    """Seconds until a running job is finished; None before its first epoch is over."""
    if not one.epochs:
        return None
    return (one.entry.epochs - one.epochs) * one.seconds / one.epochs


def _eta(out: Path, found: Sequence[Standing]) -> str:
    """Of all that waits and runs, at the pace of what was done and with as much at once as now."""
    running = [one for one in found if one.state == "running"]
    unfinished = running + [one for one in found if one.state == "queued"]
    if not unfinished:
        return "nothing waits or runs"
    done = [one.entry for one in found if one.state == "done" and one.entry.flops][-_SAMPLE:]
    flops, seconds = measured(out, done)
    flops += sum(one.entry.flops * _share(one) for one in running)
    seconds += sum(one.seconds for one in running)
    if not (running and flops and seconds):
        return "ETA: not known before something runs and has finished an epoch"
    left = [
        STARTUP_SECONDS * (one.state == "queued")
        + (1 - _share(one)) * one.entry.flops * seconds / flops
        for one in unfinished
    ]
    needed = max(max(left), sum(left) / len(running))
    return f"ETA: {duration(needed)}, with {len(running)} at once as now"


def _share(one: Standing) -> float:
    return one.epochs / max(1, one.entry.epochs)


def _as_json(out: Path, one: Standing) -> dict[str, object]:
    entry = one.entry
    return {
        "key": entry.key,
        "title": entry.title,
        "is_run": entry.is_run,
        "level": one.level,
        "state": one.state,
        "reason": one.reason,
        "epochs_done": one.epochs,
        "epochs": entry.epochs,
        "job": one.job,
        "array": one.array,
        "folder": str(job_folder(out, entry.key, entry.is_run)),
    }


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m slurm.status",
        description="What is done, runs, waits, has failed or is missing of what was submitted; "
        "python -m slurm.retry submits the failed and the missing again.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the --out of python -m slurm.submit")
    parser.add_argument(
        "--watch", nargs="?", type=at_least(1), const=SECONDS, metavar="SECONDS",
        help=f"look again every so many seconds (default {SECONDS}) until nothing waits or runs",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help=f"list all, not the first {_SHOWN}")
    parser.add_argument("--json", action="store_true", help="for programs: a list of all jobs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
