"""CDAN: conditional domain adversarial network, features and predictions aligned together."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class CDAN(Reference):
    """min CE(source) + lambda (adversarial loss of a discriminator on f x g), eqs. 1-2 and 4.

    The adversarial strength follows the ramp gamma(p), as in the paper's section 4.1. No gradient
    flows through the predictions g, which the paper is silent on and its authors' code does. Where
    f x g is large it is projected at random (sec. 3.1). The 10-crop test of the authors' code is
    part of the `paper` protocol; their batch of 36 is not, since all methods see the same batches.
    """

    name = "cdan"
    label = "CDAN"
    citation = "Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018"
    discrepancy = "cdan"
