"""What the commands of this folder share."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

from itmc.errors import UsageError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is ``--help``'s to show."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (see --help)")


def at_least(least: int) -> Callable[[str], int]:
    """A type of arguments: whole numbers from ``least`` on."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a whole number >= {least}")
        return value

    return number


def exit_code(
    name: str, command: Callable[[], int], stopped: str = "stopped; nothing was written"
) -> int:
    """What ``command`` returns, or what wrong usage and Ctrl-C end with, in one line each.

    ``stopped``: what to say at Ctrl-C, unless the interrupt itself says it.
    """
    code = DONE
    try:
        code = command()
        sys.stdout.flush()
    except UsageError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or stopped, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
    return code


def _reader_is_gone() -> bool:
    """Whether who read standard output, such as head, has seen enough; the rest is then dropped."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)  # errors are told of unasked
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True
