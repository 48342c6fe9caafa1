"""DAN student: a network of uniformly narrow layers, small from the start, trained with DAN."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.narrow import NarrowStudent


@register
class DANStudent(NarrowStudent):
    """What compression must beat: the budget spent on narrow layers, with no teacher."""

    name = "dan_student"
    label = "DAN student"
    citation = "Long et al., ICML 2015, on a network of uniform width multiplier"
    discrepancy = "dan"
