"""MCC: minimum class confusion, the target's predictions made to tell classes apart."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class MCC(Reference):
    """min CE(source) + mu L_MCC(target) (eq. 7).

    No domains are aligned. The paper has mu = 1 throughout and is silent on a ramp; here the ramp
    gamma(p) of all methods multiplies it. The temperature T is the suite's, as for all that adapt
    so: training.mcc_temperature.
    """

    name = "mcc"
    label = "MCC"
    citation = "Jin et al., Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020"
    discrepancy = "mcc"
