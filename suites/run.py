"""``python -m suites.run SUITE``: plan a grid, execute it, and show the table."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from suites.command import DONE, FAILED, INTERRUPTED, Parser, exit_code
from suites.options import add_jobs_option, jobs_of
from suites.outputs import check_writable
from suites.planning import add_grid_options, planned

if TYPE_CHECKING:
    from suites.config import SuiteConfig

# What loads torch is imported where it is needed, so that Ctrl-C in these seconds is caught too.

STOPPED = "stopped; the same command takes up where it stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return exit_code("suites.run", lambda: _run(_parser().parse_args(arguments)), STOPPED)


def _run(options: argparse.Namespace) -> int:
    from suites.asked import whole_command
    from suites.display import display, show_plan
    from suites.execute import run_plan
    from suites.planned import write_plan

    with display() as screen:
        asked = planned(options, screen)
        places = asked.places
        if options.dry_run:
            show_plan(asked.plan, places)
            return DONE
        check_writable(places.out)
        if tuned := _tuned_tasks(asked.suite):
            screen.say(
                f"note: hyper-parameters were chosen on {', '.join(tuned)} (no target labels)"
            )
        write_plan(asked.plan, places, whole_command(options))
        screen.begin(asked.plan, places)
        jobs = jobs_of(options.jobs, places.device, options.threads)
        outcome = run_plan(asked.plan, places, jobs, screen)
    if outcome.interrupted:
        print(STOPPED, file=sys.stderr)
        return INTERRUPTED
    _show_results(places.out, differences=any(m.group == "ablations" for m in asked.methods))
    for title, reason in outcome.failures.items():
        print(f"FAILED {title}: {reason}", file=sys.stderr)
    return FAILED if outcome.failures else DONE


def _tuned_tasks(suite: SuiteConfig) -> list[str]:
    """Those of the suite's tasks that its hyper-parameters were chosen on."""
    if suite.tuning is None or not suite.methods:
        return []
    run = suite.asked_tasks()
    return [text for text in suite.tuning.tasks if suite.spec.task(text) in run]


def _show_results(out: Path, differences: bool) -> None:
    """Write tables and plots of all records in ``out``; print the table and the paths.

    ``differences``: show what ITMC is above or below each method too, as ablations are read.
    """
    from results import summary
    from results.records import ResultsError

    try:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        written = summary.write(out, width, show_differences=differences)
    except ResultsError as error:
        print(f"suites.run: {error}", file=sys.stderr)
        return
    print(written.text)
    for path in (*written.tables, *written.plots):
        inside = path.is_relative_to(Path.cwd())
        print(path.relative_to(Path.cwd()) if inside else path)


def _parser() -> argparse.ArgumentParser:
    from itmc.training.method import GROUPS
    from suites import config  # noqa: F401 - registers all methods

    parser = Parser(
        prog="python -m suites.run",
        description="Run every method on every task, compression and seed; then show the table.",
        epilog=f"groups of methods: {', '.join(GROUPS)}; python -m suites.methods lists them all",
    )
    add_grid_options(parser)
    add_jobs_option(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="list runs, shared stages and estimated FLOPs"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
