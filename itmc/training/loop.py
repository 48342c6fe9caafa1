"""The one loop that trains every stage of every method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmc.networks.build import Network
from itmc.parallel import of_first, own_key
from itmc.seeding import seed_of
from itmc.training import checkpoint
from itmc.training.stage import Stage

Evaluate = Callable[[Network], dict[str, Any]]
Report = Callable[[int, int], None]


class NotFiniteError(RuntimeError):
    """A loss became NaN or infinite."""


def train(stage: Stage, folder: Path, evaluate: Evaluate, report: Report) -> list[dict[str, Any]]:
    """Train ``stage`` to its end, resuming from the checkpoint in ``folder`` if there is one.

    After each epoch ``evaluate`` judges the student (its verdict is logged, never used here),
    and ``report(done, epochs)`` is called. Returns the log, one entry an epoch.
    Raises NotFiniteError with step and name of a loss that is not finite.
    """
    history: list[dict[str, Any]] = []
    if (saved := of_first(lambda: checkpoint.load_checkpoint(folder))) is not None:
        stage.load_state(saved["stage"])
        history = saved["history"]
        stage.context.meter.take()  # building the stage anew was counted before
    checkpoint.write_progress(folder, history)
    report(len(history), stage.epochs)
    for epoch in range(len(history), stage.epochs):
        clock = Clock()
        with stage.context.meter.watch(stage.networks(), stage.context.example):
            losses = _train_epoch(stage, epoch, clock)
        with clock.counts("prune"):
            events = stage.end_epoch(epoch)
            stage.check_alike()
        with clock.counts("evaluate"):
            verdict = evaluate(stage.student)
            macs = stage.context.meter.macs(stage.student, stage.context.example)
        history.append(
            {
                "stage": stage.kind,
                "epoch": epoch,
                "losses": losses,
                "events": events,
                "macs": macs,
                "effort": stage.context.meter.take(),
                **verdict,
                "seconds": clock.seconds,
            }
        )
        with clock.counts("checkpoint"):
            checkpoint.save_checkpoint(folder, {"stage": stage.state(), "history": history})
        checkpoint.write_progress(folder, history)
        report(epoch + 1, stage.epochs)
    return history


def _train_epoch(stage: Stage, epoch: int, clock: Clock) -> dict[str, float]:
    """One epoch: the training step of the whole benchmark. Returns the mean of each loss."""
    context = stage.context
    steps = context.steps_per_epoch
    trace: list[Tensor] = []
    names: list[str] = []
    # Dropout and the like draw from the global generator: tie it to the epoch, for resuming.
    torch.manual_seed(seed_of("epoch", stage.kind, context.seed, epoch, *own_key()))
    stage.train_mode()
    for step in range(epoch * steps, (epoch + 1) * steps):
        with clock.counts("data"):
            batch = context.batches.at(stage.first_epoch * steps + step)
        with clock.counts("train"):
            progress = stage.progress(step / (stage.epochs * steps))
            losses = stage.losses(batch, progress)
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            stage.sum_gradients()
            stage.after_backward(progress)
            stage.update(progress)
        names = list(losses)
        trace.append(torch.stack([loss.detach() for loss in losses.values()]))
    # Looked at once an epoch, so that no step waits for the device.
    values = torch.stack(trace).float().cpu()
    _check_finite(values, names, epoch * steps)
    return dict(zip(names, values.mean(0).tolist(), strict=True))


def _check_finite(values: Tensor, names: list[str], first_step: int) -> None:
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise NotFiniteError(
            f"loss {names[column]!r} is {values[row, column].item()} at step {first_step + row}; "
            "lower the learning rate (training.lr)"
        )


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
