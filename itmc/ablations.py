"""ITMC's ablations: one part changed each, all else as in ITMC, also what a suite sets for it.

Most change one knob: a line of ``_CHANGES``, where every knob of ITMC has at least one, but for
``round_to``, with which a network as small as that of the digits cannot meet every budget. Those
that take a whole module away, ``tkd_only`` and ``acp_only``, are methods of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from itmc.acp import ACPConfig
from itmc.config import Frozen
from itmc.gradual import gradual
from itmc.itmc import ITMC, GuidedConfig, alternation
from itmc.losses.discrepancy import DiscrepancyName
from itmc.pruning.shrink import WidthLimits
from itmc.training.method import Method, Node, Start, register

_CHANGES: dict[str, tuple[str, Mapping[str, Any]]] = {
    # name: what a table calls it, and the knob
    "itmc_frozen_teacher": ("frozen teacher", {"teacher_rate": 0.0}),
    "itmc_slow_teacher": (
        "teacher at 0.1 of its rate",
        {"teacher_rate": 0.1, "teacher_settle": 1.0},
    ),
    "itmc_usual_teacher": (
        "teacher at its usual rate",
        {"teacher_rate": 1.0, "teacher_settle": 1.0},
    ),
    "itmc_restless_teacher": ("teacher does not come to rest", {"teacher_settle": 1.0}),
    "itmc_lead_0": ("teacher lead 0", {"teacher_lead": 0.0}),
    "itmc_lead_25": ("teacher lead 0.25", {"teacher_lead": 0.25}),
    "itmc_lead_75": ("teacher lead 0.75", {"teacher_lead": 0.75}),
    "itmc_lead_100": ("teacher lead 1", {"teacher_lead": 1.0}),
    "itmc_average_teacher": ("guided by the teacher's average", {"teacher_average": 0.99}),
    "itmc_initial_student": ("student from its initial weights", {"student_start": "initial"}),
    "itmc_fresh_logits": ("fresh logits of the teacher", {"teacher_logits": "fresh"}),
    "itmc_dan": ("D = MK-MMD", {"discrepancy": "dan"}),
    "itmc_dann": ("D = DANN", {"discrepancy": "dann"}),
    "itmc_cdan": ("D = CDAN", {"discrepancy": "cdan"}),
    "itmc_cdan_e": ("D = CDAN+E", {"discrepancy": "cdan_e"}),
    "itmc_jan": ("D = JAN", {"discrepancy": "jan"}),
    "itmc_mcc": ("D = MCC", {"discrepancy": "mcc"}),
    "itmc_light_discrepancy": ("weight of D 0.3", {"weight": 0.3}),
    "itmc_no_ramp": ("no ramp on D", {"ramp": False}),
    "itmc_no_student_discrepancy": ("no D on the student", {"student_discrepancy": False}),
    "itmc_no_target_kd": ("no KD on the target", {"target_kd": False}),
    "itmc_tau_1": ("tau = 1", {"temperature": 1.0}),
    "itmc_beta_from_10": ("beta from 0.1", {"beta_first": 0.1}),
    "itmc_beta_to_50": ("beta to 0.5", {"beta_last": 0.5}),
    "itmc_linear_beta": ("beta grows linearly", {"beta_ramp": "linear"}),
    "itmc_trust": ("KD on the target by confidence", {"target_trust": 2.0}),
    "itmc_survivors": ("channels that survive follow the teacher's", {"feature_weight": 1.0}),
    "itmc_magnitude": ("magnitude (L2) importance", {"criterion": "l2"}),
    "itmc_taylor_min": ("importance: lesser of the domains", {"criterion": "taylor_min"}),
    "itmc_taylor_source": ("importance: source alone", {"criterion": "taylor_source"}),
    "itmc_taylor_target": ("importance: target alone", {"criterion": "taylor_target"}),
    "itmc_layer_l2": ("importance: layers by L2 norm", {"layer_scale": "l2"}),
    "itmc_random": ("random importance", {"criterion": "random"}),
    "itmc_no_momentum": ("importance of the last epoch alone", {"momentum": 0.0}),
    "itmc_per_macs": ("importance per MACs saved", {"cost_aware": "macs"}),
    "itmc_one_shot": ("pruned in one shot", {"schedule": "one_shot"}),
    "itmc_linear": ("linear schedule", {"schedule": "linear"}),
    "itmc_exp": ("exponential schedule", {"schedule": "exp"}),
    "itmc_adaptive": ("adaptive schedule", {"schedule": "adaptive"}),
    "itmc_adaptive_strict": ("adaptive, tolerance 0", {"schedule": "adaptive", "tolerance": 0.0}),
    "itmc_recovery": ("an epoch to recover after an event", {"recovery": 1}),
    "itmc_late_start": ("pruned from 0.3 of the epochs", {"prune_from": 0.3}),
    "itmc_late_end": ("pruned until 0.9 of the epochs", {"prune_until": 0.9}),
    "itmc_floor_0": ("layers down to 2 channels", {"min_share": 0.0}),
    "itmc_floor_8": ("layers down to 8 channels", {"min_share": 0.0, "min_width": 8}),
    "itmc_bn_1_batch": ("BatchNorm from 1 batch", {"bn_batches": 1}),
}


def _ablations() -> Iterator[type[Method]]:
    for name, (label, changes) in _CHANGES.items():
        declared = {
            "__doc__": f"ITMC, {label}.",
            "__module__": __name__,
            "name": name,
            "group": "ablations",
            "label": f"ITMC, {label}",
            "base": ITMC.name,
            "changes": changes,
            "Knobs": _with_defaults(ITMC.Knobs, changes),
        }
        yield type(name, (ITMC,), declared)


def _with_defaults(model: type[Frozen], defaults: Mapping[str, Any]) -> type[Frozen]:
    """``model`` with these defaults in place of its own."""
    fields: dict[str, Any] = {}
    for name, value in defaults.items():
        known = model.model_fields[name]
        fields[name] = (known.annotation, FieldInfo.merge_field_infos(known, default=value))
    # They have their docstrings already; to look for them in this file takes a tenth of a second.
    as_it_is = {"use_attribute_docstrings": False}
    return create_model("Knobs", __base__=model, __cls_kwargs__=as_it_is, **fields)


for _method in _ablations():
    register(_method)


@register
class TKDOnly(Method):
    """TKD without ACP: the student is narrowed uniformly to its budget before it starts."""

    name = "tkd_only"
    group = "ablations"
    label = "TKD only"
    citation = ITMC.citation
    guided = True
    base = ITMC.name

    class Knobs(GuidedConfig, WidthLimits):
        """Hyper-parameters."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        return alternation(knobs, compression, start, narrow=True)


@register
class ACPOnly(Method):
    """ACP without TKD: no teacher; the student prunes itself by the loss of its own adaptation."""

    name = "acp_only"
    group = "ablations"
    label = "ACP only"
    citation = ITMC.citation
    base = ITMC.name

    class Knobs(ACPConfig):
        """Hyper-parameters."""

        discrepancy: DiscrepancyName = "dan"
        """D."""
        weight: float = Field(1.0, ge=0)
        """Factor on D, beside its ramp."""
        ramp: bool = True
        """Whether D follows the ramp gamma(p); off: full weight at once."""
        teacher_lead: float = Field(0.5, ge=0, le=1)
        """Share of the adaptation that is done before pruning begins, as the teacher's is in
        ITMC."""

    @classmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        acp = ACPConfig(**knobs.model_dump(include=set(ACPConfig.model_fields)))
        adaptation = knobs.model_dump(include={"discrepancy", "weight", "ramp"})
        return gradual(start, compression, acp, knobs.teacher_lead, **adaptation)
