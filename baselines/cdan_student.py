"""CDAN student: a network of uniformly narrow layers, small from the start, trained with CDAN."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.narrow import NarrowStudent


@register
class CDANStudent(NarrowStudent):
    """As `dan_student`, with the conditional adversarial discrepancy."""

    name = "cdan_student"
    label = "CDAN student"
    citation = "Long et al., NeurIPS 2018, on a network of uniform width multiplier"
    discrepancy = "cdan"
