"""What processes that train together exchange: batches, statistics, evaluations, errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Batches, Labelled, Unlabelled
from itmc.errors import UsageError
from itmc.evaluation.evaluator import Evaluator
from itmc.networks import norms
from itmc.networks.norms import synchronised
from itmc.parallel import (
    World,
    by_first,
    copy_first,
    counted_once,
    joined,
    of_all,
    of_first,
    own_noise,
    sum_gradients,
    world,
)
from tests.itmc.processes import SIZE, Tensors, Together, assert_close, started
from tests.itmc.training.tiny import DATA, context, domain


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    with started() as processes:
        yield processes


def batch_parts() -> tuple[Tensor, Tensor, Tensor]:
    """A step with all that is random about it, which begins in one round and ends in the next."""
    changes = {"augment": "resized_crop", "flip": True, "color_jitter": (0.4, 0.4, 0.4, 0.1)}
    data = DataConfig.model_validate(DATA.model_dump() | changes)
    one, other = domain("source", 10), domain("target", 50, count=20)
    labelled = Labelled(one.images, one.labels, np.arange(len(one.images)))
    unlabelled = Unlabelled(other.images, np.arange(len(other.images)))
    batch = Batches(labelled, unlabelled, data, 16, 3, torch.device("cpu")).at(1)
    return batch.source, batch.labels, batch.target


def test_parts_of_a_batch_are_the_batch(together: Together) -> None:
    source, labels, target = batch_parts()
    (source_0, labels_0, target_0), (source_1, labels_1, target_1) = together.alike(batch_parts)
    assert torch.equal(torch.cat([source_0, source_1]), source)
    assert torch.equal(torch.cat([target_0, target_1]), target)
    assert torch.equal(labels_0, labels) and torch.equal(labels_1, labels)


def odd() -> None:
    context(batch_size=9)


def test_a_batch_that_cannot_be_parted_is_refused(together: Together) -> None:
    for error in together(odd):
        assert isinstance(error, UsageError)
        assert "batch_size 9" in str(error) and "2 processes" in str(error)
    odd()


def normalised(kind: str, momentum: float | None) -> Tensors:
    torch.manual_seed(0)
    norm: Any = {"1d": nn.BatchNorm1d, "2d": nn.BatchNorm2d, "timm": BatchNormAct2d}[kind](6)
    norm.momentum = momentum
    shape = (8, 6) if kind == "1d" else (8, 6, 3, 3)
    images = torch.randn(shape) * 3 + 5
    own = images[world().part(8)].clone().requires_grad_()
    factors = torch.randn(shape)[world().part(8)]
    for _ in range(2):
        with synchronised():
            outputs = norm(own)
    torch.autograd.backward((outputs * factors).sum())
    with synchronised():
        norm.eval()
        evaluated = norm(own)
    parts = {"outputs": outputs.detach(), "images": own.grad, "evaluated": evaluated.detach()}
    sum_gradients(norm.parameters())
    state = {k: v.double() for k, v in norm.state_dict().items()}
    return {
        **{name: torch.cat(of_all(value)) for name, value in parts.items()},
        **{f"gradient {name}": p.grad for name, p in norm.named_parameters()}, **state,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["1d", "2d", "timm"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batchnorm_is_that_of_the_global_batch(
    together: Together, kind: str, momentum: float | None
) -> None:
    for found in together.alike(normalised, kind, momentum):
        assert_close(found, normalised(kind, momentum))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batchnorm_on_a_gpu_takes_what_syncbatchnorm_takes(tmp_path: Path) -> None:
    """A group of one over NCCL: the call fits, and gives what BatchNorm does."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        one, other = nn.BatchNorm2d(6).cuda(), nn.BatchNorm2d(6).cuda()
        images = torch.randn(8, 6, 3, 3, device="cuda")
        with norms._Synchronised():
            found = one(images)
        assert_close({"outputs": found.detach()}, {"outputs": other(images).detach()})
        assert_close(one.state_dict(), other.state_dict())
    finally:
        dist.destroy_process_group()


def exchanges() -> dict[str, Any]:
    value = torch.ones(3, requires_grad=True)
    whole = torch.ones(2, requires_grad=True)
    term = counted_once((3 * value).sum())
    torch.autograd.backward(term + (2 * whole).sum())
    sum_gradients([value], [whole])
    done: list[int] = []
    by_first(done.append)(1)
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.weight, float(world().rank))
    copy_first(linear)
    with own_noise():
        drawn = float(torch.rand(()))
    return {
        "once": (float(term.detach()), value.grad), "whole": whole.grad,
        "done": done, "noise": drawn,
        "first": of_first(lambda: world().rank), "all": of_all(world().rank),
        "copied": float(linear.weight.sum()),
    }  # fmt: skip


def test_what_processes_exchange(together: Together) -> None:
    found = together.alike(exchanges)
    for rank, of_one in enumerate(found):
        value, gradient = of_one["once"]
        assert value == 9 and gradient.tolist() == [3, 3, 3]
        assert of_one["whole"].tolist() == [2, 2]
        assert of_one["done"] == ([1] if rank == 0 else [])
        assert (of_one["first"], of_one["all"], of_one["copied"]) == (0, [0, 1], 0)
    assert found[0]["noise"] != found[1]["noise"]
    alone = exchanges()
    assert alone["once"][1].tolist() == [3, 3, 3] and alone["all"] == [0] and alone["done"] == [1]


def only_first_fails() -> None:
    def fail() -> None:
        raise UsageError("no such file")

    of_first(fail)


def test_what_the_first_raises_all_raise(together: Together) -> None:
    assert [str(error) for error in together(only_first_fails)] == ["no such file"] * SIZE


def judged(count: int) -> dict[str, Any]:
    """The verdict on an untrained network, of a target of ``count`` images."""
    task = context()
    source = cast(Labelled, task.batches.source)
    target = domain("target", 50, count)
    judge = Evaluator(source, source, target, DATA, torch.device("cpu"))
    return judge(task.fresh_network())


@pytest.mark.parametrize("count", [48, 47])
def test_an_evaluation_is_shared(together: Together, count: int) -> None:
    expected = judged(count)
    for found in together.alike(judged, count):
        assert found["accuracy"] == expected["accuracy"]
        assert found["scores"] == pytest.approx(expected["scores"], rel=1e-4)


def dies() -> None:
    if world().rank == 1:
        os._exit(1)
    of_all(0)


def test_a_process_that_dies_does_not_leave_the_other_waiting() -> None:
    with started() as processes, pytest.raises((RuntimeError, EOFError)):
        processes.alike(dies)


def test_alone_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if size:
            monkeypatch.setenv("WORLD_SIZE", size)
        with joined("cpu") as here:
            assert here == world() == World(0, 1) and not dist.is_initialized()


def test_an_environment_that_lacks_something_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="not RANK, LOCAL_RANK"), joined("cpu"):
        pass
