"""MDD: margin disparity discrepancy, a second classifier that disagrees on the target alone."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancySettings
from itmc.training.method import register
from itmc.training.reference import Reference


@register
class MDD(Reference):
    """min CE(source) + (disparity of an adversarial classifier, by gradient reversal).

    The paper is silent on the strength of the reversal; in the authors' code it rises to 0.1, which
    a weight of 1 stands for here, on the ramp gamma(p) of all methods. Features are the suite's
    bottleneck (theirs: 1024 wide with dropout). The adversarial classifier has a hidden layer, the
    main one is linear, as all methods have it; theirs both have one.
    """

    name = "mdd"
    label = "MDD"
    citation = "Zhang et al., Bridging Theory and Algorithm for Domain Adaptation, ICML 2019"
    discrepancy = "mdd"

    class Knobs(Reference.Knobs):
        """Hyper-parameters."""

        margin: float = Field(4.0, gt=0)
        """gamma, the factor on the source's part of the disparity (2 to 4 in the paper)."""

    @classmethod
    def settings(cls, knobs: Any) -> DiscrepancySettings:
        return DiscrepancySettings(mdd_margin=knobs.margin)
