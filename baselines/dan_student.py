"""DAN student: a network of uniformly narrow layers, small from the start, trained with DAN."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itmc.pruning.shrink import PruningConfig, Shrink
from itmc.training.adapt import Adapt
from itmc.training.method import Method, Node, register


class NarrowKnobs(PruningConfig):
    """Hyper-parameters of a narrow student under UDA."""

    weight: float = Field(1.0, ge=0)
    """lambda, the factor on the discrepancy."""
    init: Literal["sliced", "scratch"] = "sliced"
    """Start from the first channels of the shared start, or from random weights."""
    cost_aware: Literal["none"] = "none"
    """Widths are uniform here, so that nothing is ranked."""


@register
class DANStudent(Method):
    """What compression must beat: the budget spent on narrow layers, with no teacher."""

    name = "dan_student"
    group = "baselines"
    label = "DAN student"
    citation = "Long et al., ICML 2015, on a network of uniform width multiplier"

    Knobs = NarrowKnobs

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        return narrow_student("dan", knobs, compression, start)


def narrow_student(
    discrepancy: str, knobs: NarrowKnobs, compression: float, start: Node | None
) -> Node:
    """A network narrowed by one factor in all layers to the budget, then adapted."""
    shape = knobs.model_dump(exclude={"weight"})
    narrow = Shrink(compression=compression, criterion="uniform", **shape)
    return Adapt.node(start, discrepancy=discrepancy, weight=knobs.weight, shrink=narrow)
