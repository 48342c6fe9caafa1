"""What an epoch of training gathers from step to step, and how it is saved in the middle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from itmc.parallel import own_key, world
from itmc.seeding import random_state, restore_random_state, seed_of
from itmc.training.meter import Counts
from itmc.training.stage import Context


class NotFiniteError(RuntimeError):
    """A loss became NaN or infinite."""


class Epoch:
    """Losses, seconds and random state of one epoch, and what its passes have cost so far."""

    def __init__(self, context: Context, number: int) -> None:
        """``number``: of the epoch in its stage, from 0."""
        self.number, self.clock = number, Clock()
        self._context = context
        self._names: list[str] = []
        self._trace: list[Tensor] = []  # one row a step, left on the device
        self._random: dict[str, Tensor] = {}

    @property
    def steps(self) -> range:
        """The steps that are still to do, counted from the stage's first."""
        count = self._context.steps_per_epoch
        return range(self._first_step + len(self._trace), self._first_step + count)

    def begin(self, kind: str) -> None:
        """Set torch's generators where they were saved, else by stage ``kind`` and epoch.

        Dropout and the like draw from these: tied to the epoch they depend on nothing before it.
        What was saved is the state of the first process; others draw as if the epoch had begun.
        """
        torch.manual_seed(seed_of("epoch", kind, self._context.seed, self.number, *own_key()))
        if world().is_first:
            restore_random_state(self._random, self._context.device)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of a step, without waiting for the device."""
        self._names = list(losses)
        self._trace.append(torch.stack([loss.detach() for loss in losses.values()]))

    def means(self) -> dict[str, float]:
        """The mean of each loss. Raises NotFiniteError with name and step where one is none."""
        return dict(zip(self._names, self._values().mean(0).tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Everything, for the checkpoint; nothing before the first step. Raises as ``means``."""
        if not self._trace:
            return {}
        return {
            "names": self._names,
            "trace": self._values(),
            "seconds": dict(self.clock.seconds),
            "effort": dict(vars(self._context.meter.counts)),
            "random": random_state(self._context.device),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` gave of this epoch."""
        if state:
            self._names = state["names"]
            self._trace = list(state["trace"].to(self._context.device))
            self.clock.seconds = state["seconds"]
            self._context.meter.counts = Counts(**state["effort"])
            self._random = state["random"]

    @property
    def _first_step(self) -> int:
        return self.number * self._context.steps_per_epoch

    def _values(self) -> Tensor:
        """All losses so far, ``(steps, losses)`` on the CPU."""
        values = torch.stack(self._trace).float().cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise NotFiniteError(
                f"loss {self._names[column]!r} is {values[row, column].item()} at step "
                f"{self._first_step + row}; lower the learning rate (training.lr)"
            )
        return values


class Clock:
    """Seconds of an epoch by phase."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("data", "train", "prune", "evaluate", "checkpoint"), 0.0)

    @contextmanager
    def counts(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to ``phase``."""
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start
