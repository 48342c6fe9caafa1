"""Types of arguments that both commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from suites.command import at_least


def integers(text: str) -> list[int]:
    """Whole numbers from 1 on, separated by commas."""
    return [at_least(1)(part) for part in text.split(",")]


def numbers(text: str) -> list[float]:
    """Numbers, separated by commas."""
    return [float(part) for part in text.split(",")]


def among(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """A type of arguments: some of the words ``allowed``, separated by commas."""

    def parse(text: str) -> list[str]:
        for part in text.split(","):
            if part not in allowed:
                raise argparse.ArgumentTypeError(
                    f"{part!r} is unknown; allowed: {', '.join(allowed)}"
                )
        return text.split(",")

    return parse
