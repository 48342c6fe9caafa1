"""How much is pruned by when: the share of MACs to have removed, as a function of the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

from itmc.errors import UsageError

ScheduleName = Literal["cubic", "linear", "exp", "one_shot", "adaptive"]

# How steeply `exp` starts: it has done 99% of its way before its end.
_EXP_RATE = 5.0


def _cubic(x: float) -> float:
    return 1 - (1 - x) ** 3  # Zhu and Gupta 2017, eq. 1


_SHAPES: dict[str, Callable[[float], float]] = {
    "cubic": _cubic,
    "linear": lambda x: x,
    "exp": lambda x: (1 - math.exp(-_EXP_RATE * x)) / (1 - math.exp(-_EXP_RATE)),
    "one_shot": lambda x: 1.0,
    "adaptive": _cubic,  # what is due; ACP decides whether the student is ready for it
}


def share(name: str, epochs_done: float, first: float, last: float, final: float) -> float:
    """s(e): the share of MACs to have removed once ``epochs_done`` epochs are over.

    0 up to ``first`` (in epochs), ``final`` from ``last`` on, and between the two the curve
    called ``name`` over (e - first) / (last - first).
    """
    if name not in get_args(ScheduleName):
        raise UsageError(f"unknown schedule {name!r}; allowed: {', '.join(get_args(ScheduleName))}")
    if epochs_done >= last:
        return final
    if epochs_done <= first:
        return 0.0
    return final * _SHAPES[name]((epochs_done - first) / (last - first))
