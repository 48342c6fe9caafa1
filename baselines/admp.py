"""ADMP: an adversarial soft mask and a hard one, brought together by ADMM, prune the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.losses.precision import at_least_float32
from itmc.training.adapt import Adapt, learner
from itmc.training.config import TrainingConfig
from itmc.training.distil import AdaptedTeacher
from itmc.training.forward import both_domains, outputs
from itmc.training.masking import Masking, Masks, MasksConfig
from itmc.training.method import Method, Node, Start, register
from itmc.training.stage import Context, Handover, Passes


class Losses(MasksConfig):
    """What the losses and the search depend on."""

    pseudo: float = Field(1.0, ge=0)
    """Factor on the cross-entropy to the teacher's labels of the target (reconstruction)."""
    threshold: float = Field(0.9, ge=0, lt=1)
    """Images have one of whose class the teacher is surer than this (reconstruction)."""
    divergence: float = Field(1.0, ge=0)
    """Factor on the output difference between teacher and student (reconstruction)."""


class DoubleMasks(Masking):
    """CE(source) + pseudo CE(target) + divergence D, and ADMM's penalty.

    D = mean over target images and classes of |softmax(T) - softmax(S)|. CE(target) is to the
    teacher's classes, averaged over all images, where those that it is unsure of count as zero.
    While masks are searched, S has the soft one inside: it descends all but D, which it ascends,
    where the weights descend all. Then S is cut, and its weights go on with the same losses.
    """

    kind = "admp"
    guided = True
    roles = ("teacher", "student")

    class Knobs(Losses):
        """The budget besides."""

        compression: float = Field(ge=0, lt=1)

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        self.guides = {"teacher": inputs["teacher"].network.eval().requires_grad_(False)}
        self.learners = {"student": learner(inputs["student"].network, None, context)}
        self.masks = Masks(knobs, knobs.compression, context, inputs["student"].network)

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> Passes:
        # In the search D goes backward once more, which is two thirds of a training pass. The
        # teacher only goes forward, and through the target only: a sixth.
        search = knobs.search_epochs(training.epochs)
        after = (training.epochs - search) * cls.kept(knobs, before)
        return Passes(search * (1 + 2 / 3) + after, training.epochs / 6)

    @property
    def first_epoch(self) -> int:
        # The student goes on with the batches after those that it was adapted with.
        return self.context.training.epochs

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        knobs, network = self.knobs, self.learners["student"].network
        with torch.no_grad():
            guide = outputs(self.guides["teacher"], batch.target, self.context).logits.softmax(1)
        with self.masks.applied():
            source, target = both_domains(network, batch, self.context)
        each = F.cross_entropy(target.logits, guide.argmax(1), reduction="none")
        difference = (at_least_float32(target.logits).softmax(1) - guide).abs().mean()
        divergence = knobs.divergence * difference
        self.masks.oppose(divergence)
        return {
            "source_ce": F.cross_entropy(source.logits, batch.labels),
            "pseudo_ce": knobs.pseudo * (each * (guide.amax(1) > knobs.threshold)).mean(),
            "divergence": divergence,
            "admm": self.masks.penalty(),
        }


@register
class ADMP(Method):
    """A reconstruction from the abstract, which is all that we had.

    It has: a full-size teacher that gives pseudo labels and, by its difference from the student's
    output, the domain divergence; an adversarial soft and a hard mask; ADMM between them. Ours are
    all formulas, values and schedules, who is adversarial to whom, and the adapted teacher.
    """

    name = "admp"
    group = "baselines"
    label = "ADMP"
    citation = (
        "Feng et al., ADMP: An Adversarial Double Masks Based Pruning Framework for Unsupervised "
        "Cross-Domain Compression, arXiv 2006.04127, 2020; reconstruction"
    )
    guided = True

    class Knobs(Losses, AdaptedTeacher):
        """Hyper-parameters."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        values = knobs.model_dump(include=set(Losses.model_fields))
        inputs = {
            "teacher": Adapt.node(start.teacher, network="teacher", **knobs.adaptation),
            "student": Adapt.node(start.student, **knobs.adaptation),
        }
        return Node(DoubleMasks, DoubleMasks.Knobs(compression=compression, **values), inputs)
