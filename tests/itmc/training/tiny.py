"""A tiny task in memory, with everything that a stage of training needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Batch, Batches, Unlabelled, split_source
from itmc.domains.store import Domain
from itmc.networks.build import Network, NetworkConfig
from itmc.training.adapt import Adapt
from itmc.training.config import TrainingConfig
from itmc.training.loop import train
from itmc.training.method import Node, Role, Start, knobs_of, method
from itmc.training.stage import Context, Handover, Stage

CLASSES, SIDE = 4, 16
DATA = DataConfig(
    image_size=SIDE, augment="shift", flip=False, test_crop=1.0, normalise="half"
)  # fmt: skip


# The pretraining that all methods share.
START = Start(*(Adapt.node(None, network=role, pretraining=True) for role in get_args(Role)))


def domain(name: str, tint: int, count: int = 48) -> Domain:
    """Noisy copies of one pattern a class; ``tint`` is what sets the domain apart."""
    patterns = np.random.default_rng(0).integers(0, 160, (CLASSES, SIDE, SIDE, 3))
    random = np.random.default_rng(tint)
    labels = np.arange(count, dtype=np.int64) % CLASSES
    noise = random.integers(0, 40, (count, SIDE, SIDE, 3))
    images = (patterns[labels] + noise + tint).astype(np.uint8)
    return Domain(name, images, labels, digest=name)


def context(seed: int = 0, **training: Any) -> Context:
    """The task for one seed; ``training`` changes the training's settings."""
    torch.set_num_threads(1)
    defaults = {
        "epochs": 4, "pretrain_epochs": 1, "steps_per_epoch": 3, "batch_size": 8,
        "lr": 0.05, "new_layer_lr": 1.0, "discriminator": 16,
    }  # fmt: skip
    config = TrainingConfig.model_validate(defaults | training)
    source, _ = split_source(domain("source", tint=10), 0.1, seed)
    images = domain("target", tint=50).images
    target = Unlabelled(images, np.arange(len(images)))
    network = NetworkConfig(bottleneck=12, classes=CLASSES, image_size=SIDE)
    cpu = torch.device("cpu")
    batches = Batches(source, target, DATA, config.batch_size, seed, cpu)
    return Context(network, config, batches, seed, cpu)


def recipe(name: str, compression: float = 0.5, **knobs: Any) -> Node:
    """The last stage of a method, after the pretraining that all methods share."""
    return method(name).recipe(knobs_of(name, knobs), compression, START)


def stage_of(node: Node, task: Context) -> Stage:
    """``node`` ready to train; what it starts from is at its initial weights."""
    inputs = {role: Handover(task.fresh_network(), {}) for role in node.inputs}
    return node.stage(node.knobs, task, inputs)


def run(stage: Stage, folder: Path) -> list[dict[str, Any]]:
    """Train ``stage`` to its end without evaluating it."""
    return train(stage, folder, evaluate=lambda network: {}, report=lambda done, epochs: None)


def one_step(stage: Stage, batch: Batch, progress: float) -> None:
    """What the loop does in a step."""
    stage.train_mode()
    losses = stage.losses(batch, progress)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    stage.after_backward()
    stage.update(progress)


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights and statistics."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def learners(stage: Stage) -> dict[str, Network]:
    """The networks of a stage by role, those that only guide besides."""
    return {role: learner.network for role, learner in stage.learners.items()} | dict(stage.guides)
