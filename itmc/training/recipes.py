"""Recipes that several methods share: the adapted whole network, and the narrow student."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from itmc.config import Frozen
from itmc.losses.discrepancy import DiscrepancyName, DiscrepancySettings
from itmc.pruning.shrink import Shrink, WidthLimits
from itmc.training.adapt import Adapt
from itmc.training.config import STUDENT_ROUNDS
from itmc.training.method import Method, Node, Start


class Reference(Method):
    """An upper reference: the whole network adapted by one discrepancy, and not compressed."""

    group = "references"
    compressed = False
    discrepancy: ClassVar[DiscrepancyName]

    class Knobs(Frozen):
        """Hyper-parameters."""

        weight: float = Field(1.0, ge=0)
        """lambda, the factor on the discrepancy, beside the ramp gamma(p)."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return Adapt.node(
            start.student,
            discrepancy=cls.discrepancy,
            weight=knobs.weight,
            settings=cls.settings(knobs),
        )

    @classmethod
    def settings(cls, knobs: Any) -> DiscrepancySettings:
        """What the discrepancy depends on besides."""
        return DiscrepancySettings()


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
