"""Distillation from a frozen teacher to a student that is brought to its budget before it starts.

Each method that distils so adds its losses: a subclass in its own file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from itmc.config import Frozen
from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.networks.build import Outputs
from itmc.pruning.shrink import PruningConfig, Shrink, SourceCriterion, shrink
from itmc.training.adapt import Adapt, learner, source_loss
from itmc.training.config import TrainingConfig
from itmc.training.forward import both_domains
from itmc.training.method import Node, Start
from itmc.training.stage import Context, Handover, Passes, Stage


class DistilConfig(PruningConfig):
    """What every such method has."""

    criterion: SourceCriterion = "taylor"
    """Importance by which the student is pruned in one shot."""


class AdaptedTeacher(Frozen):
    """How the networks are adapted that distillation begins with."""

    teacher: DiscrepancyName = "dan"
    """The discrepancy by which teacher and student were adapted before."""
    teacher_weight: float = Field(1.0, ge=0)
    """Factor on it, beside its ramp."""

    @property
    def adaptation(self) -> dict[str, Any]:
        """The knobs of ``Adapt`` that say so."""
        return {"discrepancy": self.teacher, "weight": self.teacher_weight}


class Distil(Stage):
    """One-shot pruning, then distillation; a subclass has the losses."""

    guided = True
    roles = ("teacher", "student")

    class Knobs(DistilConfig):
        """The budget, which the plan sets, besides."""

        compression: float = Field(ge=0, lt=1)

    def __init__(self, knobs: Any, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        self.guides = {"teacher": inputs["teacher"].network.eval().requires_grad_(False)}
        student = inputs["student"].network
        shape = knobs.model_dump(include=set(DistilConfig.model_fields))
        shrink(student, Shrink(compression=knobs.compression, **shape), context, source_loss)
        self.learners = {"student": learner(student, self.discrepancy(knobs), context)}

    @classmethod
    def discrepancy(cls, knobs: Any) -> DiscrepancyName | None:
        """That which the student lowers besides; none unless a subclass says so."""
        return None

    @classmethod
    def kept(cls, knobs: Any, before: float) -> float:
        return 1 - float(knobs.compression)

    @classmethod
    def passes(cls, knobs: Any, training: TrainingConfig, before: float) -> Passes:
        # The teacher only goes forward, a third of a training pass.
        return Passes(training.epochs * cls.kept(knobs, before), training.epochs / 3)

    @classmethod
    def title(cls, knobs: Any) -> str:
        return f"prune to c={knobs.compression:g}, distil"

    @property
    def first_epoch(self) -> int:
        # The student goes on with the batches after those that it was adapted with.
        return self.context.training.epochs

    @torch.no_grad()
    def guidance(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """The teacher's outputs on source and target."""
        return both_domains(self.guides["teacher"], batch, self.context)

    @abstractmethod
    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]: ...


def distilled(
    stage: type[Distil],
    knobs: Any,
    compression: float,
    start: Start,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
) -> Node:
    """``stage`` after a teacher and a student that were adapted so (knobs of ``Adapt``).

    With the student's own backbone as the teacher, and both adapted alike, they are one shared
    stage. Of ``knobs``, the method's, the stage takes those that it has.
    """
    values = knobs.model_dump(include=set(stage.Knobs.model_fields))
    return Node(
        stage,
        stage.Knobs(compression=compression, **values),
        {
            "teacher": Adapt.node(start.teacher, network="teacher", **teacher),
            "student": Adapt.node(start.student, **student),
        },
    )
