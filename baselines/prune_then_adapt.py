"""Prune, then adapt: a two-step pipeline that compresses before it sees the target."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancyName
from itmc.pruning.importance import CriterionName
from itmc.pruning.shrink import PruningConfig, Shrink
from itmc.training.adapt import Adapt
from itmc.training.method import Method, Node, register


@register
class PruneThenAdapt(Method):
    """One-shot pruning by the source loss, fine-tuning on the source, then UDA of what is left.

    Both steps together have the epochs that every method has, each with a schedule of its own.
    """

    name = "prune_then_adapt"
    group = "baselines"
    label = "Prune, then adapt"
    citation = "Molchanov et al., ICLR 2017 (pruning), then Long et al., ICML 2015 (DAN)"

    class Knobs(PruningConfig):
        discrepancy: DiscrepancyName = "dan"
        weight: float = Field(1.0, ge=0)
        """Factor on the discrepancy."""
        criterion: CriterionName = "taylor"
        recovery: float = Field(0.25, ge=0, le=0.5)
        """Share of the epochs that fine-tunes on the source before adapting."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        shape = knobs.model_dump(exclude={"discrepancy", "weight", "recovery"})
        pruned = Adapt.node(
            start,
            until=knobs.recovery,
            horizon=knobs.recovery,
            shrink=Shrink(compression=compression, **shape),
        )
        return Adapt.node(
            pruned, discrepancy=knobs.discrepancy, weight=knobs.weight, since=knobs.recovery
        )
