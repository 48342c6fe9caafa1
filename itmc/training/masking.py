"""Pruning by masks: a soft one that learns, and a hard one within the budget, joined by ADMM."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from itmc.networks.build import Network
from itmc.parallel import counted_once, of_first, sum_gradients
from itmc.pruning.gates import Gates
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import Scores
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits, floors, select
from itmc.pruning.shrink import WidthLimits, kept_layers, training_images
from itmc.pruning.surgery import TOLERANCE, prune_to, recalibrate
from itmc.training.meter import BACKWARD_PER_FORWARD
from itmc.training.optim import Optimiser
from itmc.training.stage import Context, Stage


class MasksConfig(WidthLimits):
    """Knobs of the search for a mask; ADMP's own values are not public, so all are ours."""

    search: float = Field(0.5, gt=0, le=1)
    """Share of the epochs that masks are searched in; after it the pruned student fine-tunes."""
    rho: float = Field(0.1, ge=0)
    """How strongly the soft mask is drawn to the hard one."""
    mask_lr: float = Field(1.0, gt=0)
    """The soft mask's rate: plain SGD, not annealed."""
    adversarial: float = Field(1.0, ge=0)
    """How strongly the soft mask ascends the loss that it opposes; 0: is not reached by it."""
    bn_batches: int = Field(10, ge=1)
    """Batches to re-estimate BatchNorm statistics with after the cut."""

    def search_epochs(self, epochs: int) -> int:
        """How many of ``epochs`` the search takes."""
        return max(1, round(self.search * epochs))


