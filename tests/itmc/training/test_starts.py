"""Where stages start: from what their recipes give them, all of it and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import baselines  # noqa: F401 - registers them
import itmc.ablations  # noqa: F401
from itmc.training.adapt import Adapt
from itmc.training.method import Node, Start, knobs_of, method, methods
from itmc.training.stage import Handover, Stage
from tests.itmc.training import tiny

METHODS = [name for name, known in methods().items() if not known.changes]


def started(node: Node, scaled: str | None) -> dict[str, torch.Tensor]:
    """All tensors of a stage at its start, the network of one role scaled before."""
    task = tiny.context()
    inputs = {}
    for role in node.inputs:
        network = task.fresh_network()
        if role == scaled:
            with torch.no_grad():
                network.head.weight.mul_(3)
        inputs[role] = Handover(network, {})
    stage = node.stage(node.knobs, task, inputs)
    return {
        f"{role}.{name}": value.clone()
        for role, network in tiny.learners(stage).items()
        for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", METHODS)
def test_a_stage_depends_on_each_network_that_it_is_given(name: str) -> None:
    for node in tiny.recipe(name).walk():
        usual = started(node, None)
        assert tiny.same(usual, started(node, None))
        for role in node.inputs:
            assert not tiny.same(usual, started(node, role)), (node.stage.kind, role)


def test_no_gradient_of_a_head_at_random_says_which_channels_go() -> None:
    """Over a pretrained backbone prune-then-adapt trains on the source before the cut, not after
    alone; the epochs before it adapts are as many."""
    training = tiny.context(epochs=8).training
    lengths = {}
    for begins, start in (("trained", tiny.START), ("pretrained", Start(None, None))):
        knobs = knobs_of("prune_then_adapt", {"recovery": 0.25})
        nodes = list(method("prune_then_adapt").recipe(knobs, 0.5, start).walk())
        stages = [node for node in nodes if not node.knobs.pretraining]
        cut = [node.knobs.shrink is not None for node in stages]
        lengths[begins] = [node.stage.length(node.knobs, training) for node in stages]
        assert cut == ([True, False] if begins == "trained" else [False, True, False])
    assert lengths == {"trained": [4, 12], "pretrained": [2, 2, 12]}


def test_a_role_that_a_stage_does_not_know_is_a_mistake_in_the_recipe() -> None:
    task = tiny.context()
    with pytest.raises(ValueError, match=r"starts from .'network',., not from .'student'."):
        Adapt(Adapt.Knobs(), task, {"student": Handover(task.fresh_network(), {})})


@pytest.mark.parametrize("name", ["adapt_then_prune", "tcp", "acp_only", "itmc"])
def test_adaptation_goes_on_with_the_discriminator_it_had(name: str) -> None:
    node = tiny.recipe(name, discrepancy="dann")
    before = next(iter(node.inputs.values()))
    task = tiny.context()
    trained = before.stage(before.knobs, task, {"network": Handover(task.fresh_network(), {})})
    for value in trained.handover().discrepancy.values():
        value.add_(1)
    handover = trained.handover()
    inputs: dict[str, Any] = {r: Handover(task.fresh_network(), {}) for r in node.inputs}
    inputs |= dict.fromkeys(inputs, Handover(task.fresh_network(), handover.discrepancy))
    stage: Stage = node.stage(node.knobs, task, inputs)
    term = stage.learners["student"].discrepancy
    assert term is not None and tiny.same(term.state_dict(), handover.discrepancy)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [("mcc", {}), ("mcc_student", {}), ("tcp", {"discrepancy": "mcc"}),
     ("itmc", {"discrepancy": "mcc"}), ("kd_stda", {"discrepancy": "mcc"})],
)  # fmt: skip
def test_what_a_discrepancy_depends_on_is_the_suites(name: str, knobs: dict[str, Any]) -> None:
    """So that it is the same for reference, teacher and student."""
    node = tiny.recipe(name, **knobs)
    task = tiny.context(mcc_temperature=1.25)
    inputs: dict[str, Any] = {r: Handover(task.fresh_network(), {}) for r in node.inputs}
    stage: Stage = node.stage(node.knobs, task, inputs)
    terms = [one.discrepancy for one in stage.learners.values() if one.discrepancy is not None]
    assert [getattr(term, "temperature", None) for term in terms] == [1.25] * len(terms)
    assert len(terms) == (2 if name == "itmc" else 1)
