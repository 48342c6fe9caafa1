"""What is asked of a running training: when it saves, when it stops, and when it must not write."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import baselines  # noqa: F401 - registers them
from itmc.domains.batches import Batch
from itmc.training import checkpoint, control as controls
from itmc.training.adapt import Adapt
from itmc.training.checkpoint import PROGRESS, load_checkpoint
from itmc.training.control import Control, Stopped
from itmc.training.epoch import NotFiniteError
from itmc.training.loop import Evaluate, train
from itmc.training.stage import Stage
from tests.itmc.training import tiny

EPOCHS, STEPS = 4, 3
Place = tuple[int, int]
"""Epochs and steps of the next that a checkpoint says are over."""


def stage() -> Stage:
    return tiny.stage_of(tiny.recipe("dan"), tiny.context())


def silent(*_: object) -> None:
    """No report."""


def unseen(network: object) -> dict[str, Any]:
    """No evaluation."""
    return {}


def run(folder: Path, control: Control, evaluate: Evaluate = unseen) -> None:
    train(stage(), folder, evaluate, silent, control)


def place(folder: Path) -> Place:
    saved = load_checkpoint(folder, pytest.fail)
    assert saved is not None
    return len(saved["history"]), len(saved["epoch"].get("trace", ()))


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Place]:
    """What each checkpoint held that was written."""
    seen: list[Place] = []
    original = Control.saved

    def saved(self: Control, seconds: float) -> None:
        seen.append(place(tmp_path))
        original(self, seconds)

    monkeypatch.setattr(Control, "saved", saved)
    return seen


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, then: Callable[[], None]) -> None:
    """Have ``then`` called in step ``number``, counted over all epochs."""
    original, steps = Adapt.losses, iter(range(1000))

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        if next(steps) == number:
            then()
        return original(self, batch, progress)

    monkeypatch.setattr(Adapt, "losses", losses)


def ever_saving() -> Control:
    """Saves at the end of each epoch, whatever it costs."""
    return Control(share=1e9)


ENDS = [(epoch, 0) for epoch in range(1, EPOCHS + 1)]


def test_unasked_it_saves_at_the_ends_of_epochs(tmp_path: Path, saves: list[Place]) -> None:
    run(tmp_path, ever_saving())
    assert saves == ENDS


@pytest.mark.parametrize("took", [0.1, 2.0])
def test_writing_takes_no_more_than_its_part_of_the_time(
    took: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that steps of 10 s and writes of ``took`` seconds move: 120 s of training."""
    now, writes = 0.0, list[float]()
    monkeypatch.setattr(controls.time, "monotonic", lambda: now)
    write, losses = checkpoint.save_checkpoint, Adapt.losses

    def slow_write(folder: Path, content: dict[str, Any]) -> None:
        nonlocal now
        writes.append(now)
        now += took
        write(folder, content)

    def slow_losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        nonlocal now
        now += 10
        return losses(self, batch, progress)

    monkeypatch.setattr(checkpoint, "save_checkpoint", slow_write)
    monkeypatch.setattr(Adapt, "losses", slow_losses)
    run(tmp_path, Control(every=60.0))
    # 2 s are a hundredth of 200 s, which the rest of the run does not take.
    assert writes == ([30.0, 60.1, 90.2, 120.3] if took == 0.1 else [30.0])


def test_within_an_epoch_too_a_checkpoint_waits_until_it_pays(
    tmp_path: Path, saves: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control(every=0.0)
    at_step(monkeypatch, 1, lambda: control.saved(seconds=3600.0))
    at_step(monkeypatch, 7, control.save)
    run(tmp_path, control)
    assert saves[:2] == [(0, 1), (0, 1)] and (2, 2) in saves and (1, 0) not in saves


def test_a_checkpoint_that_is_too_old_is_followed_by_another(
    tmp_path: Path, saves: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(controls.time, "monotonic", lambda: now)

    def pass_time() -> None:
        nonlocal now
        now += 601

    at_step(monkeypatch, 4, pass_time)
    run(tmp_path, ever_saving())
    assert saves == [(1, 0), (1, 2), (2, 0), (3, 0), (4, 0)]


@pytest.mark.parametrize("step", [0, 2, 4])
def test_what_is_asked_for_in_a_step_is_saved_after_it(
    step: int, tmp_path: Path, saves: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = ever_saving()
    at_step(monkeypatch, step, control.save)
    run(tmp_path, control)
    assert saves == sorted([*ENDS, (step // STEPS, step % STEPS + 1)])


def test_asked_to_stop_it_saves_after_the_step_and_does_no_other(
    tmp_path: Path, saves: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control()
    at_step(monkeypatch, 4, control.stop)
    with pytest.raises(Stopped):
        run(tmp_path, control)
    assert control.is_stopping and saves == [(1, 0), (1, 2)]


def test_asked_while_it_evaluates_it_stops_when_the_epoch_is_saved(
    tmp_path: Path, saves: list[Place]
) -> None:
    control = Control()

    def evaluate(network: object) -> dict[str, Any]:
        control.stop()
        return {}

    with pytest.raises(Stopped):
        run(tmp_path, control, evaluate)
    assert saves == [(1, 0)] and len((tmp_path / PROGRESS).read_text().splitlines()) == 1


def test_behind_the_fence_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever step it rises: also where a save was asked for in that step."""
    control = Control()

    def rise() -> None:
        def fence() -> None:
            raise PermissionError

        control.fence = fence
        control.save()

    at_step(monkeypatch, 4, rise)
    with pytest.raises(PermissionError):
        run(tmp_path, control)
    assert place(tmp_path) == (1, 0)


def test_the_fence_is_asked_right_before_each_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    writes = "save_checkpoint", "_append", "write_atomic"
    for name in writes:
        original = getattr(checkpoint, name)

        def written(*arguments: Any, original: Any = original, name: str = name) -> None:
            calls.append(name)
            original(*arguments)

        monkeypatch.setattr(checkpoint, name, written)
    control = ever_saving()
    control.fence = lambda: calls.append("fence")
    run(tmp_path, control)
    for before, after in itertools.pairwise(calls):
        assert after == "fence" or before == "fence"
    assert [calls.count(name) for name in writes] == [EPOCHS, EPOCHS, 1]


def test_losses_that_are_no_numbers_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control()
    original = Adapt.losses

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        control.save()
        return {"bad": original(self, batch, progress)["source_ce"] * float("nan")}

    monkeypatch.setattr(Adapt, "losses", losses)
    with pytest.raises(NotFiniteError, match="'bad' is nan at step 0;"):
        run(tmp_path, control)
    assert load_checkpoint(tmp_path, pytest.fail) is None
