"""DAN: deep adaptation network, the whole network aligned by MK-MMD."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.config import Frozen
from itmc.training.adapt import Adapt
from itmc.training.method import Method, Node, register


@register
class DAN(Method):
    """min CE(source) + lambda MK-MMD (eq. 4), the discrepancy taken on the bottleneck.

    The paper adds the discrepancy of three fully connected layers of AlexNet; on networks with
    one bottleneck the field takes that layer. The paper fixes lambda by cross-validation; here
    it follows the ramp gamma(p) that later UDA work uses, times ``weight``.
    """

    name = "dan"
    group = "references"
    label = "DAN"
    citation = (
        "Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015"
    )
    compressed = False

    class Knobs(Frozen):
        weight: float = Field(1.0, ge=0)
        """lambda, the factor on the discrepancy."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        return Adapt.node(start, discrepancy="dan", weight=knobs.weight)
