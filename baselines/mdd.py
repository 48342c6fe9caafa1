"""MDD: margin disparity discrepancy, a second classifier that disagrees on the target alone."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class MDD(Reference):
    """min CE(source) + (disparity of an adversarial classifier, by gradient reversal).

    The paper is silent on the strength of the reversal; in the authors' code it rises to 0.1, which
    a weight of 1 stands for here, on the ramp gamma(p) of all methods. Features are the suite's
    bottleneck (theirs: 1024 wide with dropout). The adversarial classifier has a hidden layer, the
    main one is linear, as all methods have it; theirs both have one. The margin is the suite's:
    training.mdd_margin.
    """

    name = "mdd"
    label = "MDD"
    citation = "Zhang et al., Bridging Theory and Algorithm for Domain Adaptation, ICML 2019"
    discrepancy = "mdd"
