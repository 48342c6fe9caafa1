"""ITMC: iterative transfer model compression. TKD and ACP alternate, epoch by epoch.

A reconstruction: only the abstract of the paper is public. What it fixes is in the docstrings of
``tkd`` and ``acp``; everything else is a named knob with a default.

    Algorithm (teacher T, student S, compression c)
    T adapts to the target for the share ``teacher_lead`` of its schedule; S starts as its copy
    for each epoch:
        for each batch:                                                          TKD
            T descends  L_T   = CE + gamma D
            S descends  L_TKD = (1 - beta) [CE + gamma D] + beta [KD(source) + KD(target)]
            importance of S's channels accumulates from dL_TKD
        prune S's least important channels down to the epoch's share of MACs     ACP
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from itmc.acp import ACP, ACPConfig, share_by
from itmc.domains.batches import Batch
from itmc.tkd import TKD, TKDConfig
from itmc.training.adapt import Adapt, learner
from itmc.training.config import TrainingConfig
from itmc.training.method import Method, Node, register
from itmc.training.stage import Context, Handover, Learner, Stage


class ITMCConfig(TKDConfig, ACPConfig):
    """Knobs of TKD and ACP, and how the teacher leads and lives on."""

    teacher_lead: float = Field(1.0, ge=0, le=1)
    """Share of the teacher's own schedule that is done before the student starts
    (reconstruction)."""
    teacher_rate: float = Field(0.1, ge=0)
    """Factor on the teacher's learning rate once the student has started (reconstruction)."""


class Alternate(Stage):
    """The alternation of TKD and ACP, with a live teacher."""

    kind = "itmc"

    class Knobs(ITMCConfig):
        """The budget, which the plan sets, besides."""

        compression: float = Field(ge=0, lt=1)

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        teacher = _start(inputs.get("teacher"), knobs.discrepancy, context)
        own_discrepancy = knobs.discrepancy if knobs.student_discrepancy else None
        student = _start(inputs.get("student"), own_discrepancy, context)
        self.learners = {"teacher": teacher, "student": student}
        self.tkd = TKD(knobs, context.training)
        self.acp = ACP(knobs, knobs.compression, context, student.network)

    @classmethod
    def kept(cls, knobs: Knobs, before: float) -> float:
        return 1 - knobs.compression

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> float:
        teacher = before * (4 / 3 if knobs.teacher_logits == "fresh" else 1)
        student = [
            1 - share_by(knobs, knobs.compression, training.epochs, epoch)
            for epoch in range(training.epochs)
        ]
        return training.epochs * teacher + sum(student)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One step of TKD: L_T for the teacher and L_TKD for the student."""
        teacher, student = self.learners["teacher"], self.learners["student"]
        teachers, source, target = self.tkd.teacher_losses(
            teacher, batch, self._teacher_progress(progress)
        )
        with self.acp.watch(self.student):
            students = self.tkd.student_losses(student, source, target, batch, progress)
        self._tkd_loss = sum(students.values(), start=batch.source.new_zeros(()))
        return teachers | students

    def after_backward(self, progress: float) -> None:
        self.acp.observe(self.student, self._tkd_loss)

    def update(self, progress: float) -> None:
        lead = self._teacher_progress(progress)
        self.learners["teacher"].optimiser.step(lead, scale=self.knobs.teacher_rate)
        self.learners["student"].optimiser.step(progress)

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """One event of ACP."""
        return self.acp.prune(self.learners["student"], epoch)

    def state(self) -> dict[str, Any]:
        return super().state() | {"acp": self.acp.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.acp.load_state(state["acp"], self.student)

    def _teacher_progress(self, progress: float) -> float:
        """Where the teacher is in its own schedule: it goes on where its lead ended."""
        return self.knobs.teacher_lead + (1 - self.knobs.teacher_lead) * progress


def _start(handover: Handover | None, discrepancy: Any, context: Context) -> Learner:
    network = context.fresh_network() if handover is None else copy.deepcopy(handover.network)
    started = learner(network, discrepancy, context)
    if started.discrepancy is not None and handover is not None and handover.discrepancy:
        started.discrepancy.load_state_dict(handover.discrepancy)
    return started


@register
class ITMC(Method):
    """Iterative transfer model compression."""

    name = "itmc"
    group = "itmc"
    label = "ITMC"
    citation = "Wang et al., Pattern Recognition 164 (2025) 111512; reconstruction"

    class Knobs(ITMCConfig):
        """Hyper-parameters; every one that the abstract leaves open is marked reconstruction."""

        student_start: Literal["handover", "initial"] = "handover"
        """Whether the student copies the teacher at the hand-over, or its initial weights
        (reconstruction)."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        values = knobs.model_dump(exclude={"student_start"})
        teacher = start
        if knobs.teacher_lead > 0:
            teacher = Adapt.node(
                start,
                discrepancy=knobs.discrepancy,
                weight=knobs.weight,
                until=knobs.teacher_lead,
                ramp=knobs.ramp,
            )
        student = teacher if knobs.student_start == "handover" else start
        roles = {"teacher": teacher, "student": student}
        return Node(
            Alternate,
            Alternate.Knobs(compression=compression, **values),
            {role: node for role, node in roles.items() if node is not None},
        )
