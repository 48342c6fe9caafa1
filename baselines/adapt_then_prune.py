"""Adapt, then prune: a two-step pipeline that compresses what it has adapted."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancyName
from itmc.pruning.shrink import PruningConfig, Shrink, SourceCriterion
from itmc.training.adapt import Adapt
from itmc.training.config import STUDENT_ROUNDS
from itmc.training.method import Method, Node, Start, register


@register
class AdaptThenPrune(Method):
    """UDA of the whole network, one-shot pruning by the source loss, UDA again of what is left.

    The first step is the shared adapted reference. The papers do not combine the two; the
    discrepancy is at full weight from the start of the second step, since the features are aligned
    already.
    """

    name = "adapt_then_prune"
    group = "baselines"
    label = "Adapt, then prune"
    citation = "Long et al., ICML 2015 (DAN), then Molchanov et al., ICLR 2017 (pruning)"

    class Knobs(PruningConfig):
        """Hyper-parameters."""

        discrepancy: DiscrepancyName = "dan"
        """How the network is adapted, before and after."""
        weight: float = Field(1.0, ge=0)
        """Factor on the discrepancy after pruning."""
        first_weight: float = Field(1.0, ge=0)
        """Factor on the discrepancy before, beside its ramp."""
        criterion: SourceCriterion = "taylor"
        """Importance by which channels are pruned."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        shape = knobs.model_dump(exclude={"discrepancy", "weight", "first_weight"})
        adapted = Adapt.node(
            start.student, discrepancy=knobs.discrepancy, weight=knobs.first_weight
        )
        return Adapt.node(
            adapted,
            discrepancy=knobs.discrepancy,
            weight=knobs.weight,
            ramp=False,
            continues=True,
            since=1.0,
            until=STUDENT_ROUNDS,
            horizon=STUDENT_ROUNDS,
            shrink=Shrink(compression=compression, **shape),
        )
