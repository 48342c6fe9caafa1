"""Processes that execute a job and are killed by SIGKILL at a chosen moment of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from itmc.acp import ACP
from itmc.domains.batches import Batch, Batches
from itmc.evaluation.evaluator import Evaluator
from itmc.training import checkpoint, loop
from itmc.training.control import Control
from itmc.training.optim import Optimiser
from itmc.training.stage import Stage
from suites import worker
from tests.suites.tiny_runs import few_images

CALLS: dict[str, tuple[Any, str]] = {
    "batch": (Batches, "at"),
    "update": (Optimiser, "step"),
    "prune": (ACP, "prune"),
    "evaluate": (Evaluator, "__call__"),
    "record": (worker, "make_record"),
}


@dataclass(frozen=True)
class Moment:
    """When a process kills itself.

    ``before`` or ``after`` a call of ``CALLS``; or, by the name of a file, when ``half`` of it is
    written, right before it is ``renamed``, right after it ``appeared`` under its name, or when it
    is ``removed``. ``count``: which time, from 1.
    """

    when: str
    what: str
    count: int = 1


def execute(
    run: str, where: str, folder: Path, saving: dict[str, float], moment: Moment | None, to: Any
) -> None:
    """What a job's own process does, until ``moment``. Nothing of what is patched is put back.

    ``run`` and ``where``: as JSON. ``folder``: the job's. ``saving``: arguments of ``Control``.
    ``to``: the connection.
    """
    _draw_in_steps()
    if moment is not None:
        _arm(moment)
    worker.Control = partial(Control, **saving)  # type: ignore[assignment,misc]
    with few_images():
        worker.child(run, where, folder, "a job", to)


def die() -> None:
    """The end of this process, without a chance to do anything more."""
    os.kill(os.getpid(), signal.SIGKILL)


def _draw_in_steps() -> None:
    """Let each step draw from torch's generator, as networks with dropout do."""
    original = loop.train_step

    def train_step(stage: Stage, batch: Batch, done: float) -> dict[str, Tensor]:
        noise = 0.1 * torch.randn_like(batch.source)
        return original(stage, replace(batch, source=batch.source + noise), done)

    loop.train_step = train_step


def _arm(moment: Moment) -> None:
    left = [moment.count]

    def is_it() -> bool:
        left[0] -= 1
        return left[0] == 0

    if moment.when in ("before", "after"):
        owner, name = CALLS[moment.what]
        _patch(owner, name, moment.when, lambda *_, **__: is_it())
    elif moment.what == checkpoint.PROGRESS and moment.when == "half":
        _tear_line(is_it)
    elif moment.when == "half":
        _cut_file(lambda path: path.name.startswith(f".{moment.what}.") and is_it())
    elif moment.when == "removed":
        _patch(Path, "unlink", "after", lambda path, **_: path.name == moment.what and is_it())
    else:
        side = {"renamed": "before", "appeared": "after"}[moment.when]
        _patch(os, "replace", side, lambda _, to: Path(to).name == moment.what and is_it())


def _patch(owner: Any, name: str, side: str, is_it: Callable[..., bool]) -> None:
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        dies = is_it(*arguments, **options)
        if dies and side == "before":
            die()
        result = original(*arguments, **options)
        if dies:
            die()
        return result

    setattr(owner, name, call)


def _cut_file(is_it: Callable[[Path], bool]) -> None:
    """Die with half of a file written, when it would be made safe on disk."""
    original = os.fsync

    def fsync(handle: int) -> None:
        if is_it(Path(os.readlink(f"/proc/self/fd/{handle}"))):
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            die()
        original(handle)

    os.fsync = fsync


def _tear_line(is_it: Callable[[], bool]) -> None:
    original = checkpoint._append

    def append(file: BinaryIO, line: bytes) -> None:
        if is_it():
            original(file, line[: len(line) // 2])
            die()
        original(file, line)

    checkpoint._append = append
