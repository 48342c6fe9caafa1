"""DKD: decoupled knowledge distillation, of the true class and of the others apart."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.distillation import dkd
from itmc.training.distil import AdaptedTeacher, Distil, DistilConfig, distilled
from itmc.training.forward import both_domains
from itmc.training.method import Method, Node, Start, register


class Losses(DistilConfig):
    """What the losses of a step depend on; defaults of the paper's CIFAR-100 experiments."""

    temperature: float = Field(4.0, gt=0)
    """tau of the softened predictions."""
    alpha: float = Field(1.0, ge=0)
    """Weight of the distillation of the target class (TCKD)."""
    beta: float = Field(8.0, ge=0)
    """Weight of the distillation of the other classes (NCKD)."""
    warmup: float = Field(1 / 12, ge=0, le=1)
    """Share of the epochs over which the distillation rises to its full weight (20 of 240)."""


class Decoupled(Distil):
    """CE(source) + w(p) [DKD(source) + DKD(target)], w rising from 0 to 1 over the warm-up."""

    kind = "dkd"

    class Knobs(Losses, Distil.Knobs):
        """The budget besides."""

    knobs: Knobs

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        knobs = self.knobs
        weight = min(1.0, progress / knobs.warmup) if knobs.warmup else 1.0
        guide_source, guide_target = self.guidance(batch)
        source, target = both_domains(self.student, batch, self.context)
        settings = knobs.alpha, knobs.beta, knobs.temperature
        pseudo = guide_target.logits.argmax(1)
        return {
            "source_ce": F.cross_entropy(source.logits, batch.labels),
            "dkd_source": weight * dkd(source.logits, guide_source.logits, batch.labels, *settings),
            "dkd_target": weight * dkd(target.logits, guide_target.logits, pseudo, *settings),
        }


@register
class DKD(Method):
    """Decoupled distillation (eq. 7) from an adapted teacher, with CE of weight 1.

    Published for labelled data of one domain. The loss needs a class for each image: on the target,
    of which the paper is silent, it is the one that the teacher holds for most likely.
    """

    name = "dkd"
    group = "baselines"
    label = "DKD"
    citation = "Zhao et al., Decoupled Knowledge Distillation, CVPR 2022"
    guided = True

    class Knobs(Losses, AdaptedTeacher):
        """Hyper-parameters."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return distilled(Decoupled, knobs, compression, start, knobs.adaptation, knobs.adaptation)
