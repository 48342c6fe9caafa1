"""Narrow students: small from the start, each layer by the same factor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancyName
from itmc.networks.build import Network
from itmc.pruning.shrink import Shrink, WidthLimits, shrink
from itmc.training.adapt import Adapt, source_loss
from itmc.training.config import STUDENT_ROUNDS, TrainingConfig
from itmc.training.method import Method, Node, Start
from itmc.training.stage import Handover, Stage


class NarrowKnobs(WidthLimits):
    """A student whose layers are all narrowed by one factor, found by bisection to the budget."""

    init: Literal["sliced", "scratch"] = "sliced"
    """Start from the first channels of the shared start, or from random weights."""

    def shape(self, compression: float) -> Shrink:
        """How the student is narrowed."""
        values = self.model_dump(include=set(NarrowKnobs.model_fields))
        return Shrink(compression=compression, criterion="uniform", **values)


class NarrowStudent(Method):
    """What compression must beat: the budget spent on narrow layers under UDA, with no teacher."""

    group = "baselines"
    discrepancy: ClassVar[DiscrepancyName]

    class Knobs(NarrowKnobs):
        """Hyper-parameters."""

        weight: float = Field(1.0, ge=0)
        """lambda, the factor on the discrepancy, beside the ramp gamma(p)."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return Adapt.node(
            start.student,
            discrepancy=cls.discrepancy,
            weight=knobs.weight,
            shrink=knobs.shape(compression),
            until=STUDENT_ROUNDS,
            horizon=STUDENT_ROUNDS,
        )


class NarrowStage(Stage):
    """A stage that trains a narrow student from its start to its end."""

    class Knobs(NarrowKnobs):
        """The budget, which the plan sets, besides."""

        compression: float = Field(ge=0, lt=1)

    knobs: Any

    def narrowed(self, inputs: Mapping[str, Handover]) -> Network:
        """The student at its start."""
        network = inputs["student"].network if "student" in inputs else self.context.fresh_network()
        shrink(network, self.knobs.shape(self.knobs.compression), self.context, source_loss)
        return network

    @classmethod
    def length(cls, knobs: Any, training: TrainingConfig) -> int:
        return round(STUDENT_ROUNDS * training.epochs)

    @classmethod
    def kept(cls, knobs: Any, before: float) -> float:
        return 1 - float(knobs.compression)
