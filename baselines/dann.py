"""DANN: domain-adversarial network, features that a discriminator cannot tell apart."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class DANN(Reference):
    """min CE(source) - lambda (loss of a domain discriminator), by gradient reversal (eqs. 8-10).

    lambda follows the paper's own ramp gamma(p) (sec. 5.2.2); the discriminator learns at full
    strength. The paper's networks differ from one experiment to the next; here the discriminator
    has two hidden layers with BatchNorm on the bottleneck, as in the field's code.
    """

    name = "dann"
    label = "DANN"
    citation = "Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17, 2016"
    discrepancy = "dann"
