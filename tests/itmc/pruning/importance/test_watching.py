"""Watching activations: what counts, what is left behind, and steps that cannot be judged."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.networks.build import Network
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import TaylorMin
from itmc.pruning.shrink import kept_layers
from tests.itmc.helpers import images, small
from tests.itmc.pruning.importance.nets import group, groups_of, like, member
from tests.itmc.pruning.importance.steps import EACH, by_hand, close, loss_of, passed, watched


def test_watching_changes_neither_outputs_nor_gradients() -> None:
    networks = small("residual"), small("residual")
    groups = groups_of(networks[0])
    losses = [loss_of(*passed(networks[0], 1))]
    with TaylorMin().watch(networks[1], groups, EACH):
        losses.append(loss_of(*passed(networks[1], 1)))
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses)
    for one, other in zip(*(n.parameters() for n in networks), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_no_hook_is_left_not_even_after_an_error() -> None:
    network = small("plain")
    groups, criterion = groups_of(network), TaylorMin()
    with criterion.watch(network, groups, EACH):
        assert hooks(network) == 3
    assert hooks(network) == 0
    with pytest.raises(ZeroDivisionError), criterion.watch(network, groups, EACH):
        raise ZeroDivisionError
    assert hooks(network) == 0


def test_nothing_is_kept_after_observe_though_the_loss_is() -> None:
    network = small("plain")
    groups, criterion = groups_of(network), TaylorMin()

    def maps() -> int:
        """Activations of the whole batch that are alive."""
        gc.collect()
        tensors = [o for o in gc.get_objects() if type(o) is Tensor]
        return sum(t.dim() == 4 and len(t) == 2 * EACH for t in tensors)

    before = maps()
    with criterion.watch(network, groups, EACH):
        loss = loss_of(*passed(network, 1))
    assert maps() > before
    loss.backward()
    criterion.observe(network, groups)
    assert loss.grad_fn is not None  # the graph lives on, with the hooks in it
    assert maps() == before
    with pytest.raises(RuntimeError, match="watched no pass"):
        criterion.observe(network, groups)


def test_a_step_that_was_not_observed_is_forgotten() -> None:
    network = small("plain").double()
    groups, criterion = groups_of(network), TaylorMin()
    for seed in (5, 1):
        network.zero_grad()
        with criterion.watch(network, groups, EACH):
            loss = loss_of(*passed(network, seed))
        loss.backward()
    criterion.observe(network, groups)
    expected = watched(small("plain").double(), groups, [1])
    for g in groups:
        assert close(criterion.totals[g.name], expected.totals[g.name])


def test_passes_without_gradients_do_not_count() -> None:
    network = small("plain").double()
    groups, criterion = groups_of(network), TaylorMin()
    with criterion.watch(network, groups, EACH):
        network.eval()
        with torch.no_grad():
            passed(network, 7)
        with torch.inference_mode():
            passed(network, 8)
        network.train()
        passed(network, 9)  # with a graph, but in no loss
        loss = loss_of(*passed(network, 1))
    with torch.no_grad():
        passed(network, 10)
    loss.backward()
    criterion.observe(network, groups)
    assert criterion.batches == 1
    expected = watched(small("plain").double(), groups, [1])
    for g in groups:
        assert close(criterion.totals[g.name], expected.totals[g.name])


def test_copies_made_while_watching_are_not_watched() -> None:
    network = small("plain").double()
    groups, criterion = groups_of(network), TaylorMin()
    with criterion.watch(network, groups, EACH):
        copies = [copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
        loss = loss_of(*passed(network, 1))
        for copied in copies:
            loss_of(*passed(copied, 2)).backward()
    loss.backward()
    criterion.observe(network, groups)
    expected = watched(small("plain").double(), groups, [1])
    for g in groups:
        assert close(criterion.totals[g.name], expected.totals[g.name])


def test_a_pruned_network_is_watched_anew() -> None:
    network = small("residual").double()
    dependencies = Dependencies(network, like(network), kept_layers(network))
    with TaylorMin().watch(network, dependencies.groups, EACH):
        passed(network, 1)
    dependencies.remove({"backbone.conv1": [0, 3]})
    groups = groups_of(network)
    found = watched(copy.deepcopy(network), groups, [1]).totals["backbone.conv1"]
    assert close(found, by_hand(network, ["backbone.norm1"], 1).abs())


@pytest.mark.parametrize("count", [EACH, 2 * EACH - 1, 2 * EACH + 2])
def test_a_step_that_is_not_of_both_domains_is_a_usage_error(count: int) -> None:
    network = small("plain").double()
    groups, criterion = groups_of(network), TaylorMin()
    with criterion.watch(network, groups, EACH):
        loss = network(like(network, count)).logits.square().sum()
    loss.backward()
    message = rf"'taylor_min' .*needs 3 images of each in a step, but the loss is of {count} images"
    with pytest.raises(UsageError, match=message):
        criterion.observe(network, groups)


def test_a_loss_of_one_domain_alone_is_a_usage_error() -> None:
    network = small("bare").double()  # no BatchNorm, through which the other would still matter
    groups, criterion = groups_of(network), TaylorMin()
    with criterion.watch(network, groups, EACH):
        network.bottleneck.eval()
        source, _ = passed(network, 1)
    source.logits.square().sum().backward()
    criterion.observe(network, groups)
    with pytest.raises(UsageError, match="does not depend on the target images"):
        criterion.scores(network, groups)


def test_outputs_that_no_image_can_be_told_in_are_a_usage_error() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 5)

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.linear(inputs.mean((2, 3))[:-1])
            return torch.cat([out, out[:1]])

    network = Network(Mixed(), 5, bottleneck=7, classes=4)
    made = (group(5, member("backbone.linear", range(5))),)
    with (
        pytest.raises(UsageError, match=r"'backbone\.linear' puts out: 5 rows for 6 images"),
        TaylorMin().watch(network, made, EACH),
    ):
        network(images(6))


def test_a_layer_outside_the_loss_is_an_error() -> None:
    network = small("plain")
    extra = group(3, member("aside", range(3)))
    network.aside = nn.Linear(2, 3)
    with pytest.raises(RuntimeError, match="does not depend on what layer 'aside' puts out"):
        watched(network, [*groups_of(small("plain")), extra], [1])


def test_nothing_watched_or_observed_is_an_error() -> None:
    network = small("plain")
    with pytest.raises(RuntimeError, match="watched no pass"):
        TaylorMin().observe(network, groups_of(network))
    with pytest.raises(RuntimeError, match="before any batch"):
        TaylorMin().scores(network, groups_of(network))
