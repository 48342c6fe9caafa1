"""ADMP on the tiny task: its losses, who descends what, its budget, and that it resumes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.admp import DoubleMasks
from itmc.cost import count_macs
from itmc.domains.batches import Batch
from itmc.errors import UsageError
from itmc.networks.build import Network, Outputs
from itmc.training.forward import both_domains
from itmc.training.loop import train
from itmc.training.method import knobs_of, method
from tests.itmc.training import tiny

POINT = 0.01
EPOCHS, SEARCH = 4, 2


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def stage_of(compression: float = 0.5, training: Any = None, **knobs: Any) -> DoubleMasks:
    stage = tiny.stage_of(tiny.recipe("admp", compression, **knobs), tiny.context(**training or {}))
    assert isinstance(stage, DoubleMasks)
    return stage


def stirred(**knobs: Any) -> tuple[DoubleMasks, Batch]:
    """A stage whose teacher, student and masks differ and are not at their start."""
    stage = stage_of(threshold=0.27, **knobs)  # of four classes, by a network that knows nothing
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in stage.guides["teacher"].parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for masks in (stage.masks.soft.values, stage.masks.dual):
            for value in masks.values():
                value.copy_(0.5 + 0.5 * torch.rand(value.shape, generator=generator))
    stage.train_mode()
    return stage, stage.context.batches.at(0)


def outputs_by_hand(stage: DoubleMasks, batch: Batch, gates: dict[str, Tensor]) -> list[Outputs]:
    """Of a copy of the student with hooks that multiply behind BatchNorm."""
    network = copy.deepcopy(stage.learners["student"].network)
    layers = dict(network.backbone.named_modules())
    for name, gate in gates.items():
        index = int(name.rpartition(".")[2]) + 1  # the BatchNorm after the convolution

        def multiply(_: nn.Module, __: object, out: Tensor, gate: Tensor = gate) -> Tensor:
            return out * gate.view(1, -1, 1, 1)

        layers[f"features.{index}"].register_forward_hook(multiply)
    return [*both_domains(network, batch, stage.context)]


def losses_by_hand(stage: DoubleMasks, batch: Batch, gates: dict[str, Tensor]) -> dict[str, Tensor]:
    source, target = outputs_by_hand(stage, batch, gates)
    with torch.no_grad():
        guide = stage.guides["teacher"](batch.target).logits.softmax(1)
    log_p, count = target.logits.log_softmax(1), len(batch.target)
    pseudo = torch.zeros(())
    for row, teacher in zip(log_p, guide, strict=True):
        if teacher.max() > stage.knobs.threshold:
            pseudo = pseudo - row[int(teacher.argmax())] / count
    assert 0 < int((guide.amax(1) > stage.knobs.threshold).sum()) <= count
    gaps = [m - stage.masks.hard[n] + stage.masks.dual[n] for n, m in gates.items()]
    return {
        "source_ce": F.nll_loss(source.logits.log_softmax(1), batch.labels),
        "pseudo_ce": stage.knobs.pseudo * pseudo,
        "divergence": stage.knobs.divergence
        * (log_p.exp() - guide).abs().sum() / (count * tiny.CLASSES),
        "admm": sum((stage.knobs.rho / 2 * (gap**2).sum() for gap in gaps), torch.zeros(())),
    }  # fmt: skip


def soft(stage: DoubleMasks) -> dict[str, Tensor]:
    return {n: m.detach().clone().requires_grad_() for n, m in stage.masks.soft.values.items()}


def test_the_losses_are_those_of_an_independent_formula() -> None:
    stage, batch = stirred(pseudo=0.7, divergence=1.3, rho=0.2)
    expected = losses_by_hand(stage, batch, soft(stage))
    found = stage.losses(batch, 0.0)
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4), name
        assert loss.item() > 0


@pytest.mark.parametrize("adversarial", [0.0, 1.0, 2.5])
def test_weights_descend_the_difference_and_the_soft_mask_ascends_it(adversarial: float) -> None:
    stage, batch = stirred(adversarial=adversarial, divergence=20.0)
    gates = soft(stage)
    losses = losses_by_hand(stage, batch, gates)
    difference = losses.pop("divergence")
    rest = torch.stack(list(losses.values())).sum()
    descended = torch.autograd.grad(rest, list(gates.values()), retain_graph=True)
    ascended = torch.autograd.grad(difference, list(gates.values()))
    before = tiny.snapshot(stage.learners["student"].network)
    tiny.one_step(stage, batch, 0.0)
    for (name, m), down, up in zip(gates.items(), descended, ascended, strict=True):
        assert up.abs().max() > 1e-4
        expected = (m - down + adversarial * up).clamp(0, 1)
        assert torch.allclose(stage.masks.soft.values[name], expected, rtol=1e-3, atol=1e-5)
    assert not tiny.same(before, tiny.snapshot(stage.learners["student"].network))


def test_the_weights_follow_all_losses_however_adversarial_the_mask() -> None:
    after = []
    for adversarial in (0.0, 3.0):
        stage, batch = stirred(adversarial=adversarial)
        tiny.one_step(stage, batch, 0.0)
        after.append(tiny.snapshot(stage.learners["student"].network))
    assert tiny.same(*after)


def test_the_teacher_learns_nothing(tmp_path: Path) -> None:
    stage = stage_of()
    teacher = stage.guides["teacher"]
    before = tiny.snapshot(teacher)
    tiny.run(stage, tmp_path)
    assert tiny.same(before, tiny.snapshot(teacher)) and not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize("compression", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("search", [0.1, 0.5, 1.0])
def test_the_budget_is_met(compression: float, search: float, tmp_path: Path) -> None:
    stage = stage_of(compression, search=search)
    history = tiny.run(stage, tmp_path)
    task = stage.context
    macs = [epoch["macs"] / task.unpruned_macs for epoch in history]
    cut = stage.knobs.search_epochs(EPOCHS) - 1
    assert macs == [1.0] * cut + [pytest.approx(1 - compression, abs=POINT)] * (EPOCHS - cut)
    assert count_macs(stage.student, task.example) == history[-1]["macs"]
    assert not stage.masks.searching and stage.state()["masks"] == {}
    assert stage.student is stage.handover().network
    assert "removed_channels" in history[cut]["events"]
    assert all(epoch["losses"]["admm"] == 0 for epoch in history[cut + 1 :])


def test_what_is_evaluated_in_the_search_has_the_soft_mask_inside() -> None:
    stage, batch = stirred()
    network = stage.learners["student"].network
    assert stage.student is not network
    with torch.no_grad():
        found = stage.student.eval()(batch.target).logits
        plain = network.eval()(batch.target).logits
        with stage.masks.applied():
            expected = network(batch.target).logits
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, plain, atol=1e-4)


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_it_resumes_with_the_same_weights(epoch: int, tmp_path: Path) -> None:
    knobs = {"search": 0.75}  # the dual is at work from the second epoch on
    whole, first, second = (stage_of(**knobs) for _ in range(3))
    tiny.run(whole, made(tmp_path / "whole"))
    calls: list[None] = []

    def evaluate(network: Network) -> dict[str, Any]:
        calls.append(None)
        if len(calls) > epoch:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(first, made(tmp_path / "parts"), evaluate, lambda done, epochs: None)
    tiny.run(second, made(tmp_path / "parts"))
    assert tiny.same(tiny.snapshot(whole.student), tiny.snapshot(second.student))


def test_the_state_is_the_masks() -> None:
    stage, batch = stirred()
    for _ in range(3):
        tiny.one_step(stage, batch, 0.0)
        stage.masks.project()
    other, _ = stirred()
    other.load_state(copy.deepcopy(stage.state()))
    one, two = stage.masks, other.masks
    assert tiny.same(one.soft.values, two.soft.values)
    assert tiny.same(one.hard, two.hard) and tiny.same(one.dual, two.dual)
    assert one.events == two.events == 3
    for trained in (stage, other):
        tiny.one_step(trained, batch, 0.1)
    assert tiny.same(one.soft.values, two.soft.values)


def test_the_mask_comes_nearer_the_hard_one_as_rho_grows(tmp_path: Path) -> None:
    gaps = []
    for rho in (0.0, 0.1, 1.0):
        stage = stage_of(training={"steps_per_epoch": 10}, search=1.0, rho=rho)
        history = tiny.run(stage, made(tmp_path / str(rho)))
        gaps.append(history[EPOCHS - 2]["events"]["mask_gap"])
    assert gaps[0] > gaps[1] > gaps[2]


def test_the_masks_that_are_found_are_better_than_random_ones() -> None:
    """By a fifth over ten seeds: of one seed, chance may have it the other way."""
    found, random = np.array([found_and_random(seed) for seed in range(10)]).mean(0)
    assert found < 0.8 * random


def found_and_random(seed: int) -> tuple[float, float]:
    """Source loss with the mask that a search has found, and the median with random ones."""
    settings = {"steps_per_epoch": 20, "epochs": 2, "seed": seed}
    stage = stage_of(0.75, training=settings, search=1.0)
    stage.train_mode()
    for step in range(40):
        tiny.one_step(stage, stage.context.batches.at(step), 0.0)
        if step == 19:
            stage.masks.project()
    stage.masks.project()
    batches = [stage.context.batches.at(step) for step in range(50, 54)]

    def loss() -> float:
        with torch.no_grad():
            outputs = [outputs_by_hand(stage, batch, stage.masks.hard)[0] for batch in batches]
        each = [F.cross_entropy(o.logits, b.labels) for o, b in zip(outputs, batches, strict=True)]
        return torch.stack(each).mean().item()

    found, random = loss(), []
    for draw in range(9):
        generator = torch.Generator().manual_seed(draw)
        with torch.no_grad():
            for value in stage.masks.soft.values.values():
                value.copy_(torch.rand(value.shape, generator=generator))
            for value in stage.masks.dual.values():
                value.zero_()
        stage.masks.project()
        random.append(loss())
    return found, float(np.median(random))


def test_its_passes_are_counted(tmp_path: Path) -> None:
    stage = stage_of(bn_batches=1)
    training, unpruned = stage.context.training, stage.context.unpruned_macs
    history = tiny.run(stage, tmp_path)
    both = 2 * training.batch_size * 3  # images of an epoch
    efforts = [epoch["effort"] for epoch in history]
    backward = [effort["backward_images"] for effort in efforts]
    assert backward == [2 * both] * SEARCH + [both] * (EPOCHS - SEARCH)
    recalibrated = [0, 2 * training.batch_size, 0, 0]
    assert [effort["forward_images"] for effort in efforts] == [
        both + both // 2 + more for more in recalibrated
    ]
    spent = sum(e["forward_macs"] + e["backward_macs"] for e in efforts)
    one = 3 * both * unpruned  # a training pass of the unpruned network, an epoch
    estimate = stage.passes(stage.knobs, training, 1.0)
    assert spent / one == pytest.approx(estimate.student + estimate.teacher, rel=0.02)


def test_it_knows_no_cost_and_follows_on_the_adaptation() -> None:
    with pytest.raises(UsageError, match="cost_aware"):
        knobs_of("admp", {"cost_aware": "macs"})
    node = tiny.recipe("admp", teacher="mcc", teacher_weight=0.5)
    for role in ("teacher", "student"):
        knobs = node.inputs[role].knobs.model_dump()
        assert (knobs["discrepancy"], knobs["weight"]) == ("mcc", 0.5)
    assert node.inputs["teacher"].network == "teacher" and node.stage.guided
    assert method("admp").guided and node.stage.kept(node.knobs, 1.0) == 0.5
    assert stage_of().first_epoch == EPOCHS
