"""How long work on data reports to whoever shows it: a line now and then, and how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None:
        """One line about what goes on, or about what the user should know."""

    def step(self, what: str, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` units (``bytes`` or ``images``) of ``what`` are done.

        ``total`` is ``None`` where nobody knows it.
        """


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, what: str, done: int, total: int | None, unit: str) -> None:
        """Nothing."""


class Said(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)
