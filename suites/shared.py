"""What the runs of a grid share: recipes of any task and seed, and settings of any method.

Each is worked out once, so that 100,000 runs are planned in seconds.
"""

from __future__ import annotations

import json
from functools import lru_cache

from itmc.config import canonical
from itmc.domains.augment import DataConfig
from itmc.networks.build import NetworkConfig
from itmc.training.adapt import Adapt
from itmc.training.config import TrainingConfig
from itmc.training.method import Method, Node, Role, Setting, Start, knobs_of


@lru_cache(maxsize=4096)
def recipe(
    chosen: type[Method],
    knobs: str,
    compression: float,
    student_pretrained: bool,
    teacher_pretrained: bool,
) -> Node:
    """The last stage of a method; ``knobs`` as JSON."""
    start = Start(
        None if student_pretrained else _pretraining("student"),
        None if teacher_pretrained else _pretraining("teacher"),
    )
    return chosen.recipe(knobs_of(chosen.name, json.loads(knobs)), compression, start)


def _pretraining(network: Role) -> Node:
    """The shared start of a network that has no pretrained weights."""
    return Adapt.node(None, network=network, pretraining=True)


@lru_cache(maxsize=256)
def setting(
    protocol: str,
    dataset: str,
    digests: tuple[tuple[str, str], ...],
    source: str,
    target: str,
    seed: int,
    data: DataConfig,
    training: TrainingConfig,
    network: NetworkConfig,
    teacher: NetworkConfig | None,
    owner: str | None = None,
) -> Setting:
    """What determines the stages of a task and seed, besides their recipes.

    ``owner``: the run that has stages of its own, if it is to share none.
    """
    common = {
        "protocol": protocol,
        "dataset": dataset,
        "digests": dict(digests),
        "source": source,
        "target": target,
        "seed": seed,
        "data": data.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    if owner is not None:
        common["owner"] = owner
    of_teacher = teacher and canonical(teacher.model_dump(mode="json"))
    return Setting(canonical(common), canonical(network.model_dump(mode="json")), of_teacher)
