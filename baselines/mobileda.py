"""MobileDA: cross-domain distillation, a teacher of the source guides the student on the target."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.losses.distillation import kd
from itmc.training.config import TrainingConfig
from itmc.training.distil import Distil, DistilConfig, distilled
from itmc.training.forward import both_domains, outputs
from itmc.training.method import Method, Node, Start, register
from itmc.training.stage import Passes


class Losses(DistilConfig):
    """What the losses of a step depend on."""

    temperature: float = Field(2.0, gt=0)
    """tau of the softened predictions."""
    alpha: float = Field(0.7, ge=0)
    """Weight of the distillation on the target."""
    align: DiscrepancyName = "coral"
    """The discrepancy that the student lowers."""
    weight: float = Field(0.3, ge=0)
    """Factor on it."""


class CrossDomain(Distil):
    """CE(source) + alpha KD(target) + weight D(source, target)."""

    kind = "mobileda"
    version = 2

    class Knobs(Losses, Distil.Knobs):
        """The budget besides."""

    knobs: Knobs

    @classmethod
    def discrepancy(cls, knobs: Knobs) -> DiscrepancyName:
        return knobs.align

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> Passes:
        # The teacher goes forward only, and through the target only: a sixth of a step.
        return Passes(training.epochs * cls.kept(knobs, before), training.epochs / 6)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        knobs, student = self.knobs, self.learners["student"]
        assert student.discrepancy is not None
        with torch.no_grad():
            guide = outputs(self.guides["teacher"], batch.target, self.context)
        source, target = both_domains(student.network, batch, self.context)
        distillation = kd(target.logits, guide.logits, knobs.temperature)
        return {
            "source_ce": F.cross_entropy(source.logits, batch.labels),
            "kd_target": knobs.alpha * distillation,
            "discrepancy": student.discrepancy(source, target, batch.labels, knobs.weight),
        }


@register
class MobileDA(Method):
    """A frozen teacher that knows the source alone labels the target softly for the student.

    The authors have published no code, and of the paper's weights and of where CORAL stands we know
    from others' implementations only, which differ: weights 0.7 and 0.3, temperature 2 and CORAL on
    features are those of one of them. That one leaves the factor tau^2 out, here it is in. The
    student is pruned from the source-only network in one shot; the paper's is small by design.
    """

    name = "mobileda"
    group = "baselines"
    label = "MobileDA"
    citation = (
        "Yang et al., MobileDA: Toward Edge-Domain Adaptation, IEEE Internet of Things Journal, "
        "2020"
    )
    guided = True

    Knobs = Losses

    @classmethod
    def adapted_by(cls, knobs: Any) -> str | None:
        return str(knobs.align)

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return distilled(CrossDomain, knobs, compression, start, teacher={}, student={})
