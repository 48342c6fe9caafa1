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
    is the default here, on the ramp gamma(p) of all methods. Features are the suite's bottleneck
    (theirs: 1024 wide with dropout), and the adversarial classifier has one hidden layer.
    """

    name = "mdd"
    label = "MDD"
    citation = "Zhang et al., Bridging Theory and Algorithm for Domain Adaptation, ICML 2019"
    discrepancy = "mdd"

    class Knobs(Reference.Knobs):
        """Hyper-parameters."""

        weight: float = Field(0.1, ge=0)
        """Strength of the gradient reversal, beside the ramp gamma(p)."""
        margin: float = Field(4.0, gt=0)
        """gamma, the factor on the source's part of the disparity (2 to 4 in the paper)."""

    @classmethod
    def settings(cls, knobs: Any) -> DiscrepancySettings:
        return DiscrepancySettings(mdd_margin=knobs.margin)
