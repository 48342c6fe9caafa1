"""CDAN+E: CDAN that trusts certain predictions more."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class CDANE(Reference):
    """CDAN with each example weighted by 1 + exp(-H(g)) in the adversarial loss (eq. 8).

    The paper leaves open whether the weights are normalised and carry a gradient. As in the
    authors' code they are normalised in each domain; as in their later library, not in that code,
    they carry none. All else is as in `cdan`.
    """

    name = "cdan_e"
    label = "CDAN+E"
    citation = "Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018"
    discrepancy = "cdan_e"
