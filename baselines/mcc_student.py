"""MCC student: a network of uniformly narrow layers, small from the start, trained with MCC."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.narrow import NarrowStudent


@register
class MCCStudent(NarrowStudent):
    """As `dan_student`, with minimum class confusion."""

    name = "mcc_student"
    label = "MCC student"
    citation = "Jin et al., ECCV 2020, on a network of uniform width multiplier"
    discrepancy = "mcc"
