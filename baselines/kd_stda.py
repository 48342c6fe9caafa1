"""KD-STDA: the teacher adapts and, at the same time, teaches a small student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.losses.distillation import kd
from itmc.training.adapt import learner
from itmc.training.config import TrainingConfig
from itmc.training.forward import both_domains
from itmc.training.method import Method, Node, Start, register
from itmc.training.narrow import NarrowKnobs, NarrowStage
from itmc.training.stage import Context, Handover, Passes


class Losses(NarrowKnobs):
    """What the losses of a step depend on; defaults of the authors' code."""

    discrepancy: DiscrepancyName = "dan"
    """How the teacher is adapted (the paper: MMD)."""
    weight: float = Field(1.0, ge=0)
    """Factor on the discrepancy, beside its ramp gamma(p)."""
    temperature: float = Field(20.0, gt=0)
    """tau of the softened predictions."""
    alpha: float = Field(0.3, ge=0, le=1)
    """Weight of the soft targets on the source; 1 - alpha is left for its labels."""
    beta_first: float = Field(0.1, gt=0, le=1)
    """Weight of the student's losses, against the teacher's, at the start."""
    beta_last: float = Field(0.9, gt=0, le=1)
    """And at the end; it grows exponentially between."""


class Joint(NarrowStage):
    """(1 - beta) L_teacher + beta L_student, beta growing exponentially.

    L_teacher = CE(T(x_s)) + gamma D(T),
    L_student = alpha KD(source) + (1 - alpha) CE(S(x_s)) + KD(target).
    """

    kind = "kd_stda"
    guided = True
    roles = ("teacher", "student")

    class Knobs(Losses, NarrowStage.Knobs):
        """The budget besides."""

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        teacher = inputs.get("teacher") or Handover(context.teacher.fresh_network(), {})
        self.learners = {
            "student": learner(self.narrowed(inputs), None, context),
            "teacher": learner(teacher.network, knobs.discrepancy, context),
        }

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> Passes:
        epochs = cls.length(knobs, training)
        return Passes(epochs * (1 - knobs.compression), epochs)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        knobs, training = self.knobs, self.context.training
        beta = knobs.beta_first * (knobs.beta_last / knobs.beta_first) ** progress
        teacher = self.learners["teacher"]
        assert teacher.discrepancy is not None
        guide_source, guide_target = both_domains(teacher.network, batch, self.context)
        source, target = both_domains(self.student, batch, self.context)
        strength = knobs.weight * training.gamma(progress)
        divergence = teacher.discrepancy(guide_source, guide_target, batch.labels, strength)
        alpha, tau = knobs.alpha, knobs.temperature
        return {
            "teacher_ce": (1 - beta) * F.cross_entropy(guide_source.logits, batch.labels),
            "teacher_discrepancy": (1 - beta) * divergence,
            "student_ce": beta * (1 - alpha) * F.cross_entropy(source.logits, batch.labels),
            "student_kd_source": beta * alpha * kd(source.logits, guide_source.logits, tau),
            "student_kd_target": beta * kd(target.logits, guide_target.logits, tau),
        }


@register
class KDSTDA(Method):
    """Joint progressive distillation and UDA for a single target, with a fixed narrow student.

    Both networks have an optimiser of their own, and no gradient of the distillation reaches the
    teacher; the published code's KL runs from student to teacher, the paper's and this the other
    way. The code passes the images through the teacher once more, after its step; here the student
    learns from the pass that trains it. The paper leaves the student's architecture to the user.
    """

    name = "kd_stda"
    group = "baselines"
    label = "KD-STDA"
    citation = "Nguyen-Meidine et al., Joint Progressive KD and UDA, IJCNN 2020"
    guided = True
    Knobs = Losses

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        roles = {"teacher": start.teacher, "student": start.student}
        inputs = {role: node for role, node in roles.items() if node is not None}
        return Node(Joint, Joint.Knobs(compression=compression, **knobs.model_dump()), inputs)
