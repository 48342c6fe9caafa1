"""The interface of all importance criteria."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from itmc.pruning.groups import Group

LayerScale = Literal["l2", "mean"]
Scores = dict[str, Tensor]
"""One score a unit, ``(width,)``, by the name of its group."""


class Criterion(ABC):
    """Scores the units of each group; the lowest go first.

    Where it ``needs_gradients``, a step of its data is

        with criterion.watch(network, groups, per_domain):
            loss = ...          # the forward passes
        loss.backward()
        criterion.observe(network, groups)

    and ``scores`` averages over the steps observed, each with the same weight, in any order.
    """

    needs_gradients: ClassVar[bool] = False
    normalises: ClassVar[bool] = True
    """Whether a layer's scores are divided by their norm, and so may be scaled otherwise."""

    def watch(
        self, network: nn.Module, groups: tuple[Group, ...], per_domain: int
    ) -> AbstractContextManager[None]:
        """Open around the forward passes of one step, for criteria that look at activations.

        ``per_domain``: the images of each domain in the step, those of the source passing first;
        of several processes, those that this one passes.
        Outside of it nothing is attached to ``network``: neither evaluation, tracing, copying nor
        surgery meets a hook.
        """
        return nullcontext()

    def observe(self, network: nn.Module, groups: tuple[Group, ...]) -> None:  # noqa: B027
        """Take in the gradients of one step, after backward and before the optimiser's step.

        Those of parameters are of the whole batch, already summed over the processes of a run.
        """

    def state(self) -> dict[str, Any]:
        """What was observed so far: tensors and plain values. Without gradients it is nothing."""
        return {}

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:  # noqa: B027
        """Restore what ``state`` gave, on ``device``."""

    @abstractmethod
    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        """One score a unit, ``(width,)``, by group name, comparable between layers."""


def comparable(scores: Scores, criterion: Criterion, scale: LayerScale) -> Scores:
    """``scores`` of ``criterion``, so that layers compare by ``scale``.

    ``l2``: as they are; ``mean``: divided by their layer's mean, where that is not 0. Those that
    their criterion does not normalise by layer are as they are.
    """
    if scale == "l2" or not criterion.normalises:
        return scores
    return {
        name: values / values.mean().clamp_min(torch.finfo(values.dtype).tiny)
        for name, values in scores.items()
    }


def normalised(scores: Tensor) -> Tensor:
    """``scores`` of one layer divided by their L2 norm (Molchanov et al. 2017, sec. 2.2)."""
    length: Tensor = scores.norm()
    return scores / length.clamp_min(torch.finfo(scores.dtype).tiny)
