"""The stages whose steps are measured: those that runs train, on synthetic images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Batches, Unlabelled, split_source, trained_rows
from itmc.losses.discrepancy import Discrepancy
from itmc.networks.build import Network, NetworkConfig
from itmc.networks.compute import Compute
from itmc.pruning.shrink import Shrink, WidthLimits, shrink
from itmc.training.adapt import source_loss
from itmc.training.config import TrainingConfig
from itmc.training.method import Start, knobs_of, method
from itmc.training.stage import Context, Handover, Stage
from suites.bench.domains import CLASSES, Domains

_SEED = 0


@dataclass(frozen=True)
class Settings:
    """What all steps have in common."""

    backbone: str
    image_size: int
    batch: int
    """Images of each domain in a step."""
    device: torch.device
    compute: Compute
    """Of our steps."""


def context_of(
    settings: Settings, domains: Domains, bn: Literal["joint", "split"] = "joint"
) -> Context:
    """What a stage of a run on ``domains`` is given. UsageError where there is no such network."""
    training = TrainingConfig(
        batch_size=settings.batch, bn=bn, precision=settings.compute.precision
    )
    data = DataConfig(image_size=settings.image_size)
    source, _ = split_source(domains.source, data.source_holdout, _SEED)
    target = Unlabelled(domains.target.images, trained_rows(domains.target))
    batches = Batches(source, target, data, settings.batch, _SEED, settings.device)
    network = NetworkConfig(
        backbone=settings.backbone, classes=CLASSES, image_size=settings.image_size
    )
    return Context(network, training, batches, _SEED, settings.device, compute=settings.compute)


def stage_of(
    name: str,
    compression: float,
    final: float,
    context: Context,
    changes: Mapping[str, Any] | None = None,
) -> Stage:
    """The last stage of method ``name`` on its way to ``final``, when its student is at
    ``compression``.

    Which channels are gone by then is no matter: those of the smallest weights. ``changes``: of
    the method's hyper-parameters.
    """
    node = method(name).recipe(knobs_of(name, changes or {}), final, Start(None, None))
    inputs = {}
    if compression > 0:
        student = context.fresh_network()
        limits = node.knobs.model_dump(include=set(WidthLimits.model_fields))
        cut = Shrink(compression=compression, criterion="l2", importance_batches=1, **limits)
        shrink(student, cut, context, source_loss)
        inputs["student"] = Handover(student, {})
    stage = node.stage(node.knobs, context, inputs)
    stage.train_mode()
    return stage


def networks_of(stage: Stage) -> dict[str, Network]:
    """The networks that learn, by role."""
    return {role: learner.network for role, learner in stage.learners.items()}


def discrepancies_of(stage: Stage) -> dict[str, Discrepancy]:
    """Their discrepancies, by role."""
    return {
        role: learner.discrepancy
        for role, learner in stage.learners.items()
        if learner.discrepancy is not None
    }
