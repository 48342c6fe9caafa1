"""What the upper references have in common: the whole network, adapted by one discrepancy."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from itmc.config import Frozen
from itmc.losses.discrepancy import DiscrepancyName
from itmc.training.adapt import Adapt
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
        return Adapt.node(start.student, discrepancy=cls.discrepancy, weight=knobs.weight)
