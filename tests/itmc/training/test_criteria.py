"""Criteria and costs at work in ACP and in pruning at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import itmc.acp
from itmc.cost import count_macs
from itmc.domains.batches import Batch
from itmc.errors import UsageError
from itmc.itmc import Alternate
from itmc.networks.build import Network
from itmc.pruning import cost_aware
from itmc.pruning.cost_aware import Savings
from itmc.pruning.importance import CriterionName, Scores
from itmc.pruning.shrink import Shrink, shrink
from itmc.training.adapt import Adapt, source_loss
from itmc.training.forward import both_domains
from itmc.training.loop import train
from itmc.training.narrow import NarrowKnobs
from itmc.training.stage import Context, Stage
from tests.itmc.training import tiny

POINT = 0.01


def removed(stage: Stage) -> float:
    task = stage.context
    return 1 - count_macs(stage.student, task.example) / task.unpruned_macs


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize("criterion", get_args(CriterionName))
def test_acp_meets_the_budget_with_every_criterion(
    criterion: CriterionName, tmp_path: Path
) -> None:
    stage = tiny.stage_of(tiny.recipe("itmc", criterion=criterion), tiny.context())
    history = tiny.run(stage, tmp_path)
    assert removed(stage) == pytest.approx(0.5, abs=POINT)
    assert sum(len(epoch["events"]["removed_channels"]) > 0 for epoch in history) > 1
    assert hooks(stage.student) == 0


@pytest.mark.parametrize("bn", ["joint", "split"])
@pytest.mark.parametrize("logits", ["reuse", "fresh"])
def test_acp_tells_the_domains_apart_however_they_pass(
    bn: str, logits: str, tmp_path: Path
) -> None:
    node = tiny.recipe("itmc", criterion="taylor_min", teacher_logits=logits)
    stage = tiny.stage_of(node, tiny.context(bn=bn))
    tiny.run(stage, tmp_path)
    assert removed(stage) == pytest.approx(0.5, abs=POINT)


def interrupted(stage: Stage, folder: Path, epoch: int) -> None:
    """Train until the evaluation after ``epoch``, which is cut off."""
    seen: list[int] = []

    def evaluate(network: Network) -> dict[str, Any]:
        seen.append(len(seen))
        if seen[-1] == epoch:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(stage, folder, evaluate, lambda done, epochs: None)


def test_a_run_with_hooks_resumes_with_the_same_weights(tmp_path: Path) -> None:
    node = tiny.recipe("itmc", criterion="taylor_min", cost_aware="macs")
    whole, first, second = (tiny.stage_of(node, tiny.context()) for _ in range(3))
    tiny.run(whole, made(tmp_path / "whole"))
    interrupted(first, made(tmp_path / "parts"), epoch=2)
    tiny.run(second, made(tmp_path / "parts"))
    assert tiny.same(tiny.snapshot(whole.student), tiny.snapshot(second.student))


@pytest.mark.parametrize("kind", ["macs", "latency"])
def test_acp_meets_the_budget_at_any_cost(kind: str, tmp_path: Path) -> None:
    stage = tiny.stage_of(tiny.recipe("itmc", cost_aware=kind), tiny.context())
    tiny.run(stage, tmp_path)
    assert removed(stage) == pytest.approx(0.5, abs=POINT)


def test_costs_change_what_is_pruned(tmp_path: Path) -> None:
    shapes = []
    for kind in ("none", "macs"):
        stage = tiny.stage_of(tiny.recipe("itmc", cost_aware=kind), tiny.context())
        tiny.run(stage, made(tmp_path / kind))
        shapes.append({n: t.shape for n, t in stage.student.state_dict().items()})
    assert shapes[0] != shapes[1]


def test_the_quotient_ranks_and_enters_no_average(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    divided: list[Scores] = []

    def spy(scores: Scores, saved: Savings) -> Scores:
        divided.append({name: values.clone() for name, values in scores.items()})
        return {name: 1000 + values for name, values in scores.items()}

    monkeypatch.setattr(itmc.acp, "per_saving", spy)
    node = tiny.recipe("itmc", cost_aware="macs", layer_scale="l2", teacher_lead=1.0)
    stage = tiny.stage_of(node, tiny.context())
    tiny.run(stage, tmp_path)
    assert len(divided) == 2  # events
    for scores in [*divided, stage.state()["acp"]["average"]]:
        assert all(0 <= float(values.max()) <= 1 for values in scores.values())


@pytest.mark.parametrize("cost", ["none", "macs"])
def test_layers_are_ranked_by_their_mean_which_enters_no_average(cost: str, tmp_path: Path) -> None:
    stage = tiny.stage_of(tiny.recipe("itmc", cost_aware=cost, layer_scale="mean"), tiny.context())
    assert isinstance(stage, Alternate)
    ranked: list[Scores] = []
    original = itmc.acp.comparable

    def spy(*arguments: Any) -> Scores:
        ranked.append(original(*arguments))
        return ranked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(itmc.acp, "comparable", spy)
        tiny.run(stage, tmp_path)
    assert ranked
    for scores in ranked:
        assert [float(values.mean()) for values in scores.values()] == pytest.approx(
            [1.0] * len(scores), abs=1e-5
        )
    average = stage.state()["acp"]["average"]
    assert average and all(0 < float(values.max()) <= 1 for values in average.values())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Savings]:
    """Measurements that come out otherwise each time: now one layer is dear, then another."""
    given: list[Savings] = []

    def measure(network: nn.Module, images: Tensor, groups: Any, *_: object) -> Savings:
        dear = len(given) % len(groups)
        given.append({g.name: torch.tensor(1e3 if i == dear else 1.0, dtype=torch.float64)
                     for i, g in enumerate(groups)})  # fmt: skip
        return given[-1]

    monkeypatch.setattr(cost_aware, "microseconds_saved", measure)
    return given


def test_latency_is_measured_once_a_run_and_kept_over_a_resumption(
    measured: list[Savings], tmp_path: Path
) -> None:
    node = tiny.recipe("itmc", cost_aware="latency")
    whole, first, second = (tiny.stage_of(node, tiny.context()) for _ in range(3))
    tiny.run(whole, made(tmp_path / "whole"))
    assert len(measured) == 1
    assert isinstance(whole, Alternate)
    assert whole.state()["acp"]["measured"] == measured[0]
    measured.clear()
    interrupted(first, made(tmp_path / "parts"), epoch=1)
    tiny.run(second, made(tmp_path / "parts"))
    assert len(measured) == 1
    assert tiny.same(tiny.snapshot(whole.student), tiny.snapshot(second.student))


def test_what_was_pruned_by_another_measurement_is_resumed(
    measured: list[Savings], tmp_path: Path
) -> None:
    """Built anew the stage prunes otherwise; it goes on with the network that it had."""
    config = Shrink(compression=0.5, criterion="l2", cost_aware="latency")
    node = Adapt.node(None, discrepancy="dan", shrink=config)
    first = tiny.stage_of(node, tiny.context())
    shape = {n: t.shape for n, t in first.student.state_dict().items()}
    interrupted(first, tmp_path, epoch=1)
    second = tiny.stage_of(node, tiny.context())
    assert {n: t.shape for n, t in second.student.state_dict().items()} != shape
    tiny.run(second, tmp_path)
    assert len(measured) == 2
    assert {n: t.shape for n, t in second.student.state_dict().items()} == shape
    whole = tiny.stage_of(node, tiny.context())
    whole.load_state(first.state())
    assert tiny.same(tiny.snapshot(first.student), tiny.snapshot(whole.student))


def both(network: Network, batch: Batch, task: Context) -> Tensor:
    source, target = both_domains(network, batch, task)
    return source.logits.square().mean() + target.features.square().mean()


@pytest.mark.parametrize("criterion", get_args(CriterionName))
@pytest.mark.parametrize("kind", ["none", "macs"])
def test_pruning_at_once_meets_the_budget(criterion: CriterionName, kind: Any) -> None:
    if criterion == "uniform" and kind == "macs":
        with pytest.raises(ValidationError, match="ranks nothing"):
            Shrink(compression=0.5, criterion=criterion, cost_aware=kind)
        return
    task = tiny.context()
    network = task.fresh_network()
    config = Shrink(compression=0.5, criterion=criterion, cost_aware=kind, importance_batches=2)
    shrink(network, config, task, both)
    reached = 1 - count_macs(network, task.example) / task.unpruned_macs
    assert reached == pytest.approx(0.5, abs=POINT)
    assert hooks(network) == 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_lesser_of_two_domains_needs_two() -> None:
    task = tiny.context()
    with pytest.raises(UsageError, match=r"needs 8 images of each in a step, but .* of 8 images"):
        shrink(
            task.fresh_network(), Shrink(compression=0.5, criterion="taylor_min"), task, source_loss
        )


def test_uniform_widths_know_no_cost() -> None:
    with pytest.raises(ValidationError, match="cost_aware"):
        NarrowKnobs.model_validate({"cost_aware": "macs"})
