"""The memory of a run does not grow with its epochs."""

from __future__ import annotations

import gc
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from itmc.training import loop
from itmc.training.loop import train_step
from itmc.training.stage import Stage
from suites.plan import plan
from suites.worker import execute
from tests.suites.tiny_runs import config, few_images, places, silent

EPOCHS, SETTLED = 200, 50
MOST_BYTES = 6 << 20
"""A tiny network has 0.1 MiB of weights: one kept an epoch would be 15 MiB."""
MOST_OBJECTS = 40
"""Of an epoch: the entry in the log, which the record and the checkpoint hold."""


kept: list[Any] = []


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def growth(out: Path, store: Path) -> tuple[int, float]:
    """Bytes, and objects an epoch, that a run of 200 epochs gains after its first 50."""
    run = config("dan", EPOCHS)
    run = run.model_copy(
        update={"training": run.training.model_copy(update={"steps_per_epoch": 1})}
    )
    seen: dict[int, tuple[int, int]] = {}

    def report(done: int, epochs: int) -> None:
        if epochs == EPOCHS and done in (SETTLED, EPOCHS):
            gc.collect()
            seen[done] = resident(), len(gc.get_objects())

    where = places(out, store)
    with few_images():
        for job in plan([run]).stages:
            execute(job.run, job.key, where, report, silent)
    (bytes_before, objects_before), (bytes_after, objects_after) = seen[SETTLED], seen[EPOCHS]
    return bytes_after - bytes_before, (objects_after - objects_before) / (EPOCHS - SETTLED)


def leaking(stage: Stage, *arguments: Any) -> Any:
    """A training step that keeps a copy of the network for ever."""
    kept.append([tensor.clone() for tensor in stage.student.state_dict().values()])
    return train_step(stage, *arguments)


def growth_alone(out: Path, store: Path, leaks: bool) -> tuple[int, float]:
    """``growth`` in a process that has never had more memory than it needs."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_growth, (out, store, leaks))


def _growth(out: Path, store: Path, leaks: bool) -> tuple[int, float]:
    torch.set_num_threads(1)
    if leaks:
        loop.train_step = leaking
    return growth(out, store)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells it so")
def test_memory_is_flat_over_epochs(tmp_path: Path, store: Path) -> None:
    more_bytes, more_objects = growth_alone(tmp_path, store, leaks=False)
    assert more_bytes < MOST_BYTES and more_objects < MOST_OBJECTS


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells it so")
def test_a_network_kept_each_epoch_would_be_noticed(tmp_path: Path, store: Path) -> None:
    more_bytes, _ = growth_alone(tmp_path, store, leaks=True)
    assert more_bytes > MOST_BYTES
