"""D, the discrepancy between source and target that adaptation lowers: one class a choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.errors import UsageError
from itmc.losses.adversarial import (
    MDD_MARGIN,
    RandomMultilinear,
    adversary,
    discriminator,
    domain_loss,
    margin_disparity,
    multilinear,
    reverse_gradient,
)
from itmc.losses.confusion import MCC_TEMPERATURE, entropy, minimum_class_confusion
from itmc.losses.coral import coral
from itmc.losses.mmd import jmmd, lmmd, mk_mmd
from itmc.losses.precision import at_least_float32
from itmc.networks.build import Outputs

DiscrepancyName = Literal["dan", "dann", "cdan", "cdan_e", "jan", "mcc", "mdd", "lmmd", "coral"]

# What the reversal rises to in the code of MDD's authors, so that a weight of 1 is theirs.
MDD_REVERSAL = 0.1
# Above this many products CDAN projects at random (Long et al. 2018, sec. 3.1) to this many.
_EXACT_UP_TO, _PROJECTED = 4096, 1024


class DiscrepancySettings(Frozen):
    """What some of the choices depend on besides; by default the papers' values."""

    discriminator: int = Field(1024, ge=1)
    """Hidden width of adversarial discriminators."""
    mcc_temperature: float = Field(MCC_TEMPERATURE, gt=0)
    """MCC's temperature T, by which the target's logits are divided."""
    mdd_margin: float = Field(MDD_MARGIN, gt=0)
    """MDD's factor gamma on the source's part of the disparity, the exponential of the margin (2 to
    4 in the paper)."""


class Discrepancy(nn.Module, ABC):
    """gamma * D(source, target), ready to be added to a loss.

    For the adversarial choices gamma is the strength of the gradient reversal instead: the
    discriminator, or MDD's adversary, always learns at full strength (Ganin et al. 2016, sec.
    5.2.2).
    """

    @abstractmethod
    def forward(self, source: Outputs, target: Outputs, labels: Tensor, gamma: float) -> Tensor:
        """The term of one batch: a scalar from the outputs of both domains.

        ``labels`` are the source's true classes, int64 ``(N,)``.
        """


class Distance(Discrepancy):
    """A discrepancy that is a function of the outputs, without anything to learn."""

    def forward(self, source: Outputs, target: Outputs, labels: Tensor, gamma: float) -> Tensor:
        return gamma * self.distance(source, target, labels)

    @abstractmethod
    def distance(self, source: Outputs, target: Outputs, labels: Tensor) -> Tensor:
        """D itself, a scalar."""


class DAN(Distance):
    """MK-MMD of the features (Long et al., ICML 2015)."""

    def distance(self, source: Outputs, target: Outputs, labels: Tensor) -> Tensor:
        return mk_mmd(source.features, target.features)


class JAN(Distance):
    """Joint MMD of features and predictions (Long et al., ICML 2017)."""

    def distance(self, source: Outputs, target: Outputs, labels: Tensor) -> Tensor:
        return jmmd(
            (source.features, at_least_float32(source.logits).softmax(1)),
            (target.features, at_least_float32(target.logits).softmax(1)),
        )


class DSAN(Distance):
    """Local MMD: MK-MMD of the features class by class (Zhu et al., TNNLS 2020)."""

    def distance(self, source: Outputs, target: Outputs, labels: Tensor) -> Tensor:
        probabilities = at_least_float32(target.logits).softmax(1)
        return lmmd(source.features, target.features, labels, probabilities)


class CORAL(Distance):
    """Distance of the features' covariances (Sun and Saenko, 2016)."""

    def distance(self, source: Outputs, target: Outputs, labels: Tensor) -> Tensor:
        return coral(source.features, target.features)


class MCC(Distance):
    """Minimum class confusion of the target's predictions (Jin et al., ECCV 2020)."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def distance(self, source: Outputs, target: Outputs, labels: Tensor) -> Tensor:
        return minimum_class_confusion(target.logits, self.temperature)


class DANN(Discrepancy):
    """A domain discriminator on the features, through gradient reversal (Ganin et al. 2016)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.discriminator = discriminator(features, hidden)

    def forward(self, source: Outputs, target: Outputs, labels: Tensor, gamma: float) -> Tensor:
        features = at_least_float32(torch.cat([source.features, target.features]))
        logits = self.discriminator(reverse_gradient(features, gamma))
        return domain_loss(logits, len(source.features))


class CDAN(Discrepancy):
    """A discriminator on features and predictions together (Long et al., NeurIPS 2018).

    ``entropy_weighted`` makes it CDAN+E (eq. 8): certain examples count more. No gradient flows
    through the predictions, nor, as in the authors' later library, through the weights.
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

    def forward(self, source: Outputs, target: Outputs, labels: Tensor, gamma: float) -> Tensor:
        logits = at_least_float32(torch.cat([source.logits, target.logits]).detach())
        features = at_least_float32(torch.cat([source.features, target.features]))
        combine = multilinear if self.projection is None else self.projection
        joint = reverse_gradient(combine(features, logits.softmax(1)), gamma)
        weights = 1 + torch.exp(-entropy(logits)) if self.entropy_weighted else None
        return domain_loss(self.discriminator(joint), len(source.features), weights)


class MDD(Discrepancy):
    """A second classifier that sets source and target apart (Zhang et al., ICML 2019).

    It learns to agree with the main classifier on the source and to disagree on the target; the
    features, through gradient reversal, the opposite. The main classifier gets no gradient.
    """

    def __init__(self, features: int, classes: int, hidden: int, margin: float) -> None:
        super().__init__()
        self.adversary = adversary(features, hidden, classes)
        self.margin = margin

    def forward(self, source: Outputs, target: Outputs, labels: Tensor, gamma: float) -> Tensor:
        features = at_least_float32(torch.cat([source.features, target.features]))
        logits = self.adversary(reverse_gradient(features, MDD_REVERSAL * gamma))
        count = len(source.features)
        predicted = source.logits.argmax(1), target.logits.argmax(1)
        return margin_disparity(
            logits[:count], predicted[0], logits[count:], predicted[1], self.margin
        )


def create(name: str, features: int, classes: int, settings: DiscrepancySettings) -> Discrepancy:
    """The discrepancy called ``name``, for features and logits of these widths."""
    hidden = settings.discriminator
    choices: dict[str, Callable[[], Discrepancy]] = {
        "dan": DAN,
        "jan": JAN,
        "lmmd": DSAN,
        "coral": CORAL,
        "mcc": lambda: MCC(settings.mcc_temperature),
        "dann": lambda: DANN(features, hidden),
        "cdan": lambda: CDAN(features, classes, hidden, entropy_weighted=False),
        "cdan_e": lambda: CDAN(features, classes, hidden, entropy_weighted=True),
        "mdd": lambda: MDD(features, classes, hidden, settings.mdd_margin),
    }
    if name not in choices:
        raise UsageError(f"unknown discrepancy {name!r}; allowed: {', '.join(choices)}")
    return choices[name]()
