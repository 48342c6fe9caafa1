"""Distillation of surviving channels: each follows the teacher's channel that it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import itmc.itmc  # noqa: F401 - registers ITMC
from itmc.errors import UsageError
from itmc.itmc import Alternate
from itmc.networks.build import Network
from itmc.training.stage import Context
from tests.itmc.training import tiny


def alternation(task: Context, compression: float = 0.5, **knobs: Any) -> Alternate:
    stage = tiny.stage_of(tiny.recipe("itmc", compression, feature_weight=2.0, **knobs), task)
    assert isinstance(stage, Alternate)
    return stage


def activations(network: Network, images: Tensor) -> dict[str, Tensor]:
    """What each BatchNorm of the backbone puts out in float64, in train mode; statistics stay."""
    network.train()
    before, found = tiny.snapshot(network), {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, __, output, name=name: found.__setitem__(name, output.double().clone())
            )
    network(images)
    for module in network.modules():
        module._forward_hooks.clear()
    network.load_state_dict(before)
    return found


def marked(network: Network) -> None:
    """Give each channel of each BatchNorm a shift that says which one it is."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.copy_(torch.arange(len(module.bias)).float())


def test_each_channel_is_compared_with_the_one_that_it_was(tmp_path: Path) -> None:
    task = tiny.context(epochs=4, lr=1e-9)  # next to nothing is learnt: marks stay
    stage = alternation(task, teacher_lead=0.0)
    for network in tiny.learners(stage).values():
        marked(network)
    history = tiny.run(stage, tmp_path)
    assert sum(len(epoch["events"]["removed_channels"]) > 0 for epoch in history) > 1
    batch = task.batches.at(0)
    stage.train_mode()
    images = torch.cat([batch.source, batch.target])
    a_s, a_t = (activations(tiny.learners(stage)[role], images) for role in ("student", "teacher"))
    terms = []
    for name, student in a_s.items():
        was = dict(stage.student.named_modules())[name].bias.round().long()  # the mark
        teacher = a_t[name][:, was]
        assert 0 < student.shape[1] == len(was) <= a_t[name].shape[1]
        terms.append(float((student - teacher).square().sum() / teacher.square().sum()))
    assert any(a_s[name].shape[1] < a_t[name].shape[1] for name in a_s)
    expected = stage.knobs.beta(0.4) * 2.0 * sum(terms) / len(terms)
    assert stage.losses(batch, 0.4)["student_survivors"].item() == pytest.approx(expected, rel=1e-4)


def test_a_copy_of_the_teacher_costs_nothing_and_a_silent_student_one() -> None:
    task = tiny.context()
    stage = alternation(task)
    batch, beta = task.batches.at(0), stage.knobs.beta(0.4)
    stage.train_mode()
    assert stage.losses(batch, 0.4)["student_survivors"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for module in stage.student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.zero_()
                module.bias.zero_()
    silent = stage.losses(batch, 0.4)["student_survivors"].item()
    assert silent == pytest.approx(2.0 * beta, rel=1e-5)


@pytest.mark.parametrize("knobs", [{}, {"teacher_logits": "fresh"}, {"teacher_average": 0.9}])
@pytest.mark.parametrize("bn", ["joint", "split"])
def test_it_reaches_the_student_alone(knobs: dict[str, Any], bn: str) -> None:
    task = tiny.context(bn=bn)
    stage = alternation(task, **knobs)
    stage.train_mode()
    with torch.no_grad():
        for parameter in stage.student.parameters():
            parameter.mul_(1.5)
    stage.losses(task.batches.at(0), 0.4)["student_survivors"].backward()
    assert any(p.grad is not None and p.grad.any() for p in stage.student.parameters())
    for role, network in tiny.learners(stage).items():
        if role != "student":
            assert all(p.grad is None or not p.grad.any() for p in network.parameters())
    modules = [m for network in tiny.learners(stage).values() for m in network.modules()]
    assert not any(module._forward_hooks for module in modules)


def test_a_resumed_run_knows_which_channels_are_left(tmp_path: Path) -> None:
    stage = alternation(tiny.context())
    tiny.run(stage, tmp_path)
    again = alternation(tiny.context())
    assert {n: w.tolist() for n, w in again.acp.survivors.items()} != {
        n: w.tolist() for n, w in stage.acp.survivors.items()
    }
    again.load_state(stage.state())
    batch = stage.context.batches.at(0)
    for one in (stage, again):
        one.train_mode()
    assert torch.equal(
        stage.losses(batch, 0.9)["student_survivors"], again.losses(batch, 0.9)["student_survivors"]
    )


def test_it_needs_a_teacher_of_the_same_backbone() -> None:
    task = tiny.context()
    with pytest.raises(UsageError, match="another backbone"):
        alternation(Context(**vars(task) | {"other_teacher": tiny.context(1)}))


def test_without_weight_nothing_is_added() -> None:
    stage = tiny.stage_of(tiny.recipe("itmc"), tiny.context())
    assert "student_survivors" not in stage.losses(stage.context.batches.at(0), 0.4)
