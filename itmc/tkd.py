"""Transfer knowledge distillation (TKD): teacher and student adapt together, the teacher guides."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.config import Frozen
from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.losses.distillation import kd
from itmc.networks.build import Network, Outputs
from itmc.networks.modes import in_eval_mode
from itmc.training.forward import both_domains
from itmc.training.stage import Context, Learner


class TKDConfig(Frozen):
    """Knobs of TKD. The paper's values are not public; these are a reconstruction."""

    discrepancy: DiscrepancyName = "dan"
    """D, for teacher and student (reconstruction: MK-MMD)."""
    weight: float = Field(1.0, ge=0)
    """Factor on D, beside its ramp (reconstruction)."""
    temperature: float = Field(4.0, gt=0)
    """tau of the softened predictions (reconstruction)."""
    beta_first: float = Field(0.5, ge=0, le=1)
    """b0: the teacher's share in the student's loss at the start (reconstruction: from 0.1, with
    which the student is long left to itself, a pilot ended lower)."""
    beta_last: float = Field(0.9, gt=0, le=1)
    """b1: the teacher's share at the end (reconstruction)."""
    beta_ramp: Literal["geometric", "linear"] = "geometric"
    """How beta grows between them (reconstruction)."""
    target_kd: bool = True
    """Whether the teacher also guides on target images (reconstruction)."""
    target_trust: float = Field(0.0, ge=0)
    """A target image weighs in KD as much as the teacher's largest probability of it to this power;
    0: all weigh the same (reconstruction)."""
    feature_weight: float = Field(0.0, ge=0)
    """Factor on the distillation of channels that survive, beside beta; it needs a teacher of the
    student's own backbone (reconstruction)."""
    student_discrepancy: bool = True
    """Whether the student has D in its own loss (reconstruction)."""
    ramp: bool = True
    """Whether D follows the ramp gamma(p); off: full weight at once. The teacher's p goes on where
    its lead ended; the student's begins anew with its pruning, so that its D grows from 0 again,
    adapted as it is (reconstruction)."""
    teacher_logits: Literal["reuse", "fresh"] = "reuse"
    """Take the teacher's logits from the pass that trains it, or from one more in eval mode
    (reconstruction)."""

    def beta(self, progress: float) -> float:
        """beta(p) = b0 (b1 / b0)^p, or b0 + (b1 - b0) p: from own learning to guidance."""
        if self.beta_ramp == "linear":
            return self.beta_first + (self.beta_last - self.beta_first) * progress
        if self.beta_first == 0:
            return self.beta_last * progress  # the geometric ramp cannot leave zero
        return float(self.beta_first * (self.beta_last / self.beta_first) ** progress)


class TKD:
    """The losses of teacher and student on one batch."""

    def __init__(self, config: TKDConfig, context: Context) -> None:
        self._config, self._context = config, context

    def teacher_losses(
        self, teacher: Learner, batch: Batch, progress: float
    ) -> tuple[dict[str, Tensor], Outputs, Outputs]:
        """L_T = CE(T(x_s), y_s) + gamma D, and the outputs on source and target to guide with."""
        source, target = both_domains(teacher.network, batch, self._context)
        losses = {"teacher_ce": F.cross_entropy(source.logits, batch.labels)}
        if teacher.discrepancy is not None:
            strength = self._strength(progress)
            losses["teacher_discrepancy"] = teacher.discrepancy(
                source, target, batch.labels, strength
            )
        if self._config.teacher_logits == "fresh":
            source, target = self.guidance(teacher.network, batch)
        return losses, source, target

    @torch.no_grad()
    def guidance(self, teacher: Network, batch: Batch) -> tuple[Outputs, Outputs]:
        """Outputs of the teacher on source and target by a pass of its own, in eval mode."""
        with in_eval_mode(teacher):
            return both_domains(teacher, batch, self._context)

    def student_losses(
        self,
        student: Learner,
        guide_source: Outputs,
        guide_target: Outputs,
        batch: Batch,
        progress: float,
    ) -> dict[str, Tensor]:
        """L_TKD = (1 - beta) [CE + gamma D] + beta [KD(source) + KD(target)], term by term.

        The guides are the teacher's outputs; ``kd`` detaches them.
        """
        beta, tau = self._config.beta(progress), self._config.temperature
        source, target = both_domains(student.network, batch, self._context)
        losses = {
            "student_ce": (1 - beta) * F.cross_entropy(source.logits, batch.labels),
            "student_kd_source": beta * kd(source.logits, guide_source.logits, tau),
        }
        if self._config.target_kd:
            losses["student_kd_target"] = beta * kd(
                target.logits, guide_target.logits, tau, self._config.target_trust
            )
        if student.discrepancy is not None:
            strength = (1 - beta) * self._strength(progress)
            losses["student_discrepancy"] = student.discrepancy(
                source, target, batch.labels, strength
            )
        return losses

    def _strength(self, progress: float) -> float:
        """gamma, times the factor on D."""
        gamma = self._context.training.gamma(progress) if self._config.ramp else 1.0
        return self._config.weight * gamma
