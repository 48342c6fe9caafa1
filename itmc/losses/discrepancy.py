"""D, the discrepancy between source and target that adaptation lowers: one class a choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.losses.adversarial import (
    RandomMultilinear,
    discriminator,
    domain_loss,
    multilinear,
    reverse_gradient,
)
from itmc.losses.confusion import entropy, minimum_class_confusion
from itmc.losses.mmd import jmmd, mk_mmd
from itmc.losses.precision import at_least_float32
from itmc.networks.build import Outputs

DiscrepancyName = Literal["dan", "dann", "cdan", "cdan_e", "jan", "mcc"]

# Above this many products CDAN projects at random (Long et al. 2018, sec. 3.1) to this many.
_EXACT_UP_TO, _PROJECTED = 4096, 1024


class Discrepancy(nn.Module, ABC):
    """gamma * D(source, target), ready to be added to a loss.

    For the adversarial choices gamma is the strength of the gradient reversal instead: the
    discriminator itself always learns at full strength (Ganin et al. 2016, sec. 5.2.2).
    """

    @abstractmethod
    def forward(self, source: Outputs, target: Outputs, gamma: float) -> Tensor:
        """The term of one batch: a scalar from the outputs of both domains."""


class Distance(Discrepancy):
    """A discrepancy that is a function of the outputs, without anything to learn."""

    def forward(self, source: Outputs, target: Outputs, gamma: float) -> Tensor:
        return gamma * self.distance(source, target)

    @abstractmethod
    def distance(self, source: Outputs, target: Outputs) -> Tensor:
        """D itself, a scalar."""


class DAN(Distance):
    """MK-MMD of the features (Long et al., ICML 2015)."""

    def distance(self, source: Outputs, target: Outputs) -> Tensor:
        return mk_mmd(source.features, target.features)


class JAN(Distance):
    """Joint MMD of features and predictions (Long et al., ICML 2017)."""

    def distance(self, source: Outputs, target: Outputs) -> Tensor:
        return jmmd(
            (source.features, at_least_float32(source.logits).softmax(1)),
            (target.features, at_least_float32(target.logits).softmax(1)),
        )


class MCC(Distance):
    """Minimum class confusion of the target's predictions (Jin et al., ECCV 2020)."""

    def distance(self, source: Outputs, target: Outputs) -> Tensor:
        return minimum_class_confusion(target.logits)


class DANN(Discrepancy):
    """A domain discriminator on the features, through gradient reversal (Ganin et al. 2016)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.discriminator = discriminator(features, hidden)

    def forward(self, source: Outputs, target: Outputs, gamma: float) -> Tensor:
        features = at_least_float32(torch.cat([source.features, target.features]))
        logits = self.discriminator(reverse_gradient(features, gamma))
        return domain_loss(logits, len(source.features))


class CDAN(Discrepancy):
    """A discriminator on features and predictions together (Long et al., NeurIPS 2018).

    ``entropy_weighted`` makes it CDAN+E (eq. 8): certain examples count more. As in the authors'
    code, no gradient flows through the predictions or the weights.
    """

    def __init__(self, features: int, classes: int, hidden: int, entropy_weighted: bool) -> None:
        super().__init__()
        products = features * classes
        self.projection = (
            RandomMultilinear(features, classes, _PROJECTED) if products > _EXACT_UP_TO else None
        )
        inputs = products if self.projection is None else _PROJECTED
        self.discriminator = discriminator(inputs, hidden)
        self.entropy_weighted = entropy_weighted

    def forward(self, source: Outputs, target: Outputs, gamma: float) -> Tensor:
        logits = at_least_float32(torch.cat([source.logits, target.logits]).detach())
        features = at_least_float32(torch.cat([source.features, target.features]))
        combine = multilinear if self.projection is None else self.projection
        joint = reverse_gradient(combine(features, logits.softmax(1)), gamma)
        weights = 1 + torch.exp(-entropy(logits)) if self.entropy_weighted else None
        return domain_loss(self.discriminator(joint), len(source.features), weights)


def create(name: str, features: int, classes: int, hidden: int) -> Discrepancy:
    """The discrepancy called ``name``, for features and logits of these widths.

    ``hidden`` is the width of a discriminator's hidden layers, where there is one.
    """
    choices: dict[str, Callable[[], Discrepancy]] = {
        "dan": DAN,
        "jan": JAN,
        "mcc": MCC,
        "dann": lambda: DANN(features, hidden),
        "cdan": lambda: CDAN(features, classes, hidden, entropy_weighted=False),
        "cdan_e": lambda: CDAN(features, classes, hidden, entropy_weighted=True),
    }
    if name not in choices:
        raise UsageError(f"unknown discrepancy {name!r}; allowed: {', '.join(choices)}")
    return choices[name]()
