"""``python -m slurm.submit SUITE``: hand a grid to the cluster, and leave."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from slurm.settings import add_cluster_options, add_kind_option, settings_of
from suites.command import DONE, Parser, exit_code
from suites.outputs import check_writable
from suites.planning import add_grid_options, planned

# What loads torch is imported where it is needed, so that Ctrl-C in these seconds is caught too.

STOPPED = "stopped; what was submitted stays, and the same command submits the rest"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    words = tuple(sys.argv[1:] if arguments is None else arguments)
    return exit_code("slurm.submit", lambda: _run(words), STOPPED)


def _run(words: tuple[str, ...]) -> int:
    from slurm.code import code_version
    from slurm.grid import Request, hand_in, machine_of, resolved, show
    from slurm.launch import counted
    from suites.asked import whole_command
    from suites.display import display
    from suites.execute import outstanding
    from suites.planned import write_plan

    code = code_version()  # first: what is changed from now on is not what is planned
    options = _parser().parse_args(words)
    settings = resolved(settings_of(options), options.cluster, options.device)
    with display() as screen:
        asked = planned(options, screen, machine_of(settings))
        if not options.dry_run:
            check_writable(asked.places.out)
        command = ("python", "-m", "slurm.submit", *words)
        request = Request(asked.places, command, options.cluster, settings, asked.plan.jobs, code)
        to_do = list(outstanding(asked.plan, asked.places).values())
        runs, stages = len(asked.plan.runs), len(asked.plan.stages)
        rest = f"{len(asked.plan.jobs) - len(to_do)} of them are finished or not needed"
        screen.say(f"{counted(runs, 'run')} and {counted(stages, 'shared stage')}; {rest}")
        screen.note_unjudged(asked.plan, asked.places)
        if options.dry_run:
            show(to_do, request, screen.say)
            return DONE
        # Tables count what is in it as missing, so not before it is submitted.
        accepted = partial(write_plan, asked.plan, asked.places, whole_command(options))
        return hand_in(to_do, request, screen.say, accepted)


def _parser() -> argparse.ArgumentParser:
    from itmc.training.method import GROUPS
    from suites import config  # noqa: F401 - registers all methods

    parser = Parser(
        prog="python -m slurm.submit",
        description="Plan a grid as suites.run does and submit what of it is neither finished nor "
        "queued: a job array for each level of shared stages. python -m slurm.status follows it.",
        epilog=f"groups of methods: {', '.join(GROUPS)}; python -m suites.methods lists them all",
    )
    add_grid_options(parser)
    add_kind_option(parser)
    add_cluster_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true",
        help="show arrays, dependencies, GPU-hours and the sbatch script, and submit nothing",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
