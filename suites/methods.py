"""``python -m suites.methods [NAME ...]``: what there is to compare, and every knob of it.

All of it is read from the methods themselves, so nothing here has to follow when one changes.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from rich.console import Console

from suites.command import DONE, Parser, exit_code
from suites.described import Entry, described
from suites.methods_page import overview, pages, show, show_list

# What loads torch is imported where it is needed, so that wrong usage is told at once.

FORMATS = ("text", "markdown", "json")
_UNWRAPPED = 10_000
"""Columns where nobody reads a terminal: a thing a line, whole, for files and grep."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return exit_code("suites.methods", lambda: _run(_parser().parse_args(arguments)), "stopped")


def _run(options: argparse.Namespace) -> int:
    from itmc.training.method import methods, selected
    from suites import config  # noqa: F401 - registers all methods
    from suites.options import words

    names = [name for given in options.names for name in words(given)]
    chosen = described(selected(names) if options.names else list(methods().values()))
    if options.format == "json":
        text = json.dumps([asdict(entry) for entry in chosen], indent=2, ensure_ascii=False) + "\n"
    elif options.format == "markdown":
        text = pages(chosen) if options.names else overview(chosen)
    else:
        text = _text(show if options.names else show_list, chosen)
    sys.stdout.write(text)
    return DONE


def _text(shower: Callable[[Sequence[Entry], Console], None], chosen: Sequence[Entry]) -> str:
    """What ``shower`` shows of ``chosen``: for the terminal, or plain where there is none."""
    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else _UNWRAPPED
    shown = io.StringIO()
    shower(chosen, Console(file=shown, width=width, force_terminal=on_terminal, highlight=False))
    return "\n".join(line.rstrip(" ") for line in shown.getvalue().rstrip().split("\n")) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m suites.methods",
        description="List all methods with their citations and hyper-parameters; or show those "
        "that are named in full, with their stages, and the type, range, default and meaning of "
        "each hyper-parameter.",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="methods or groups, such as kd tcp baselines"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="text",
        help="text, markdown (a page), or json (everything, of all methods or of those named)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
