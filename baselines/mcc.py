"""MCC: minimum class confusion, the target's predictions made to tell classes apart."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancySettings
from itmc.training.method import register
from itmc.training.reference import Reference


@register
class MCC(Reference):
    """min CE(source) + mu L_MCC(target) (eq. 7).

    No domains are aligned. The paper has mu = 1 throughout and is silent on a ramp; here the ramp
    gamma(p) of all methods multiplies it.
    """

    name = "mcc"
    label = "MCC"
    citation = "Jin et al., Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020"
    discrepancy = "mcc"

    class Knobs(Reference.Knobs):
        """Hyper-parameters."""

        temperature: float = Field(2.5, gt=0)
        """T, by which the target's logits are divided."""

    @classmethod
    def settings(cls, knobs: Any) -> DiscrepancySettings:
        return DiscrepancySettings(mcc_temperature=knobs.temperature)
