"""ITMC: iterative transfer model compression. TKD and ACP alternate, epoch by epoch.

A reconstruction: only the abstract of the paper is public. What it fixes is in the docstrings of
``tkd`` and ``acp``; everything else is a named knob with a default and, all but one, a row in
``ablations``.

    Algorithm (teacher T, student S, compression c)
    T adapts to the target for the share ``teacher_lead`` of its schedule; S starts adapted as far
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
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from itmc.acp import ACP, ACPConfig, share_by
from itmc.config import Frozen
from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.networks.build import Network
from itmc.pruning.shrink import WidthLimits, shrink
from itmc.survivors import SurvivorKD
from itmc.tkd import TKD, TKDConfig
from itmc.training.adapt import Adapt, learner, source_loss
from itmc.training.config import STUDENT_ROUNDS, TrainingConfig
from itmc.training.method import Method, Node, Start, register
from itmc.training.narrow import NarrowKnobs
from itmc.training.stage import Context, Handover, Learner, Passes, Stage


class LeadConfig(Frozen):
    """How the teacher leads and lives on, and where the student starts."""

    teacher_lead: float = Field(0.5, ge=0, le=1)
    """Share of the teacher's own schedule that is done before the student starts
    (reconstruction)."""
    teacher_rate: float = Field(3.0, ge=0)
    """Factor on the teacher's learning rate, which goes on with its schedule, once the student has
    started: with 3 it starts anew at 0.8 of its first rate. 0 freezes the teacher, whose logits
    then come by a pass of their own (reconstruction)."""
    teacher_settle: float = Field(1 / 3, gt=0)
    """Factor on that rate at the end, reached from 1 in even steps, so that the teacher comes to
    rest: with 3 and a third it ends at its usual rate. 1: it does not (reconstruction)."""
    teacher_average: float = Field(0.0, ge=0, lt=1)
    """Decay, a step, of an average of the live teacher's weights that guides in its place; 0: the
    teacher itself does (reconstruction)."""
    student_start: Literal["adapted", "initial"] = "adapted"
    """Whether the student is adapted as far as the teacher when it starts (with the student's own
    backbone as the teacher it is its copy), or has its initial weights (reconstruction). Without a
    lead the two are the same."""

    def rate(self, progress: float) -> float:
        """Factor on the teacher's learning rate, its student being at ``progress`` in [0, 1]."""
        return self.teacher_rate * (1 + (self.teacher_settle - 1) * progress)


class GuidedConfig(TKDConfig, LeadConfig):
    """Knobs of TKD and of the teacher."""

    @model_validator(mode="after")
    def _guided_once(self) -> Self:
        if self.teacher_average > 0 and (self.teacher_rate == 0 or self.teacher_logits == "fresh"):
            raise ValueError(
                "teacher_average is of a live teacher (teacher_rate above 0), and has a pass of "
                "its own (teacher_logits must be reuse)"
            )
        return self


class ITMCConfig(GuidedConfig, ACPConfig):
    """Knobs of TKD and ACP, and of the teacher."""