class Masks:
    """A soft mask m in [0, 1] that ADMM draws to a hard mask z in {0, 1} that meets a budget.

        m  descends  L(m) + rho/2 |m - z + u|^2, step by step; u is the scaled dual
        z  = the mask that meets the budget with ones where m + u is largest, epoch by epoch
        u += m - z

    (Boyd et al., Foundations and Trends in Machine Learning 2011, sec. 9.1; on weights Zhang et
    al., ECCV 2018.) m starts at 1, and so does z; as in the latter the first projection is z's
    start, from which u is still zero: m is far from any mask by then, and a dual that says so would
    bring back next what has just gone. All layers are ranked together, with floors on the widths.
    The search ends with the cut, after which there are no masks.
    """

    def __init__(
        self, config: MasksConfig, compression: float, context: Context, student: Network
    ) -> None:
        self._config, self._context, self._network = config, context, student
        self._target = (1 - compression) * context.unpruned_macs
        self._dependencies = Dependencies(student, context.example, kept_layers(student))
        groups = self._dependencies.groups
        least = floors(groups, config.min_share, config.min_width)
        self._limits = Limits(least, config.round_to)
        self.soft = Gates(student, groups)
        self.hard = {name: torch.ones_like(m).detach() for name, m in self.soft.values.items()}
        self.dual = {name: torch.zeros_like(z) for name, z in self.hard.items()}
        self.events = 0
        """Projections so far."""
        self.searching = True

    def applied(self) -> AbstractContextManager[None]:
        """Open around the student's forward passes: they have the soft mask inside."""
        return self.soft.applied(self._network) if self.searching else nullcontext()

    def masked(self) -> Network:
        """The student as its soft mask makes it: a copy while masks are searched."""
        if not self.searching:
            return self._network
        copied = copy.deepcopy(self._network)
        self.soft.fold(copied)
        return copied

    def penalty(self) -> Tensor:
        """rho/2 |m - z + u|^2, summed over all units; zero after the cut."""
        total = torch.zeros((), device=self._context.device)
        if self.searching:
            for name, m in self.soft.values.items():
                total = total + (m - self.hard[name] + self.dual[name]).square().sum()
        return counted_once(self._config.rho / 2 * total)

    def oppose(self, loss: Tensor) -> None:
        """Let m ascend ``adversarial`` times ``loss``, part of a sum that all else descends.

        It sets the gradient of m to which that of the sum is added by the backward pass. For this
        there is one more through the network, for m alone, which the meter is told of: in whole,
        though gates on norms do without the products for other weights.
        """
        if not self.searching:
            return
        values = list(self.soft.values.values())
        gradients = torch.autograd.grad(loss, values, retain_graph=True, materialize_grads=True)
        for value, gradient in zip(values, gradients, strict=True):
            value.grad = -(1 + self._config.adversarial) * gradient
        context = self._context
        images = context.training.batch_size * (1 if context.training.bn == "split" else 2)
        macs = context.meter.macs(self._network, context.example)
        context.meter.counts.backward_images += images
        context.meter.counts.backward_macs += BACKWARD_PER_FORWARD * images * macs

    @torch.no_grad()
    def step(self) -> None:
        """m descends its gradient and stays in [0, 1]."""
        for value in self.soft.values.values():
            if value.grad is not None:
                value.sub_(self._config.mask_lr * value.grad).clamp_(0, 1)
                value.grad = None

    def end_epoch(self, optimiser: Optimiser, epoch: int) -> dict[str, Any]:
        """ADMM's updates after ``epoch`` (from 0), or the cut; returns what happened."""
        last = self._config.search_epochs(self._context.training.epochs) - 1
        if epoch > last:
            return {}
        if epoch < last:
            return {"mask_gap": self.project()}
        return {"removed_channels": self._cut(optimiser)}

    @torch.no_grad()
    def project(self) -> float:
        """The new z, then u; returns the mean of |m - z|."""
        groups, context = self._dependencies.groups, self._context
        model = MacModel(self._network, context.example, groups)
        slack = TOLERANCE / 2 * context.unpruned_macs  # as prune_to, which then cuts the same
        removed = of_first(
            lambda: select(groups, self._scores(), model, self._target, slack, self._limits)
        )
        gaps = {}
        for name, m in self.soft.values.items():
            self.hard[name] = torch.ones_like(m)
            self.hard[name][removed.get(name, [])] = 0
            gaps[name] = m - self.hard[name]
            if self.events:
                self.dual[name] = self.dual[name] + gaps[name]
        self.events += 1
        return float(torch.cat(list(gaps.values())).abs().mean())

    def _cut(self, optimiser: Optimiser) -> dict[str, int]:
        """Fold m, and remove the units that the next z would not have; channels by group."""
        network, context, before = self._network, self._context, self._dependencies
        self.soft.fold(network)
        with optimiser.surgery():
            removed = prune_to(
                network, before, self._scores(), context.example, self._target,
                context.unpruned_macs, self._limits,
            )  # fmt: skip
        self.searching = False
        with context.meter.watch([network], context.example):
            images = training_images(context, self._config.bn_batches)
            recalibrate(network, images, partial(context.compute, network))
        return before.channels(removed)

    def state(self) -> dict[str, Any]:
        """What one step hands to the next, and one epoch; nothing after the cut."""
        if not self.searching:
            return {}
        soft = {name: m.detach() for name, m in self.soft.values.items()}
        return {"soft": soft, "hard": self.hard, "dual": self.dual, "events": self.events}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore ``state``, the student having its saved shape already."""
        self.searching = bool(state)
        if self.searching:
            for name, m in self.soft.values.items():
                m.copy_(state["soft"][name])
                self.hard[name] = state["hard"][name].to(m.device)
                self.dual[name] = state["dual"][name].to(m.device)
            self.events = state["events"]

    def _scores(self) -> Scores:
        """m + u."""
        return {name: m.detach() + self.dual[name] for name, m in self.soft.values.items()}


class Masking(Stage):
    """A stage that searches masks for its student; a subclass has learners, masks and losses."""

    masks: Masks

    @classmethod
    def kept(cls, knobs: Any, before: float) -> float:
        return 1 - float(knobs.compression)

    @property
    def student(self) -> Network:
        """What is evaluated: while masks are searched, the student with the soft one."""
        return self.masks.masked()

    def sum_gradients(self) -> None:
        super().sum_gradients()
        sum_gradients(self.masks.soft.values.values())

    def update(self, progress: float) -> None:
        super().update(progress)
        self.masks.step()

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """ADMM's updates, or the cut."""
        return self.masks.end_epoch(self.learners["student"].optimiser, epoch)

    def state(self) -> dict[str, Any]:
        return super().state() | {"masks": self.masks.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.masks.load_state(state["masks"])
