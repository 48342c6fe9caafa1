"""The one loop that trains every stage of every method."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.networks.build import Network
from itmc.parallel import of_first
from itmc.training import checkpoint
from itmc.training.control import Control, Stopped
from itmc.training.epoch import Epoch
from itmc.training.stage import Stage

Evaluate = Callable[[Network], dict[str, Any]]
Report = Callable[[int, int], None]
Say = Callable[[str], None]


def train(
    stage: Stage,
    folder: Path,
    evaluate: Evaluate,
    report: Report,
    control: Control | None = None,
    say: Say = print,
) -> list[dict[str, Any]]:
    """Train ``stage`` to its end, resuming from the checkpoint in ``folder`` if there is one.

    After each epoch ``evaluate`` judges the student (its verdict is logged, never used here),
    and ``report(done, epochs)`` is called. ``say`` is told of a checkpoint that cannot be used.
    Returns the log, one entry an epoch.
    Raises NotFiniteError with step and name of a loss that is not finite, and Stopped where
    ``control`` was asked to stop.
    """
    control, context = control or Control(), stage.context
    history, epoch = _taken_up(stage, folder, say)
    control.fence()
    with checkpoint.progress_log(folder, history) as log:
        report(len(history), stage.epochs)
        while epoch.number < stage.epochs:
            clock = epoch.clock
            with context.meter.watch(stage.networks(), context.example):
                _train_epoch(stage, epoch, folder, history, control)
            losses = epoch.means()
            with clock.counts("prune"):
                events = stage.end_epoch(epoch.number)
                stage.check_alike()
            with clock.counts("evaluate"):
                verdict = evaluate(stage.student)
                macs = context.meter.macs(stage.student, context.example)
            history.append(
                {
                    "stage": stage.kind,
                    "epoch": epoch.number,
                    "losses": losses,
                    "events": events,
                    "macs": macs,
                    "effort": context.meter.take(),
                    **verdict,
                    "seconds": clock.seconds,
                }
            )
            epoch = Epoch(context, epoch.number + 1)
            with clock.counts("checkpoint"):
                save = partial(_save, stage, epoch, folder, history, control)
                stopping = control.after_epoch(save)
            control.fence()
            log(history[-1])
            report(len(history), stage.epochs)
            if stopping:
                raise Stopped
    return history


def _train_epoch(
    stage: Stage, epoch: Epoch, folder: Path, history: list[dict[str, Any]], control: Control
) -> None:
    """What is left of one epoch, step by step."""

    def save() -> None:
        with clock.counts("checkpoint"):
            _save(stage, epoch, folder, history, control)

    context, clock = stage.context, epoch.clock
    epoch.begin(stage.kind)
    stage.train_mode()
    for step in epoch.steps:
        with clock.counts("data"):
            batch = context.batches.at(stage.first_epoch * context.steps_per_epoch + step)
        with clock.counts("train"):
            losses = train_step(stage, batch, step / (stage.epochs * context.steps_per_epoch))
        # Its values are looked at once an epoch, or to save: no other step waits for the device.
        epoch.add(losses)
        control.after_step(save)


def train_step(stage: Stage, batch: Batch, done: float) -> dict[str, Tensor]:
    """The training step of the whole benchmark; returns its losses, which may still be awaited.

    ``done`` in [0, 1]: the share of the stage's steps that is over.
    """
    progress = stage.progress(done)
    losses = stage.losses(batch, progress)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    stage.sum_gradients()
    stage.after_backward()
    stage.update(progress)
    return losses


def _taken_up(stage: Stage, folder: Path, say: Say) -> tuple[list[dict[str, Any]], Epoch]:
    """The epochs that are over and the one to go on with, ``stage`` being brought there."""
    saved = of_first(lambda: checkpoint.load_checkpoint(folder, say))
    if saved is None:
        return [], Epoch(stage.context, 0)
    stage.load_state(saved["stage"])
    stage.context.meter.take()  # building the stage anew was counted before
    epoch = Epoch(stage.context, len(saved["history"]))
    epoch.load_state(saved["epoch"])
    return saved["history"], epoch


def _save(
    stage: Stage, epoch: Epoch, folder: Path, history: list[dict[str, Any]], control: Control
) -> None:
    """Write the checkpoint: the epochs of ``history`` are over, and so much of ``epoch``."""
    start = time.monotonic()
    content = {"stage": stage.state(), "history": history, "epoch": epoch.state()}
    control.fence()
    checkpoint.save_checkpoint(folder, content)
    control.saved(time.monotonic() - start)
