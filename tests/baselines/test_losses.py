"""What each baseline minimises in a step, against formulas in NumPy's float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import baselines  # noqa: F401 - registers them
from itmc.domains.batches import Batch
from itmc.networks.build import Network
from itmc.training.forward import both_domains
from itmc.training.stage import Stage
from tests.itmc.training import tiny

Array = np.ndarray
PROGRESS = 0.3


def ready(method: str, **knobs: Any) -> tuple[Stage, Batch]:
    """A stage whose networks differ, in train mode, and a batch."""
    task = tiny.context()
    stage = tiny.stage_of(tiny.recipe(method, **knobs), task)
    other = tiny.context(seed=1).fresh_network()
    for guide in stage.guides.values():
        if not tiny.same(guide.state_dict(), stage.learners["student"].network.state_dict()):
            guide.load_state_dict(other.state_dict())
    stage.train_mode()
    return stage, task.batches.at(0)


def outputs(network: Network, batch: Batch) -> dict[str, Array]:
    """Features and logits of both domains, in the mode that the network is in, left as it was."""
    before = tiny.snapshot(network)
    with torch.no_grad():
        source, target = both_domains(network, batch, tiny.context())
    network.load_state_dict(before)
    values = {"f_s": source.features, "f_t": target.features, "z_s": source.logits,
              "z_t": target.logits}  # fmt: skip
    return {name: value.double().numpy() for name, value in values.items()}


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def cross_entropy(logits: Array, labels: Array) -> float:
    return -float(log_softmax(logits)[np.arange(len(labels)), labels].mean())


def divergence(student: Array, teacher: Array, tau: float) -> float:
    """tau^2 KL(teacher || student)."""
    s, t = log_softmax(student / tau), log_softmax(teacher / tau)
    return tau**2 * float((np.exp(t) * (t - s)).sum(1).mean())


def decoupled(student: Array, teacher: Array, classes: Array, alpha: float, beta: float) -> float:
    """DKD with tau = 4: of the class against all others, and among the others."""
    total = 0.0
    for s, t, c in zip(student / 4, teacher / 4, classes, strict=True):
        p, q = (np.exp(log_softmax(row[None])[0]) for row in (t, s))
        among = [np.delete(row, c) / (1 - row[c]) for row in (p, q)]
        of_class = sum(a * math.log(a / b) for a, b in ((p[c], q[c]), (1 - p[c], 1 - q[c])))
        total += alpha * of_class + beta * float((among[0] * np.log(among[0] / among[1])).sum())
    return 16 * total / len(student)


def mk_mmd(source: Array, target: Array) -> float:
    both = np.concatenate([source, target])
    distances = ((both[:, None] - both[None]) ** 2).sum(2)
    mean = distances.sum() / (len(both) * (len(both) - 1))
    kernel = sum(np.exp(-distances / (mean * factor)) for factor in (0.25, 0.5, 1, 2, 4))
    n = len(source)
    return float(kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean())


def coral(source: Array, target: Array) -> float:
    difference = np.cov(source, rowvar=False) - np.cov(target, rowvar=False)
    return float((difference**2).sum() / (4 * source.shape[1] ** 2))


def gamma(progress: float) -> float:
    return 2 / (1 + math.exp(-10 * progress)) - 1


def found(stage: Stage, batch: Batch, progress: float = PROGRESS) -> dict[str, float]:
    return {name: loss.item() for name, loss in stage.losses(batch, progress).items()}


def test_kd() -> None:
    stage, batch = ready("kd", temperature=3.0, alpha=0.7)
    s, t = outputs(stage.student, batch), outputs(stage.guides["teacher"], batch)
    assert found(stage, batch) == pytest.approx(
        {
            "source_ce": 0.3 * cross_entropy(s["z_s"], batch.labels.numpy()),
            "kd_source": 0.7 * divergence(s["z_s"], t["z_s"], 3.0),
            "kd_target": 0.7 * divergence(s["z_t"], t["z_t"], 3.0),
        },
        abs=1e-5,
    )


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.1, 0.5), (0.3, 1.0)])
def test_dkd(progress: float, weight: float) -> None:
    stage, batch = ready("dkd", alpha=1.5, beta=6.0, warmup=0.2)
    s, t = outputs(stage.student, batch), outputs(stage.guides["teacher"], batch)
    labels, pseudo = batch.labels.numpy(), t["z_t"].argmax(1)
    assert found(stage, batch, progress) == pytest.approx(
        {
            "source_ce": cross_entropy(s["z_s"], labels),
            "dkd_source": weight * decoupled(s["z_s"], t["z_s"], labels, 1.5, 6.0),
            "dkd_target": weight * decoupled(s["z_t"], t["z_t"], pseudo, 1.5, 6.0),
        },
        abs=1e-4,
    )


def test_mobileda() -> None:
    stage, batch = ready("mobileda", temperature=2.0, alpha=0.7, weight=0.3)
    s, t = outputs(stage.student, batch), outputs(stage.guides["teacher"], batch)
    assert found(stage, batch) == pytest.approx(
        {
            "source_ce": cross_entropy(s["z_s"], batch.labels.numpy()),
            "kd_target": 0.7 * divergence(s["z_t"], t["z_t"], 2.0),
            "discrepancy": 0.3 * coral(s["f_s"], s["f_t"]),
        },
        abs=1e-5,
    )


def test_mobiledas_teacher_sees_the_target_alone() -> None:
    stage, batch = ready("mobileda")
    seen: list[int] = []
    teacher = stage.guides["teacher"]
    teacher.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    stage.losses(batch, PROGRESS)
    assert seen == [len(batch.target)]


def test_kd_stda() -> None:
    stage, batch = ready("kd_stda", alpha=0.3, temperature=20.0, weight=0.5)
    s, t = (outputs(stage.learners[role].network, batch) for role in ("student", "teacher"))
    labels, beta = batch.labels.numpy(), 0.1 * 9**PROGRESS
    expected = {
        "teacher_ce": (1 - beta) * cross_entropy(t["z_s"], labels),
        "teacher_discrepancy": (1 - beta) * 0.5 * gamma(PROGRESS) * mk_mmd(t["f_s"], t["f_t"]),
        "student_ce": beta * 0.7 * cross_entropy(s["z_s"], labels),
        "student_kd_source": beta * 0.3 * divergence(s["z_s"], t["z_s"], 20.0),
        "student_kd_target": beta * divergence(s["z_t"], t["z_t"], 20.0),
    }
    assert found(stage, batch) == pytest.approx(expected, abs=1e-5)


def test_kd_stdas_distillation_gives_the_teacher_no_gradient() -> None:
    stage, batch = ready("kd_stda")
    losses = stage.losses(batch, PROGRESS)
    guidance = [loss for name, loss in losses.items() if name.startswith("student_")]
    torch.autograd.backward(torch.stack(guidance).sum())
    teacher, student = (stage.learners[role].network for role in ("teacher", "student"))
    assert all(p.grad is None or not p.grad.any() for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())


def test_mean_teacher() -> None:
    stage, batch = ready("mean_teacher", noise=0.0, threshold=0.4, weight=2.0, balance=0.1)
    network, average = stage.learners["student"].network, stage.student
    with torch.no_grad():  # apart, so that the consistency is not zero
        for parameter in average.parameters():
            parameter.mul_(1.5)
    s = outputs(network, batch)
    before = tiny.snapshot(average)
    with torch.no_grad():  # the average sees the target alone
        guide = average(batch.target).logits.double().numpy()
    average.load_state_dict(before)
    p, q = np.exp(log_softmax(guide)), np.exp(log_softmax(s["z_t"]))
    confident = p.max(1) > 0.4
    assert 0 < confident.mean() < 1
    mean, uniform = q.mean(0), 1 / q.shape[1]
    balance = -(uniform * np.log(mean) + (1 - uniform) * np.log(1 - mean)).sum()
    assert found(stage, batch) == pytest.approx(
        {
            "source_ce": cross_entropy(s["z_s"], batch.labels.numpy()),
            "consistency": 2 * float((((p - q) ** 2).mean(1) * confident).mean()),
            "class_balance": 2 * 0.1 * float(balance * confident.mean()),
        },
        abs=1e-5,
    )


def test_the_mean_teacher_is_the_average_of_the_students_steps() -> None:
    stage, batch = ready("mean_teacher", decay=0.8)
    expected = {name: p.detach().clone() for name, p in stage.student.named_parameters()}
    for _ in range(3):
        tiny.one_step(stage, batch, PROGRESS)
        for name, p in stage.learners["student"].network.named_parameters():
            expected[name] = 0.8 * expected[name] + 0.2 * p.detach()
    for name, p in stage.student.named_parameters():
        assert torch.allclose(p, expected[name], atol=1e-6)
        assert not p.requires_grad
    assert stage.handover().network is stage.student


def test_the_mean_teacher_has_no_other_network_for_a_teacher() -> None:
    """Its average is what is judged; compared with itself it would agree in everything."""
    assert ready("mean_teacher")[0].teacher is None


def test_noise_is_drawn_apart_for_student_and_average(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, batch = ready("mean_teacher", noise=0.5)
    seen: list[torch.Tensor] = []
    network, average = stage.learners["student"].network, stage.student
    handles = [
        net.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
        for net in (network, average)
    ]
    stage.losses(batch, PROGRESS)
    for handle in handles:
        handle.remove()
    both, target = seen
    noise = both[len(batch.source) :] - batch.target, target - batch.target
    assert all(0.4 < n.std().item() < 0.6 for n in noise)
    assert abs(torch.corrcoef(torch.stack([n.flatten() for n in noise]))[0, 1].item()) < 0.05


@pytest.mark.parametrize("method", ["dan_student", "tcp", "adapt_then_prune"])
def test_uda_of_a_student_is_that_of_dan(method: str) -> None:
    stage, batch = ready(method, weight=0.5)
    s = outputs(stage.student, batch)
    ramp = 1.0 if method == "adapt_then_prune" else gamma(PROGRESS)
    assert found(stage, batch) == pytest.approx(
        {
            "source_ce": cross_entropy(s["z_s"], batch.labels.numpy()),
            "discrepancy": 0.5 * ramp * mk_mmd(s["f_s"], s["f_t"]),
        },
        abs=1e-5,
    )


def test_tcp_prunes_a_little_after_each_epoch_by_both_domains(tmp_path: Any) -> None:
    task = tiny.context(epochs=5)
    stage = tiny.stage_of(tiny.recipe("tcp", prune_until=0.8), task)
    history = tiny.run(stage, tmp_path)
    removed = [1 - entry["macs"] / task.unpruned_macs for entry in history]
    assert removed == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5], abs=0.02)
    criterion = stage.acp._config.criterion  # type: ignore[attr-defined]
    assert criterion == "taylor_min"
