"""Adaptive channel pruning (ACP): prunes the student by its TKD loss, how much by epoch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from itmc.cost import count_macs
from itmc.networks.build import Network
from itmc.parallel import of_first, world
from itmc.pruning import importance
from itmc.pruning.cost_aware import Savings, per_saving, savings
from itmc.pruning.groups import Dependencies, Group
from itmc.pruning.importance import CriterionName, Scores, comparable, normalised
from itmc.pruning.schedule import ScheduleName, share
from itmc.pruning.selection import Limits, floors
from itmc.pruning.shrink import PruningConfig, kept_layers, training_images
from itmc.pruning.surgery import meets, prune_to, recalibrate, refuse_too_few
from itmc.survivors import all_units, without
from itmc.training.stage import Context, Learner


class ACPConfig(PruningConfig):
    """Knobs of ACP. The paper's values are not public; these are a reconstruction."""

    criterion: CriterionName = "taylor"
    """Importance of a channel (the abstract: derived from the student's TKD loss)."""
    schedule: ScheduleName = "cubic"
    """How the pruned share grows with the epoch; ``adaptive`` postpones (reconstruction)."""
    prune_from: float = Field(0.0, ge=0, le=1)
    """e0, when pruning begins, as a share of the epochs (reconstruction)."""
    prune_until: float = Field(0.6, gt=0, le=1)
    """e1, when the budget is met; after it the student fine-tunes (reconstruction). ``one_shot``
    meets it one epoch after e0."""
    tolerance: float = Field(0.05, ge=0)
    """``adaptive``: how far above its level before the last event the loss may be, relatively, both
    as weighted in their epochs (reconstruction). Other schedules have no use for it."""
    recovery: int = Field(0, ge=0)
    """Epochs without an event after each event but the last, for the student to recover
    (reconstruction)."""
    momentum: float = Field(0.5, ge=0, lt=1)
    """Weight of earlier events in the average of importance, where that derives from gradients
    (reconstruction)."""
    bn_batches: int = Field(10, ge=1)
    """Batches to re-estimate BatchNorm statistics with after an event (reconstruction)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.prune_from > self.prune_until:
            raise ValueError("prune_from must not be after prune_until")
        return self


def event_window(config: ACPConfig, epochs: int) -> tuple[int, int]:
    """e0 and e1, in epochs."""
    last = max(1, round(config.prune_until * epochs))
    return min(last, round(config.prune_from * epochs)), last


def share_by(config: ACPConfig, compression: float, epochs: int, done: int) -> float:
    """Share of MACs that is due to have been removed when ``done`` of ``epochs`` are over."""
    first, last = event_window(config, epochs)
    if first < done < last:  # as after the last event
        done = first + 1 + (done - first - 1) // (1 + config.recovery) * (1 + config.recovery)
    return share(config.schedule, done, first, last, compression)


class ACP:
    """Watches the student's gradients during an epoch, prunes it at the end."""

    def __init__(
        self,
        config: ACPConfig,
        compression: float,
        context: Context,
        student: Network,
        epochs: int,
    ) -> None:
        """``epochs``: of the stage that prunes."""
        self._config, self._compression, self._context = config, compression, context
        self._epochs = epochs
        _, self._last = event_window(config, epochs)
        self._average: Scores = {}
        self._measured: Savings = {}  # microseconds, of the unpruned student
        self._loss_sum, self._steps = torch.zeros(()), 0
        self._level: float | None = None  # the student's loss before the last event
        self._look_at(student)
        # The share of MACs that the last event was to have removed. A student that comes within the
        # budget, narrow from its start, has nothing more to lose.
        self._asked = compression if self._meets(compression) else 0.0
        self.survivors = all_units(self.groups)
        # Floors refer to the unpruned widths, so they are taken before the first event.
        self._limits = Limits(
            floors(self._dependencies.groups, config.min_share, config.min_width), config.round_to
        )

    @property
    def groups(self) -> tuple[Group, ...]:
        """The coupled groups of the student as it is now."""
        return self._dependencies.groups

    def watch(self, student: Network) -> AbstractContextManager[None]:
        """Open around the student's forward passes of a step, source first."""
        if not self._is_pruning():
            return nullcontext()
        per_domain = self._context.training.batch_size // world().size
        return self._criterion.watch(student, self._dependencies.groups, per_domain)

    def observe(self, student: Network, loss: Tensor) -> None:
        """Accumulate importance over the epoch, from the gradients of ``loss`` (L_TKD)."""
        if self._is_pruning():
            self._criterion.observe(student, self._dependencies.groups)
        self._loss_sum = self._loss_sum + loss.detach()
        self._steps += 1

    def prune(self, student: Learner, epoch: int) -> dict[str, Any]:
        """The pruning event after ``epoch`` (from 0), if it has one; returns what happened."""
        loss = of_first(lambda: float(self._loss_sum) / max(1, self._steps))
        asked = self._share_due(epoch + 1, loss)
        gone: dict[str, int] = {}
        if self._is_due(asked):
            reference = self._context.unpruned_macs
            self._level, self._asked = loss, asked
            self._average = self._averaged(student.network)
            ranking = self._ranking(student.network)
            with student.optimiser.surgery():
                removed = prune_to(
                    student.network, self._dependencies, ranking,
                    self._context.example, (1 - asked) * reference, reference, self._limits,
                    is_final=False, may_fall_short=asked < self._compression,
                )  # fmt: skip
            gone = self._dependencies.channels(removed)
            self._average = without(self._average, removed)
            self.survivors = without(self.survivors, removed)
            self._recalibrate(student.network)
            self._look_at(student.network)
            final = (1 - self._compression) * reference
            refuse_too_few(self._macs, final, reference, self._config.round_to)
        self._restart()
        return {
            "asked_share": round(asked, 6),
            "student_loss": loss,
            "removed_channels": gone,
        }

    def state(self) -> dict[str, Any]:
        """What one step hands to the next, and one epoch."""
        return {
            "average": dict(self._average),
            "survivors": dict(self.survivors),
            "level": self._level,
            "asked": self._asked,
            "measured": dict(self._measured),
            "criterion": self._criterion.state(),
            "loss_sum": self._loss_sum,
            "steps": self._steps,
        }

    def load_state(self, state: dict[str, Any], student: Network) -> None:
        """Restore ``state`` for ``student``, which has its saved shape already."""
        device = self._context.device
        self._average = {name: scores.to(device) for name, scores in state["average"].items()}
        self.survivors = dict(state["survivors"])
        self._level, self._asked = state["level"], state["asked"]
        self._measured = state["measured"]
        self._look_at(student)
        self._criterion.load_state(state["criterion"], device)
        self._loss_sum, self._steps = state["loss_sum"].to(device), state["steps"]

    def _recalibrate(self, student: Network) -> None:
        images = training_images(self._context, self._config.bn_batches)
        with self._context.meter.watch([student], self._context.example):
            recalibrate(student, images, partial(self._context.compute, student))

    def _is_pruning(self) -> bool:
        """Whether there is more to prune, so that importance is still asked for."""
        return self._asked < self._compression

    def _is_due(self, asked: float) -> bool:
        """Whether to have an event for the share ``asked``.

        On the way an event that would remove next to nothing is left out. The one that asks for the
        whole budget takes place, once: what is near enough for it is near enough for all methods,
        which get there in one step.
        """
        is_last = asked >= self._compression
        return asked > self._asked and (is_last or not self._meets(asked))

    def _meets(self, compression: float) -> bool:
        unpruned = self._context.unpruned_macs
        return meets(self._macs, (1 - compression) * unpruned, unpruned)

    def _look_at(self, student: Network) -> None:
        """Find the coupled groups of ``student`` as it is shaped now."""
        self._dependencies = Dependencies(student, self._context.example, kept_layers(student))
        self._macs = count_macs(student, self._context.example)
        self._restart()

    def _restart(self) -> None:
        """Begin an epoch with importance not yet observed."""
        self._criterion = importance.create(self._config.criterion, self._context.seed)
        self._loss_sum, self._steps = torch.zeros((), device=self._context.device), 0

    def _share_due(self, done: int, loss: float) -> float:
        """Share of MACs to have removed when ``done`` epochs are over.

        The curve depends on the epoch alone, so what `adaptive` postpones is made up for by the
        next event that takes place; the last one always does, and meets the budget.
        """
        config = self._config
        due = share_by(config, self._compression, self._epochs, done)
        if config.schedule != "adaptive" or done >= self._last or self._level is None:
            return due
        return due if loss <= (1 + config.tolerance) * self._level else 0.0

    def _averaged(self, network: Network) -> Scores:
        """Importance averaged over events with momentum; renormalised, as channels have gone."""
        now = self._criterion.scores(network, self._dependencies.groups)
        if not self._criterion.needs_gradients or not self._average:
            return now
        momentum = self._config.momentum
        return {
            name: momentum * normalised(self._average[name]) + (1 - momentum) * scores
            for name, scores in now.items()
        }

    def _ranking(self, network: Network) -> Scores:
        """What channels are ranked by: their average importance, per cost where that is asked for.

        The quotient enters no average. Latency is measured once, at the first event, and saved:
        a resumed run goes on with the numbers that it began with.
        """
        kind = self._config.cost_aware
        scores = comparable(self._average, self._criterion, self._config.layer_scale)
        if kind == "none":
            return scores
        example, groups = self._context.example, self._dependencies.groups
        saved = self._measured or savings(kind, network, example, groups, self._config.round_to)
        if kind == "latency":
            self._measured = saved
        return per_saving(scores, saved)
