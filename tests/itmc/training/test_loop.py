"""The one train loop: randomness tied to the epoch, steps in order, losses that are no numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import baselines  # noqa: F401 - registers them
from itmc.domains.batches import Batch, Batches
from itmc.training.adapt import Adapt
from itmc.training.control import Control
from itmc.training.epoch import NotFiniteError
from itmc.training.loop import train
from itmc.training.stage import Stage
from tests.itmc.training import tiny


class Stop(Exception):  # noqa: N818 - a signal, no error
    """Stops a training from outside."""


def stage(**training: Any) -> Stage:
    return tiny.stage_of(tiny.recipe("dan"), tiny.context(**training))


@pytest.mark.parametrize(("value", "said"), [("nan", "nan"), ("inf", "inf")])
def test_a_loss_that_is_no_number_ends_the_stage_with_its_name_and_step(
    value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = Adapt.losses, iter(range(100))

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        computed = original(self, batch, progress)
        if next(steps) == 4:  # the second step of the second epoch
            computed["discrepancy"] = computed["discrepancy"] + float(value)
        return computed

    monkeypatch.setattr(Adapt, "losses", losses)
    with pytest.raises(NotFiniteError, match=rf"'discrepancy' is {said} at step 4;"):
        tiny.run(stage(), tmp_path)
    logged = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert len(logged) == 1  # the epoch before is kept


def test_draws_of_an_epoch_do_not_depend_on_what_ran_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws so: a stage that is taken up must draw what it would have drawn."""
    draws: list[float] = []
    original = Adapt.losses

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        draws.append(float(torch.rand(())))
        return original(self, batch, progress)

    monkeypatch.setattr(Adapt, "losses", losses)
    torch.manual_seed(1)
    (tmp_path / "whole").mkdir()
    tiny.run(stage(), tmp_path / "whole")
    whole, draws = draws, []
    torch.manual_seed(2)

    def stop(done: int, epochs: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        train(stage(), tmp_path, lambda network: {}, stop, Control(share=1e9))
    torch.rand(5)
    tiny.run(stage(), tmp_path)
    assert draws == whole
    assert len(set(whole)) == 4 * 3


def test_progress_runs_from_0_towards_1_over_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    original = Adapt.losses

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        seen.append(progress)
        return original(self, batch, progress)

    monkeypatch.setattr(Adapt, "losses", losses)
    tiny.run(stage(), tmp_path)
    assert seen == pytest.approx([step / 12 for step in range(12)])


def test_two_steps_divide_epochs_and_batches_and_have_a_schedule_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prune, then adapt: together they have the epochs and the batches of one method."""
    seen: list[float] = []
    steps: list[int] = []
    original = Adapt.losses

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        seen.append(progress)
        return original(self, batch, progress)

    monkeypatch.setattr(Adapt, "losses", losses)
    at = Batches.at

    def recorded(self: Batches, step: int) -> Batch:
        steps.append(step)
        return at(self, step)

    last = tiny.recipe("prune_then_adapt", recovery=0.25)
    for number, node in enumerate((last.inputs["network"], last)):
        folder = tmp_path / str(number)
        folder.mkdir()
        stage = tiny.stage_of(node, tiny.context())
        with monkeypatch.context() as patch:  # after the pruning, which looks at batches too
            patch.setattr(Batches, "at", recorded)
            tiny.run(stage, folder)
    # Of twice 4 epochs of 3 steps, which a student has in all, a quarter and the rest.
    first, second = ([step / count for step in range(count)] for count in (6, 18))
    assert seen == pytest.approx(first + second)
    assert steps == list(range(24))


def test_the_log_has_a_line_an_epoch_with_losses_and_cost(tmp_path: Path) -> None:
    history = tiny.run(stage(), tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [entry["losses"] for entry in logged] == [entry["losses"] for entry in history]
    assert [entry["epoch"] for entry in logged] == [0, 1, 2, 3]
    for entry in logged:
        assert set(entry["losses"]) == {"source_ce", "discrepancy"}
        assert entry["macs"] > 0 and entry["seconds"]["train"] > 0
    assert logged[-1]["losses"]["source_ce"] < logged[0]["losses"]["source_ce"]
