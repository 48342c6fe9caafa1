"""ACP: importance accumulates, events follow the schedule, and the budget is met at e1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from itmc.acp import ACP, ACPConfig, share_by
from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.itmc import Alternate
from itmc.pruning import importance
from itmc.pruning.groups import Group
from itmc.pruning.importance import Scores, Taylor
from itmc.pruning.schedule import share
from itmc.training.adapt import learner, source_loss
from itmc.training.stage import Context, Learner
from tests.itmc.training import tiny

POINT = 0.01


class Spy(Taylor):
    """Taylor importance that keeps its own tally of one layer, batch by batch."""

    made: list[Spy] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[torch.Tensor] = []
        self.told: torch.Tensor | None = None
        Spy.made.append(self)

    def observe(self, network: torch.nn.Module, groups: tuple[Group, ...]) -> None:
        super().observe(network, groups)
        norm = network.get_submodule("backbone.features.1")
        products = [p.detach() * p.grad for p in norm.parameters() if p.grad is not None]
        self.gates.append(torch.stack(products).sum(0).abs())

    def scores(self, network: torch.nn.Module, groups: tuple[Group, ...]) -> Scores:
        scores = super().scores(network, groups)
        self.told = scores["backbone.features.0"]
        return scores


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> list[Spy]:
    Spy.made = []
    monkeypatch.setattr(importance, "create", lambda name, seed=0: Spy())
    return Spy.made


def test_importance_accumulates_over_the_batches_of_an_epoch(
    spies: list[Spy], tmp_path: Path
) -> None:
    task = tiny.context(epochs=3, steps_per_epoch=4)
    stage = tiny.stage_of(tiny.recipe("itmc", teacher_lead=1.0), task)
    tiny.run(stage, tmp_path)
    judged = [spy for spy in spies if spy.told is not None]
    assert len(judged) == 2  # the events after epochs 1 and 2: e1 is 0.6 of 3
    for spy in judged:
        assert spy.batches == len(spy.gates) == 4
        assert spy.told is not None
        mean = torch.stack(spy.gates).mean(0)
        assert torch.allclose(spy.told, mean / mean.norm(), atol=1e-5)
        last = spy.gates[-1] / spy.gates[-1].norm()
        assert not torch.allclose(spy.told, last, atol=1e-3)  # it is not the last batch alone


@pytest.mark.parametrize("schedule", ["cubic", "linear", "exp", "one_shot", "adaptive"])
@pytest.mark.parametrize("compression", [0.5, 0.75])
def test_the_budget_is_met_at_e1_and_kept(
    schedule: str, compression: float, tmp_path: Path
) -> None:
    task = tiny.context(epochs=5)
    knobs = {"schedule": schedule, "prune_until": 0.6, "teacher_lead": 1.0}  # 5 epochs are left
    node = tiny.recipe("itmc", compression, **knobs)
    history = tiny.run(tiny.stage_of(node, task), tmp_path)
    reached = [1 - epoch["macs"] / task.unpruned_macs for epoch in history]
    assert reached == sorted(reached)
    for done in (3, 4, 5):  # e1 is after epoch 3
        assert abs(reached[done - 1] - compression) <= POINT
    if schedule == "one_shot":
        assert reached[0] == reached[-1]
    elif schedule != "adaptive":
        assert POINT < reached[0] < reached[1] < reached[2]
        assert reached[0] == pytest.approx(share(schedule, 1, 0, 3, compression), abs=POINT)


def test_nothing_is_pruned_before_e0(tmp_path: Path) -> None:
    task = tiny.context(epochs=5)
    node = tiny.recipe("itmc", 0.5, prune_from=0.4, prune_until=0.8, teacher_lead=1.0)
    history = tiny.run(tiny.stage_of(node, task), tmp_path)
    assert [epoch["macs"] == task.unpruned_macs for epoch in history][:3] == [True, True, False]
    assert abs(1 - history[3]["macs"] / task.unpruned_macs - 0.5) <= POINT


@pytest.mark.parametrize(
    ("recovery", "events"),
    [(0, [1, 2, 3, 4, 5, 6]), (1, [1, 3, 5, 6]), (2, [1, 4, 6]), (9, [1, 6])],
)
def test_after_an_event_the_student_has_epochs_to_recover(recovery: int, events: list[int]) -> None:
    """Between events nothing more is due; the last one meets the budget, whatever came before."""
    config = ACPConfig(recovery=recovery, schedule="linear", prune_until=0.75)
    due = [share_by(config, 0.6, epochs=8, done=done) for done in range(9)]
    assert [done for done in range(1, 9) if due[done] > due[done - 1]] == events
    assert due[0] == 0 and due[6] == due[8] == 0.6
    for done in set(events) - {6}:
        assert due[done] == pytest.approx(0.6 * done / 6)


def test_the_last_event_takes_place_though_the_one_before_came_near(tmp_path: Path) -> None:
    """Else its students kept up to half a point more than those of methods that cut at once."""
    task = tiny.context(epochs=9)
    asked = [share_by(ACPConfig(), 0.5, epochs=9, done=done) for done in (4, 5)]
    assert asked == pytest.approx([0.496, 0.5])
    stage = tiny.stage_of(tiny.recipe("itmc", 0.5, teacher_lead=1.0), task)
    history = tiny.run(stage, tmp_path)
    budget = 0.5 * task.unpruned_macs
    assert budget < history[3]["macs"] <= budget + POINT / 2 * task.unpruned_macs
    assert history[4]["events"]["removed_channels"]
    assert history[4]["macs"] < history[3]["macs"]


def test_the_budget_is_asked_for_once_however_near_it_was_met(tmp_path: Path) -> None:
    """Widths in steps may leave more than half a point too much; one more event changes nothing."""
    stage = tiny.stage_of(tiny.recipe("itmc", 0.5), tiny.context())
    assert isinstance(stage, Alternate)
    tiny.run(stage, tmp_path)
    stage.acp._macs *= 1.015
    assert not stage.acp._is_pruning()
    event = stage.acp.prune(stage.learners["student"], stage.epochs)
    assert event["asked_share"] == 0.5 and event["removed_channels"] == {}


class Adaptive:
    """ACP with the adaptive schedule over 5 epochs, told the student's TKD loss of each."""

    def __init__(self) -> None:
        self.task: Context = tiny.context(epochs=5)
        self.student: Learner = learner(self.task.fresh_network(), None, self.task)
        config = ACPConfig(schedule="adaptive", prune_until=1.0, tolerance=0.05)
        self.acp = ACP(config, 0.6, self.task, self.student.network, epochs=5)

    def epoch(self, number: int, loss: float) -> float:
        """The share of MACs that is gone after this epoch's event."""
        batch = self.task.batches.at(number)
        torch.autograd.backward(source_loss(self.student.network, batch, self.task))
        self.acp.observe(self.student.network, torch.tensor(loss))
        self.student.optimiser.step(0.0)
        self.acp.prune(self.student, number)
        return 1 - count_macs(self.student.network, self.task.example) / self.task.unpruned_macs


