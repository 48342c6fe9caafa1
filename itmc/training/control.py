"""What may be asked of a training that runs: to save what it has, or to save and stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from itmc.parallel import of_first, world

CHECKPOINT_SECONDS = 600.0
"""How old a checkpoint may get: so much of a run is lost at most when its process is killed."""
CHECKPOINT_SHARE = 0.01
"""Part of the time that may go into writing them, where they take so long that it matters."""

AGREE_EVERY = 10
"""Steps after which several processes of a run agree whether to stop."""


class Stopped(Exception):  # noqa: N818 - what was asked for, no error
    """A training has stopped because it was asked to; its checkpoint is written."""


class Control:
    """Requests to a running ``train``, made by another thread or a signal handler.

    They take no lock, so that a handler may make them at any moment; the training heeds them
    between two steps. By itself it saves at the end of the first epoch and of later ones, and
    within an epoch where its checkpoint is older than ``every`` seconds; but never before writing
    the last one is at most the part ``share`` of the time since. So what all of them take is no
    more than that part of a run, and one write.
    """

    def __init__(self, every: float = CHECKPOINT_SECONDS, share: float = CHECKPOINT_SHARE) -> None:
        self._every, self._share = every, share
        self._save = self._stop = False
        self._steps = 0
        self._saved_at, self._took = time.monotonic(), 0.0
        self.fence: Callable[[], None] = lambda: None
        """Called between steps and before each write; raises where writing is another's now."""

    def save(self) -> None:
        """Ask for a checkpoint after the step in progress."""
        self._save = True

    def stop(self) -> None:
        """Ask for a checkpoint after the step in progress, and for the end of training there."""
        self._stop = True

    @property
    def is_stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stop

    def saved(self, seconds: float) -> None:
        """Tell that a checkpoint of the present state is written, which took so long."""
        self._save, self._saved_at, self._took = False, time.monotonic(), seconds

    def after_step(self, save: Callable[[], None]) -> None:
        """Call ``save`` where a checkpoint is due. Raises Stopped where the end was asked for."""
        self.fence()
        stopping = self._agreed_to_stop()
        if stopping or self._is_due(self._every):
            save()
        if stopping:
            raise Stopped

    def after_epoch(self, save: Callable[[], None]) -> bool:
        """Call ``save`` where a checkpoint is due; returns whether the end was asked for."""
        stopping = of_first(lambda: self._stop)
        if stopping or self._is_due():
            save()
        return stopping

    def _agreed_to_stop(self) -> bool:
        """Whether the end is here: of several processes at the same step for all of them.

        They agree on it every few steps, as that takes an exchange.
        """
        if world().size == 1:
            return self._stop
        self._steps += 1
        return self._steps % AGREE_EVERY == 0 and of_first(lambda: self._stop)

    def _is_due(self, every: float = 0.0) -> bool:
        """Whether to save for being asked to, or by the age of what is saved."""
        age = time.monotonic() - self._saved_at
        return self._save or (age >= every and age * self._share >= self._took)
