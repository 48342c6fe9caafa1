"""DAN: deep adaptation network, the whole network aligned by MK-MMD."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class DAN(Reference):
    """min CE(source) + lambda MK-MMD (eq. 4), the discrepancy taken on the bottleneck.

    The paper adds the discrepancy of three fully connected layers of AlexNet; on networks with one
    bottleneck the field takes that layer. It learns the weights of the kernels, here all are
    alike. It fixes lambda by cross-validation, and is silent on a ramp; lambda times the ramp
    gamma(p) is what later UDA work does, and all methods here.
    """

    name = "dan"
    label = "DAN"
    citation = (
        "Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015"
    )
    discrepancy = "dan"
