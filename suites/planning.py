"""From the options of a command to the plan of a grid: for every command that runs one."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from suites.options import (
    Machine,
    add_suite_options,
    changes_of,
    places_of,
    refuse_unused,
    words,
)
from suites.outputs import check_place

if TYPE_CHECKING:
    from itmc.domains.progress import Progress
    from itmc.training.method import Method
    from suites.config import Places, SuiteConfig
    from suites.plan import Plan

# What loads torch is imported where it is needed, so that Ctrl-C in these seconds is caught too.


@dataclass(frozen=True)
class Planned:
    """A grid that was asked for, and what there is to do for it."""

    suite: SuiteConfig
    methods: list[type[Method]]
    places: Places
    plan: Plan


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """Which suite, with which networks and data, which runs of it, and where."""
    add_suite_options(parser)
    parser.add_argument("--methods", help="names and groups (default: those of the suite)")
    parser.add_argument("--tasks", help="'A->W,W->D', 'print->hand', or all")
    parser.add_argument("--compression", help="shares of MACs to remove, such as 0.5,0.75")
    parser.add_argument("--seeds", help="such as 0,1,2")
    parser.add_argument(
        "--protocol", help="strict (last epoch) or paper (best epoch by target accuracy)"
    )
    parser.add_argument(
        "--no-share", action="store_true",
        help="let each run compute all of its stages, to measure what sharing them saves",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="where runs are kept (default: runs/SUITE)")


def planned(
    options: argparse.Namespace, screen: Progress, machine: Machine | None = None
) -> Planned:
    """What ``options`` ask for, planned; prepares the data that it needs.

    ``machine``: what the runs will be on, unless it is this one.
    """
    from itmc.training.method import selected
    from suites.config import load_suite
    from suites.plan import grid, plan, with_kernels

    suite = load_suite(options.suite, changes_of(options))
    chosen = selected(suite.compare if options.methods is None else words(options.methods))
    refuse_unused(options, suite, chosen)
    out = options.out or Path("runs") / suite.name
    places = places_of(options, suite, out, machine=machine)
    check_place(places.out)
    runs = grid(suite, chosen, places, screen)
    if suite.training.precision == "auto":
        precision = runs[0].training.precision
        screen.say(f"precision: {precision}, which auto comes to on this {places.device}")
    places = with_kernels(options.kernels, places, runs, screen)

    return Planned(suite, chosen, places, plan(runs))
