"""CDAN student: a network of uniformly narrow layers, small from the start, trained with CDAN."""

from __future__ import annotations

from typing import Any

from baselines.dan_student import NarrowKnobs, narrow_student
from itmc.training.method import Method, Node, register


@register
class CDANStudent(Method):
    """As `dan_student`, with the conditional adversarial discrepancy."""

    name = "cdan_student"
    group = "baselines"
    label = "CDAN student"
    citation = "Long et al., NeurIPS 2018, on a network of uniform width multiplier"

    Knobs = NarrowKnobs

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Node | None) -> Node:
        return narrow_student("cdan", knobs, compression, start)
