"""Mean teacher: a narrow student that agrees with the average of its own past."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.distillation import class_balance, consistency
from itmc.networks.build import Network
from itmc.training.adapt import learner
from itmc.training.config import TrainingConfig
from itmc.training.forward import both_domains, outputs
from itmc.training.method import Method, Node, Start, register
from itmc.training.narrow import NarrowKnobs, NarrowStage
from itmc.training.stage import Context, Handover, Passes


class Losses(NarrowKnobs):
    """What a step depends on; defaults of French et al.'s experiments on small images."""

    decay: float = Field(0.99, ge=0, lt=1)
    """Of the average of weights, a step."""
    weight: float = Field(3.0, ge=0)
    """Factor on the consistency of student and average on the target."""
    threshold: float = Field(0.968, ge=0, lt=1)
    """Images count of whose class the average is surer than this."""
    balance: float = Field(0.005, ge=0)
    """Factor on the balance of classes, beside ``weight``."""
    noise: float = Field(0.1, ge=0)
    """Deviation of the Gaussian noise on images, drawn apart for student and average."""


class Ensemble(NarrowStage):
    """CE(source) + weight [consistency(target) + balance L_balance(target)]; gives the average."""

    kind = "mean_teacher"

    class Knobs(Losses, NarrowStage.Knobs):
        """The budget besides."""

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        network = self.narrowed(inputs)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.learners = {"student": learner(network, None, context)}
        self.guides = {"average": self.average}

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> Passes:
        # The average goes forward only, and through the target only: a sixth of a step.
        return Passes(cls.length(knobs, training) * (1 + 1 / 6) * (1 - knobs.compression))

    @property
    def student(self) -> Network:
        return self.average

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        knobs = self.knobs
        noisy = Batch(self._noisy(batch.source), batch.labels, self._noisy(batch.target))
        network = self.learners["student"].network
        source, target = both_domains(network, noisy, self.context)
        with torch.no_grad():
            guide = outputs(self.average, self._noisy(batch.target), self.context)
        logits = target.logits, guide.logits, knobs.threshold
        return {
            "source_ce": F.cross_entropy(source.logits, batch.labels),
            "consistency": knobs.weight * consistency(*logits),
            "class_balance": knobs.weight * knobs.balance * class_balance(*logits),
        }

    @torch.no_grad()
    def update(self, progress: float) -> None:
        super().update(progress)
        latest = self.learners["student"].network.parameters()
        for mean, now in zip(self.average.parameters(), latest, strict=True):
            mean.lerp_(now, 1 - self.knobs.decay)

    def train_mode(self) -> None:
        super().train_mode()
        self.average.train()  # its BatchNorm sees the target alone, and keeps its statistics

    def state(self) -> dict[str, Any]:
        return super().state() | {"average": self.average.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.average.load_state_dict(state["average"])

    def _noisy(self, images: Tensor) -> Tensor:
        return images + self.knobs.noise * torch.randn_like(images)


@register
class MeanTeacher(Method):
    """Self-ensembling: consistency with an average of the student's weights over its steps.

    French et al. also shift images, for student and average apart; here both start from the batch
    that all methods see, and ``bn`` is the suite's. On narrow networks they are silent.
    """

    name = "mean_teacher"
    group = "baselines"
    label = "Mean teacher"
    citation = "Tarvainen and Valpola, NeurIPS 2017; for UDA French et al., ICLR 2018"
    Knobs = Losses

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        inputs = {} if start.student is None else {"student": start.student}
        return Node(Ensemble, Ensemble.Knobs(compression=compression, **knobs.model_dump()), inputs)
