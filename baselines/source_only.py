"""Source only: the whole network trained on the source, applied to the target as it is."""

from __future__ import annotations

from typing import Any

from itmc.training.adapt import Adapt
from itmc.training.method import Method, Node, Start, register


@register
class SourceOnly(Method):
    """The lower end of the references: no adaptation, no compression."""

    name = "source_only"
    group = "references"
    label = "Source only"
    citation = "the usual lower reference of UDA"
    compressed = False

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return Adapt.node(start.student)
