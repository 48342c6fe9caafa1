"""How much a unit of coupled channels matters.

    name         score of a unit                          needs         taken over its
    taylor       | sum z dL/dz |                          gradients     norms, else producers
    taylor_min   the lesser of | sum z dL/dz | by domain  activations   norms, else producers
    taylor_source, taylor_target   that of one domain     activations   norms, else producers
    l1           sum |w|                                  weights       producers
    l2           sqrt(sum w^2)                            weights       producers
    bn_scale     sum |gamma|                              weights       norms, else UsageError
    fpgm         sum over filters j of |w - w_j|_2        weights       producers
    random       a draw from [0, 1)                       the seed
    uniform      position, counted from the layer's end   nothing

Norms are BatchNorms and others that treat each unit by itself, producers convolutions and linear
layers (``judges``). All but the last two are normalised: divided by the norm of a group's scores.
Those that need gradients or activations are means over the batches observed. Papers and equations
are with the classes. ``itmc.pruning.cost_aware`` divides scores by what removing a unit saves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from itmc.errors import UsageError
from itmc.pruning.importance.by_domain import TaylorMin, TaylorSource, TaylorTarget
from itmc.pruning.importance.criterion import Criterion, LayerScale, Scores, comparable, normalised
from itmc.pruning.importance.references import Random, Uniform
from itmc.pruning.importance.taylor import Taylor
from itmc.pruning.importance.weights import FPGM, L1, L2, BNScale

__all__ = [
    "FPGM",
    "L1",
    "L2",
    "BNScale",
    "Criterion",
    "CriterionName",
    "LayerScale",
    "Random",
    "Scores",
    "Taylor",
    "TaylorMin",
    "TaylorSource",
    "TaylorTarget",
    "Uniform",
    "comparable",
    "create",
    "normalised",
]

CriterionName = Literal[
    "taylor", "taylor_min", "taylor_source", "taylor_target",
    "l1", "l2", "bn_scale", "fpgm", "random", "uniform",
]  # fmt: skip


def create(name: str, seed: int = 0) -> Criterion:
    """The criterion called ``name``; ``seed`` matters to ``random`` only."""
    criteria: dict[str, Callable[[], Criterion]] = {
        "taylor": Taylor,
        "taylor_min": TaylorMin,
        "taylor_source": TaylorSource,
        "taylor_target": TaylorTarget,
        "l1": L1,
        "l2": L2,
        "bn_scale": BNScale,
        "fpgm": FPGM,
        "random": lambda: Random(seed),
        "uniform": Uniform,
    }
    if name not in criteria:
        raise UsageError(f"unknown criterion {name!r}; allowed: {', '.join(criteria)}")
    return criteria[name]()
