"""Plain knowledge distillation: from a frozen, adapted teacher to a student pruned in one shot."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.distillation import kd
from itmc.training.distil import AdaptedTeacher, Distil, DistilConfig, distilled
from itmc.training.forward import both_domains
from itmc.training.method import Method, Node, Start, register


class Losses(DistilConfig):
    """What the losses of a step depend on."""

    temperature: float = Field(4.0, gt=0)
    """tau of the softened predictions."""
    alpha: float = Field(0.9, ge=0, le=1)
    """Weight of the soft targets; 1 - alpha is left for the labelled source."""


class PlainKD(Distil):
    """(1 - alpha) CE(source) + alpha [KD(source) + KD(target)]."""

    kind = "kd"

    class Knobs(Losses, Distil.Knobs):
        """The budget besides."""

    knobs: Knobs

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        alpha, tau = self.knobs.alpha, self.knobs.temperature
        guide_source, guide_target = self.guidance(batch)
        source, target = both_domains(self.student, batch, self.context)
        return {
            "source_ce": (1 - alpha) * F.cross_entropy(source.logits, batch.labels),
            "kd_source": alpha * kd(source.logits, guide_source.logits, tau),
            "kd_target": alpha * kd(target.logits, guide_target.logits, tau),
        }


@register
class KD(Method):
    """Hinton's distillation (sec. 2), the teacher being an adapted network.

    Published for labelled data of one domain; here the teacher also labels the target softly, as
    distillation in UDA does. The paper leaves alpha and tau to the task.
    """

    name = "kd"
    group = "baselines"
    label = "KD"
    citation = "Hinton et al., Distilling the Knowledge in a Neural Network, 2015"
    guided = True

    class Knobs(Losses, AdaptedTeacher):
        """Hyper-parameters."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return distilled(PlainKD, knobs, compression, start, knobs.adaptation, knobs.adaptation)
