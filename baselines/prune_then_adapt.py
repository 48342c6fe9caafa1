"""Prune, then adapt: a two-step pipeline that compresses before it sees the target."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancyName
from itmc.pruning.shrink import PruningConfig, Shrink, SourceCriterion
from itmc.training.adapt import Adapt
from itmc.training.config import STUDENT_ROUNDS
from itmc.training.method import Method, Node, Start, register


@register
class PruneThenAdapt(Method):
    """One-shot pruning by the source loss, fine-tuning on the source, then UDA of what is left.

    Together they have the epochs that every student has, each with a schedule of its own. Where the
    start has a head at random, over a pretrained backbone, half of the fine-tuning comes before the
    cut: the gradient of a loss behind such a head says nothing of a channel. The papers do not
    combine pruning and UDA; how the epochs are divided is ours.
    """

    name = "prune_then_adapt"
    group = "baselines"
    label = "Prune, then adapt"
    citation = "Molchanov et al., ICLR 2017 (pruning), then Long et al., ICML 2015 (DAN)"

    class Knobs(PruningConfig):
        """Hyper-parameters."""

        discrepancy: DiscrepancyName = "dan"
        """How the pruned network is adapted."""
        weight: float = Field(1.0, ge=0)
        """Factor on the discrepancy, beside its ramp."""
        criterion: SourceCriterion = "taylor"
        """Importance by which channels are pruned."""
        recovery: float = Field(0.25, ge=0, le=0.5)
        """Share of the student's epochs that trains on the source before adapting."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        shape = knobs.model_dump(exclude={"discrepancy", "weight", "recovery"})
        recovered = knobs.recovery * STUDENT_ROUNDS
        network, cut = start.student, 0.0
        if network is None:
            cut = recovered / 2
            network = Adapt.node(None, until=cut, horizon=cut)
        pruned = Adapt.node(
            network,
            since=cut,
            until=recovered,
            horizon=recovered,
            shrink=Shrink(compression=compression, **shape),
        )
        return Adapt.node(
            pruned,
            discrepancy=knobs.discrepancy,
            weight=knobs.weight,
            since=recovered,
            until=STUDENT_ROUNDS,
            horizon=STUDENT_ROUNDS,
        )
