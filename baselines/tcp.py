"""TCP: transfer channel pruning, in steps, by what matters to both domains."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.acp import ACPConfig
from itmc.gradual import gradual
from itmc.losses.discrepancy import DiscrepancyName
from itmc.pruning.importance import CriterionName
from itmc.pruning.schedule import ScheduleName
from itmc.training.method import Method, Node, Start, register


@register
class TCP(Method):
    """Adapt the whole network; then prune in steps, adapting between, until the budget is met.

    The loss is CE(source) + beta MMD. The importance of a channel is a Taylor expansion of that
    loss, for each domain by itself, normalised a layer at a time, of which the lesser counts: a
    channel that does without one of the domains goes first.

    Their code removes 32 channels at a time and fine-tunes 5 epochs between; here each epoch ends
    with the removal of the same share of MACs. It ranks by the last batch alone, a slip; here all
    batches of the epoch count, and no earlier ones (momentum 0). The loss has the ramp gamma(p) of
    all methods, which begins anew with the pruning. The paper measures channels, this benchmark
    MACs, and is silent on layers that its VGG16 has not: coupled channels are judged and removed
    together.
    """

    name = "tcp"
    group = "baselines"
    label = "TCP"
    citation = (
        "Yu et al., Accelerating Deep Unsupervised Domain Adaptation with Transfer Channel "
        "Pruning, IJCNN 2019"
    )

    class Knobs(ACPConfig):
        """Hyper-parameters."""

        discrepancy: DiscrepancyName = "dan"
        """How the network is adapted (the paper: MK-MMD)."""
        weight: float = Field(1.0, ge=0)
        """Factor on the discrepancy, beside its ramp."""
        criterion: CriterionName = "taylor_min"
        """Importance of a channel."""
        schedule: ScheduleName = "linear"
        """How the pruned share grows with the epoch."""
        momentum: float = Field(0.0, ge=0, lt=1)
        """Weight of earlier events in the average of importance."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        acp = ACPConfig(**knobs.model_dump(include=set(ACPConfig.model_fields)))
        return gradual(start, compression, acp, discrepancy=knobs.discrepancy, weight=knobs.weight)