def due(epochs_done: int) -> float:
    return share("cubic", epochs_done, 0, 5, 0.6)


def test_adaptive_makes_up_for_what_it_postponed() -> None:
    run = Adaptive()
    first = run.epoch(0, loss=1.0)
    assert first == pytest.approx(due(1), abs=POINT)
    assert run.epoch(1, loss=2.0) == first  # twice the level: postponed
    assert run.epoch(2, loss=1.06) == first  # beyond the tolerance of 5 %
    assert run.epoch(3, loss=1.04) == pytest.approx(due(4), abs=POINT)  # back: all that is due


def test_adaptive_meets_the_budget_though_the_loss_never_comes_back() -> None:
    run = Adaptive()
    run.epoch(0, loss=1.0)
    shares = [run.epoch(number, loss=9.0) for number in (1, 2, 3, 4)]
    assert shares[:3] == pytest.approx([due(1)] * 3, abs=POINT)
    assert shares[3] == pytest.approx(0.6, abs=POINT)  # the last event always takes place


def test_adaptive_measures_the_loss_against_its_level_before_the_last_event() -> None:
    run = Adaptive()
    run.epoch(0, loss=1.0)
    second = run.epoch(1, loss=0.5)
    assert second == pytest.approx(due(2), abs=POINT)
    assert run.epoch(2, loss=1.0) == second  # fine against the first level, not against the second


def test_the_average_of_importance_follows_the_channels_that_are_left(tmp_path: Path) -> None:
    stage = tiny.stage_of(tiny.recipe("itmc", 0.75), tiny.context())
    tiny.run(stage, tmp_path)
    average = stage.state()["acp"]["average"]
    assert average
    for name, scores in average.items():
        assert scores.shape == (stage.student.get_submodule(name).weight.shape[0],)


def test_an_event_of_coarse_widths_may_fall_short_but_the_last_one_not(tmp_path: Path) -> None:
    """In steps of 4 channels not every share can be met; what is missing then comes later."""
    task = tiny.context(epochs=8)
    stage = tiny.stage_of(tiny.recipe("itmc", 0.75, round_to=4, prune_until=0.9), task)
    history = tiny.run(stage, tmp_path)
    asked = [entry["events"]["asked_share"] for entry in history]
    reached = [1 - entry["macs"] / task.unpruned_macs for entry in history]
    assert max(a - r for a, r in zip(asked, reached, strict=True)) > POINT  # or nothing is shown
    assert reached[-1] == pytest.approx(0.75, abs=POINT)


def test_an_event_that_takes_more_than_the_whole_budget_is_refused(tmp_path: Path) -> None:
    node = tiny.recipe("itmc", 0.5, round_to=4, prune_until=0.9)
    stage = tiny.stage_of(node, tiny.context(epochs=8))
    with pytest.raises(UsageError, match=r"in steps of 4 channels it becomes .*; lower round_to"):
        tiny.run(stage, tmp_path)
