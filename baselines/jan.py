"""JAN: joint adaptation network, features and predictions aligned by one joint MMD."""

from __future__ import annotations

from itmc.training.method import register
from itmc.training.reference import Reference


@register
class JAN(Reference):
    """min CE(source) + lambda JMMD of bottleneck and predicted probabilities (eqs. 9-10).

    The paper's layers are the pooled features and the predictions; here, as for all methods, the
    bottleneck stands for the former. Its adversarial variant, JAN-A, is another method. lambda
    follows the ramp gamma(p), as in the paper's section 5.1.
    """

    name = "jan"
    label = "JAN"
    citation = "Long et al., Deep Transfer Learning with Joint Adaptation Networks, ICML 2017"
    discrepancy = "jan"
