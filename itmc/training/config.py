"""How every method is trained: shared by all of a suite, so that the comparison is fair."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from itmc.losses.discrepancy import DiscrepancySettings
from itmc.training.precision import Asked

# Epochs of a student, from its start to its end, in units of the suite's: as many as it takes to
# adapt the unpruned network and then to compress it. A student that is narrow from the start, or
# that is pruned while it adapts, trains as long: none is better for having seen more images.
STUDENT_ROUNDS = 2.0


class TrainingConfig(DiscrepancySettings):
    """Optimisation of one stage; the defaults are the field's (Long et al. 2018, and its code).

    What a discrepancy depends on besides is the suite's and no method's, so that a discrepancy is
    the same in all that use it: references, teachers and students.
    """

    epochs: int = Field(20, ge=1)
    """Epochs of adaptation of the unpruned network; a compressed student has twice as many in all,
    whatever the method."""
    pretrain_epochs: int = Field(2, ge=1)
    """Epochs of the shared source-only start, where there are no pretrained weights."""
    steps_per_epoch: int | None = Field(None, ge=1)
    """``None``: one pass over the larger domain."""
    batch_size: int = Field(32, ge=2)
    """Images of each domain in a step."""
    lr: float = Field(0.003, gt=0)
    """Learning rate of the backbone at the start."""
    new_layer_lr: float = Field(10.0, gt=0)
    """Factor on it for bottleneck, head and discriminator."""
    lr_gamma: float = Field(10.0, ge=0)
    """lr(p) = lr (1 + lr_gamma p)^-lr_power over the progress p of a stage."""
    lr_power: float = Field(0.75, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    ramp: float = Field(10.0, ge=0)
    """Steepness of the adaptation ramp gamma(p) = 2 / (1 + exp(-ramp p)) - 1."""
    bn: Literal["joint", "split"] = "joint"
    """Whether source and target pass through BatchNorm together or one after the other."""
    precision: Asked = "auto"
    """What networks compute in: fp32, bf16 (mixed, see ``Compute``), or what is fast on the device,
    which is settled when a grid is planned."""

    def gamma(self, progress: float) -> float:
        """The weight of the discrepancy at ``progress`` in [0, 1] (Ganin et al. 2016, sec. 5.2)."""
        return 2 / (1 + math.exp(-self.ramp * progress)) - 1

    def annealing(self, progress: float) -> float:
        """The factor on the learning rate at ``progress`` in [0, 1]."""
        return float((1 + self.lr_gamma * progress) ** -self.lr_power)
