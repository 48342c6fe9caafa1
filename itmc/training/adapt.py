"""Supervised training on the source with, optionally, unsupervised adaptation to the target.

It is the whole of the upper references, the start that all methods share, the teacher that
distillation begins with, and the training of a student that was narrowed or pruned before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from itmc.config import Frozen
from itmc.domains.batches import Batch
from itmc.losses import discrepancy as discrepancies
from itmc.losses.discrepancy import Discrepancy, DiscrepancyName
from itmc.networks.build import Network
from itmc.pruning.shrink import Shrink, shrink
from itmc.seeding import seeded
from itmc.training.config import STUDENT_ROUNDS, TrainingConfig
from itmc.training.forward import both_domains, outputs
from itmc.training.method import Node, Role
from itmc.training.optim import Optimiser
from itmc.training.stage import Context, Handover, Learner, Passes, Stage


class Adapt(Stage):
    """CE on the source + gamma * D(source, target), with D none for source-only training."""

    kind = "adapt"
    roles = ("network",)

    class Knobs(Frozen):
        """What varies between the methods that use this stage."""

        discrepancy: DiscrepancyName | None = None
        weight: float = Field(1.0, ge=0)
        """Factor on the discrepancy, beside its ramp."""
        continues: bool = False
        """Go on with the discriminator of the stage before, which has the same discrepancy."""
        since: float = Field(0.0, ge=0, le=STUDENT_ROUNDS)
        until: float = Field(1.0, ge=0, le=STUDENT_ROUNDS)
        """The part of a run's epochs that this stage takes, in units of the suite's."""
        horizon: float = Field(1.0, ge=0, le=STUDENT_ROUNDS)
        """Where its schedules (rate and ramp) end, which begin at ``since``."""
        ramp: bool = True
        """Whether the discrepancy follows the ramp gamma(p); off: full weight at once."""
        pretraining: bool = False
        """Run the suite's ``pretrain_epochs`` instead, as the start that all methods share."""
        shrink: Shrink | None = None
        """Narrow or prune the network before training it."""

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        start = inputs.get("network") or Handover(context.fresh_network(), {})
        network, before = start.network, start.discrepancy if knobs.continues else None
        if knobs.shrink is not None:
            shrink(network, knobs.shrink, context, source_loss, self.domains(knobs))
        self.learners = {"student": learner(network, knobs.discrepancy, context, before)}

    @classmethod
    def node(cls, start: Node | None, network: Role = "student", **knobs: Any) -> Node:
        """This stage after ``start`` (or from the initial weights) for one of the two networks."""
        inputs = {} if start is None else {"network": start}
        return Node(cls, cls.Knobs(**knobs), inputs, network)

    @classmethod
    def length(cls, knobs: Knobs, training: TrainingConfig) -> int:
        if knobs.pretraining:
            return training.pretrain_epochs
        return round(training.epochs * knobs.until) - round(training.epochs * knobs.since)

    @property
    def first_epoch(self) -> int:
        # Two stages that divide the epochs between them see the batches that one would.
        return round(self.context.training.epochs * self.knobs.since)

    @classmethod
    def domains(cls, knobs: Knobs) -> int:
        return 2 if knobs.discrepancy else 1

    @classmethod
    def kept(cls, knobs: Knobs, before: float) -> float:
        return 1 - knobs.shrink.compression if knobs.shrink is not None else before

    @classmethod
    def passes(cls, knobs: Knobs, training: TrainingConfig, before: float) -> Passes:
        share = cls.domains(knobs) / 2
        return Passes(cls.length(knobs, training) * share * cls.kept(knobs, before))

    @classmethod
    def paper_crops(cls, knobs: Knobs, before: float) -> int:
        # CDAN's, for the whole network: students are this benchmark's.
        is_whole = cls.kept(knobs, before) == 1
        return 10 if is_whole and knobs.discrepancy in ("cdan", "cdan_e") else 1

    @classmethod
    def title(cls, knobs: Knobs) -> str:
        if knobs.pretraining:
            return "pretrain"
        goal = f"adapt by {knobs.discrepancy}" if knobs.discrepancy else "train on source"
        if knobs.shrink is None:
            return goal
        how = "narrow" if knobs.shrink.criterion == "uniform" else "prune"
        return f"{how} to c={knobs.shrink.compression:g}, {goal}"

    def progress(self, done: float) -> float:
        if self.knobs.pretraining:
            return done
        epochs = self.context.training.epochs
        return done * self.epochs / (round(epochs * self.knobs.horizon) - self.first_epoch)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        student, training = self.learners["student"], self.context.training
        if student.discrepancy is None:
            return {"source_ce": source_loss(student.network, batch, self.context)}
        source, target = both_domains(student.network, batch, self.context)
        strength = self.knobs.weight * (training.gamma(progress) if self.knobs.ramp else 1.0)
        return {
            "source_ce": F.cross_entropy(source.logits, batch.labels),
            "discrepancy": student.discrepancy(source, target, batch.labels, strength),
        }


def learner(
    network: Network,
    discrepancy: DiscrepancyName | None,
    context: Context,
    before: Mapping[str, Tensor] | None = None,
) -> Learner:
    """``network`` with a new optimiser, and the discrepancy called so (or none).

    ``before``: what the discrepancy had learnt (a discriminator, say) where this goes on.
    """
    term: Discrepancy | None = None
    if discrepancy is not None:
        config = context.network
        with seeded("discrepancy", discrepancy, context.seed):
            term = discrepancies.create(
                discrepancy, config.bottleneck, config.classes, context.training
            )
        if before:
            term.load_state_dict(before)
        term.to(context.device)
    return Learner(network, Optimiser(network, term, context.training), term)


def source_loss(network: Network, batch: Batch, context: Context) -> Tensor:
    """Cross-entropy of the labelled source images of ``batch``."""
    return F.cross_entropy(outputs(network, batch.source, context).logits, batch.labels)
