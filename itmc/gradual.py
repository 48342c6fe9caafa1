"""Adapt while pruning: events of ACP, the student's loss being that of the adaptation alone.

It is what TCP does, and ITMC without a teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from itmc.acp import ACP, ACPConfig, share_by
from itmc.domains.batches import Batch
from itmc.losses.discrepancy import DiscrepancyName
from itmc.training.adapt import Adapt
from itmc.training.config import STUDENT_ROUNDS, TrainingConfig
from itmc.training.method import Node, Start
from itmc.training.stage import Context, Handover, Passes


class Gradual(Adapt):
    """CE on the source + gamma D, the network pruned at the ends of epochs."""

    kind = "gradual"
    version = 2

    class Knobs(Adapt.Knobs):
        """Those of the adaptation and of ACP."""

        discrepancy: DiscrepancyName = "dan"
        acp: ACPConfig
        compression: float = Field(ge=0, lt=1)

    knobs: Knobs

    def __init__(self, knobs: Knobs, context: Context, inputs: Mapping[str, Handover]) -> None:
        super().__init__(knobs, context, inputs)
        self.acp = ACP(knobs.acp, knobs.compression, context, self.student, self.epochs)

    @classmethod
    def kept(cls, knobs: Any, before: float) -> float:
        return 1 - float(knobs.compression)

    @classmethod
    def passes(cls, knobs: Any, training: TrainingConfig, before: float) -> Passes:
        epochs = cls.length(knobs, training)
        removed = [share_by(knobs.acp, knobs.compression, epochs, done) for done in range(epochs)]
        return Passes(sum(1 - share for share in removed))

    @classmethod
    def title(cls, knobs: Any) -> str:
        return f"adapt by {knobs.discrepancy} while pruning"

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        with self.acp.watch(self.student):
            losses = super().losses(batch, progress)
        self._loss = sum(losses.values(), start=batch.source.new_zeros(()))
        return losses

    def after_backward(self) -> None:
        self.acp.observe(self.student, self._loss)

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        return self.acp.prune(self.learners["student"], epoch)

    def state(self) -> dict[str, Any]:
        return super().state() | {"acp": self.acp.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.acp.load_state(state["acp"], self.student)


def gradual(
    start: Start, compression: float, acp: ACPConfig, lead: float = 1.0, **adaptation: Any
) -> Node:
    """Adapt the unpruned network for the share ``lead`` of its schedule, then prune as it adapts.

    ``adaptation``: knobs of ``Adapt``. The rate and the ramp begin anew with the pruning, which has
    what is left of a student's epochs.
    """
    adapted = Adapt.node(start.student, until=lead, **adaptation) if lead > 0 else start.student
    knobs = Gradual.Knobs(
        acp=acp, compression=compression, since=lead, until=STUDENT_ROUNDS, horizon=STUDENT_ROUNDS,
        continues=lead > 0, **adaptation,
    )  # fmt: skip
    return Node(Gradual, knobs, {} if adapted is None else {"network": adapted})
