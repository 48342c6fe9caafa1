"""CDAN: conditional domain adversarial network, features and predictions aligned together."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from itmc.config import Frozen
from itmc.training.adapt import Adapt
from itmc.training.method import Method, Node, register


@register
class CDAN(Method):
    """min CE(source) + lambda (adversarial loss of a discriminator on f x g), eqs. 1-2 and 6-7.

    The adversarial strength follows the ramp gamma(p), as in the paper's section 4.1. Its 10-crop
    test is part of the `paper` protocol, not of this one.
    """

    name = "cdan"
    group = "references"
    label = "CDAN"
    citation = "Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018"
    compressed = False

    class Knobs(Frozen):
        weight: float = Field(1.0, ge=0)
        """lambda, the factor on the adversarial loss."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        return Adapt.node(start, discrepancy="cdan", weight=knobs.weight)
