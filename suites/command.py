"""What the commands of this folder share."""

from __future__ import annotations

import argparse
from typing import NoReturn

from itmc.errors import UsageError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is ``--help``'s to show."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (see --help)")