class Alternate(Stage):
    """The alternation of TKD and ACP."""

    kind = "itmc"
    version = 2
    guided = True
    roles = ("teacher", "student")

    class Knobs(ITMCConfig):
        """The budget, which the plan sets, besides."""

        compression: float = Field(ge=0, lt=1)
        narrow: bool = False
        """Narrow all layers of the student by one factor before it starts, and prune no more."""

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        teacher = inputs.get("teacher") or Handover(context.teacher.fresh_network(), {})
        student = inputs.get("student") or Handover(context.fresh_network(), {})
        if knobs.narrow:
            _narrow(student, knobs, context)
        own_discrepancy = knobs.discrepancy if knobs.student_discrepancy else None
        self.learners = {"student": _learner(student, own_discrepancy, context)}
        self.guide: Network | None = None  # unless it is the teacher, as it learns
        if knobs.teacher_rate > 0:
            self.learners["teacher"] = _learner(teacher, knobs.discrepancy, context)
        if knobs.teacher_rate == 0 or knobs.teacher_average > 0:
            self.guide = copy.deepcopy(teacher.network).eval().requires_grad_(False)
            self.guides = {"guide": self.guide}
        self.tkd = TKD(knobs, context)
        self.acp = ACP(knobs, knobs.compression, context, self.student, self.epochs)
        guide = self.guide or self.learners["teacher"].network
        self.survivors = SurvivorKD(knobs.feature_weight, guide, context)
        self._follow_survivors()

    @classmethod
    def length(cls, knobs: Knobs, training: TrainingConfig) -> int:
        # What is left of a student's epochs, whether the lead was the teacher's alone or not.
        return round(STUDENT_ROUNDS * training.epochs) - round(knobs.teacher_lead * training.epochs)

    @classmethod
    def kept(cls, knobs: Knobs, before: float) -> float:
        return 1 - knobs.compression

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> Passes:
        has_own_pass = knobs.teacher_logits == "fresh" or knobs.teacher_average > 0
        teacher = 1 + has_own_pass / 3 if knobs.teacher_rate > 0 else 1 / 3
        epochs = cls.length(knobs, training)
        pruned_by = [epochs] * epochs if knobs.narrow else range(epochs)
        student = sum(1 - share_by(knobs, knobs.compression, epochs, done) for done in pruned_by)
        return Passes(student, epochs * teacher)

    @classmethod
    def title(cls, knobs: Knobs) -> str:
        return "alternate TKD and ACP" if not knobs.narrow else "narrow, then TKD"

    @property
    def first_epoch(self) -> int:
        # The student goes on with the batches after those that it was adapted with.
        return round(self.context.training.epochs * self.knobs.teacher_lead)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One step of TKD: L_T for the teacher and L_TKD for the student."""
        teachers: dict[str, Tensor] = {}
        with self.survivors.watch(self.student):
            if "teacher" in self.learners:
                teachers, source, target = self.tkd.teacher_losses(
                    self.learners["teacher"], batch, self._teacher_progress(progress)
                )
            if self.guide is not None:
                source, target = self.tkd.guidance(self.guide, batch)
            with self.acp.watch(self.student):
                students = self.tkd.student_losses(
                    self.learners["student"], source, target, batch, progress
                )
        students |= self.survivors.losses(self.knobs.beta(progress))
        self._tkd_loss = sum(students.values(), start=batch.source.new_zeros(()))
        return teachers | students

    def after_backward(self) -> None:
        self.acp.observe(self.student, self._tkd_loss)

    def update(self, progress: float) -> None:
        self.learners["student"].optimiser.step(progress)
        if "teacher" in self.learners:
            lead = self._teacher_progress(progress)
            self.learners["teacher"].optimiser.step(lead, scale=self.knobs.rate(progress))
        if self.knobs.teacher_average > 0:
            self._follow_teacher()

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """One event of ACP."""
        event = self.acp.prune(self.learners["student"], epoch)
        self._follow_survivors()
        return event

    def state(self) -> dict[str, Any]:
        guide = {} if self.guide is None else {"guide": self.guide.state_dict()}
        return super().state() | {"acp": self.acp.state()} | guide

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.acp.load_state(state["acp"], self.student)
        if self.guide is not None:
            self.guide.load_state_dict(state["guide"])
        self._follow_survivors()

    def _follow_survivors(self) -> None:
        self.survivors.follow(self.student, self.acp.groups, self.acp.survivors)

    @torch.no_grad()
    def _follow_teacher(self) -> None:
        """One step of the guide towards the teacher; BatchNorm's statistics are the teacher's."""
        assert self.guide is not None
        teacher = self.learners["teacher"].network
        for mean, now in zip(self.guide.parameters(), teacher.parameters(), strict=True):
            mean.lerp_(now, 1 - self.knobs.teacher_average)
        for kept, latest in zip(self.guide.buffers(), teacher.buffers(), strict=True):
            kept.copy_(latest)

    def _teacher_progress(self, progress: float) -> float:
        """Where the teacher is in its own schedule: it goes on where its lead ended."""
        lead = self.first_epoch / self.context.training.epochs
        return lead + (1 - lead) * progress


def _learner(start: Handover, name: DiscrepancyName | None, context: Context) -> Learner:
    return learner(start.network, name, context, start.discrepancy)


def _narrow(student: Handover, knobs: Alternate.Knobs, context: Context) -> None:
    limits = knobs.model_dump(include=set(WidthLimits.model_fields))
    shape = NarrowKnobs(**limits).shape(knobs.compression)
    shrink(student.network, shape, context, source_loss)


@register
class ITMC(Method):
    """Iterative transfer model compression: a live teacher guides a student that is pruned.

    Each epoch teacher and student adapt to the target together and the teacher guides the student
    (TKD); then the channels of the student go that matter least to its TKD loss (ACP). Only the
    abstract of the paper is public: what it leaves open is marked "reconstruction", and has a row
    in the ablations.
    """

    name = "itmc"
    group = "itmc"
    label = "ITMC"
    citation = "Wang et al., Pattern Recognition 164 (2025) 111512; reconstruction"
    guided = True

    class Knobs(ITMCConfig):
        """Hyper-parameters; every one that the abstract leaves open is marked reconstruction."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return alternation(knobs, compression, start)


def alternation(knobs: Any, compression: float, start: Start, narrow: bool = False) -> Node:
    """The stages of ITMC: both networks adapt for the teacher's lead, then TKD and ACP alternate.

    The two leads are one shared stage where the teacher is the student's own backbone.
    """
    lead = {
        "discrepancy": knobs.discrepancy,
        "weight": knobs.weight,
        "until": knobs.teacher_lead,
        "ramp": knobs.ramp,
    }
    roles = {"teacher": start.teacher, "student": start.student}
    if knobs.teacher_lead > 0:
        roles["teacher"] = Adapt.node(start.teacher, network="teacher", **lead)
        if knobs.student_start == "adapted":
            roles["student"] = Adapt.node(start.student, **lead)
    return Node(
        Alternate,
        Alternate.Knobs(compression=compression, narrow=narrow, **knobs.model_dump()),
        {role: node for role, node in roles.items() if node is not None},
    )
