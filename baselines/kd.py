"""Plain knowledge distillation: from a frozen, adapted teacher to a student pruned in one shot."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.losses.distillation import kd
from itmc.pruning.importance import CriterionName
from itmc.pruning.shrink import PruningConfig, Shrink, shrink
from itmc.training.adapt import Adapt, learner, source_loss
from itmc.training.config import TrainingConfig
from itmc.training.method import Method, Node, register
from itmc.training.stage import Context, Handover, Stage, both_domains


class KDKnobs(PruningConfig):
    """Hyper-parameters; the paper (sec. 2) leaves alpha and tau to the task."""

    teacher: DiscrepancyName = "dan"
    """The discrepancy that the teacher was adapted with."""
    teacher_weight: float = Field(1.0, ge=0)
    """Factor on the teacher's discrepancy."""
    temperature: float = Field(4.0, gt=0)
    alpha: float = Field(0.9, ge=0, le=1)
    """Weight of the soft targets; 1 - alpha is left for the labelled source."""
    criterion: CriterionName = "taylor"


class Distil(Stage):
    """(1 - alpha) CE(source) + alpha [KD(source) + KD(target)], with a frozen teacher."""

    kind = "distil"

    class Knobs(KDKnobs):
        compression: float = Field(ge=0, lt=1)

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        self.teacher = inputs["teacher"].network.eval().requires_grad_(False)
        student = copy.deepcopy(self.teacher).requires_grad_(True)
        shape = knobs.model_dump(include=set(PruningConfig.model_fields) | {"criterion"})
        shrink(student, Shrink(compression=knobs.compression, **shape), context, source_loss)
        self.learners = {"student": learner(student, None, context)}

    @classmethod
    def kept(cls, knobs: Knobs, before: float) -> float:
        return 1 - knobs.compression

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> float:
        # The teacher only goes forward, a third of a training pass.
        return training.epochs * (cls.kept(knobs, before) + before / 3)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        alpha, tau = self.knobs.alpha, self.knobs.temperature
        with torch.no_grad():
            guide_source, guide_target = both_domains(self.teacher, batch, self.context.training)
        source, target = both_domains(self.student, batch, self.context.training)
        return {
            "source_ce": (1 - alpha) * F.cross_entropy(source.logits, batch.labels),
            "kd_source": alpha * kd(source.logits, guide_source.logits, tau),
            "kd_target": alpha * kd(target.logits, guide_target.logits, tau),
        }


@register
class KD(Method):
    """Hinton's distillation, the teacher being the adapted network of the same discrepancy.

    Published for labelled data of one domain; here the teacher also labels the target softly, as
    distillation in UDA does.
    """

    name = "kd"
    group = "baselines"
    label = "KD"
    citation = "Hinton et al., Distilling the Knowledge in a Neural Network, 2015"

    Knobs = KDKnobs

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        teacher = Adapt.node(start, discrepancy=knobs.teacher, weight=knobs.teacher_weight)
        stage_knobs = Distil.Knobs(compression=compression, **knobs.model_dump())
        return Node(Distil, stage_knobs, {"teacher": teacher})
