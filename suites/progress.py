"""What a user sees of work that takes time, on standard error: bars on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_A_LINE = 20.0


class Steps:
    """Lines, and a bar for each piece of work on data (or, elsewhere, a line now and then)."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console, self._bar = console, bar
        self._tasks: dict[str, TaskID] = {}
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def step(self, what: str, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` units of ``what`` are done; all of it ends the bar."""
        if self._bar is None:
            self._line(what, done, total, unit)
        elif total is not None and done >= total:
            if what in self._tasks:
                self._bar.remove_task(self._tasks.pop(what))
        else:
            if what not in self._tasks:
                self._tasks[what] = self._bar.add_task(what, total=total)
            self._bar.update(self._tasks[what], completed=done, total=total)

    def _line(self, what: str, done: int, total: int | None, unit: str) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_A_LINE:
            return
        self._last = now
        of = "" if total is None else f" of {_amount(total, unit)}"
        self.say(f"{what}: {_amount(done, unit)}{of}")


def _amount(count: int, unit: str) -> str:
    return f"{count / 1e6:.1f} MB" if unit == "bytes" else f"{count} {unit}"


@contextmanager
def bars() -> Iterator[tuple[Console, Progress | None]]:
    """A console on standard error, so that standard output carries nothing but results.

    And bars, if it is a terminal.
    """
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield console, None
        return
    columns = (
        TextColumn("{task.description}", markup=False), TaskProgressColumn(), BarColumn(None),
        TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(),
    )  # fmt: skip
    # The rate over the whole grid: epochs may be minutes apart, and jobs differ.
    with Progress(*columns, console=console, speed_estimate_period=float("inf")) as bar:
        yield console, bar
