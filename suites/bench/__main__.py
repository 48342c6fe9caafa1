"""The command ``python -m suites.bench [step|latency]``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence

from suites.bench import latency, step
from suites.command import Parser, exit_code

_COMMANDS: dict[str, Callable[[argparse.Namespace, str], int]] = {
    "step": step.run,
    "latency": latency.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", "-m", "suites.bench", *given])
    return exit_code("suites.bench", lambda: _run(given, command))


def _run(given: list[str], command: str) -> int:
    names_none = not given or given[0].startswith("-")
    if names_none and not {"-h", "--help"} & set(given):
        given = ["step", *given]
    options = _parser().parse_args(given)
    return _COMMANDS[options.command](options, command)


def _parser() -> Parser:
    parser = Parser(prog="python -m suites.bench", description="Measure, in turns and in pairs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    step.add_options(
        commands.add_parser("step", help="a training step of DAN, CDAN and ITMC (the default)")
    )
    latency.add_options(
        commands.add_parser(
            "latency", help="how much faster a pruned network is than the unpruned one"
        )
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
