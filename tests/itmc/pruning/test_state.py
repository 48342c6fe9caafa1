"""What a network has learnt survives surgery: its optimiser's momentum, its statistics."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from itmc.networks.build import Network
from itmc.pruning.groups import Dependencies
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import recalibrate
from itmc.training.config import TrainingConfig
from itmc.training.optim import Optimiser
from tests.itmc.helpers import images, small
from tests.itmc.pruning.graphs import BRANCHING, LEAVES, around, network_of


def traced(network: Network) -> Dependencies:
    return Dependencies(network, images(), kept_layers(network))


def configured(weight_decay: float = 5e-4) -> TrainingConfig:
    values = {"lr": 0.01, "momentum": 0.9, "weight_decay": weight_decay}
    return TrainingConfig.model_validate(values)


def trained(steps: int, weight_decay: float = 0.0) -> tuple[Network, Optimiser]:
    network = small("plain")
    optimiser = Optimiser(network, None, configured(weight_decay))
    for step in range(steps):
        inputs = images(6, seed=step)
        loss = F.cross_entropy(network(inputs).logits, torch.tensor([0, 1, 2, 3, 0, 1]))
        torch.autograd.backward(loss)
        optimiser.step(0.0)
    return network, optimiser


def test_momentum_is_cut_as_the_weights_are() -> None:
    network, optimiser = trained(2, weight_decay=1e-3)
    old = {name: buffer.clone() for name, buffer in optimiser.state().items()}
    weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    one, two = [0, 2, 3, 7], [1, 4, 5, 6, 9]
    with optimiser.surgery():
        traced(network).remove(
            {
                "backbone.conv1": [i for i in range(8) if i not in one],
                "backbone.conv2": [i for i in range(12) if i not in two],
            }
        )
    for found, before in (
        (optimiser.state(), old),
        ({n: p.detach() for n, p in network.named_parameters()}, weights),
    ):
        expected = dict(before)
        expected["backbone.conv1.weight"] = before["backbone.conv1.weight"][one]
        expected["backbone.conv2.weight"] = before["backbone.conv2.weight"][two][:, one]
        for kept, norm in ((one, "backbone.norm1"), (two, "backbone.norm2")):
            for part in ("weight", "bias"):
                expected[f"{norm}.{part}"] = before[f"{norm}.{part}"][kept]
        expected["bottleneck.0.weight"] = before["bottleneck.0.weight"][:, two]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", [*LEAVES, *BRANCHING])
def test_momentum_of_every_kind_of_layer_is_cut_as_its_weights_are(kind: str) -> None:
    network = network_of(("linear", around(kind)))
    optimiser = Optimiser(network, None, configured())
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser.load_state(before)  # a momentum that is known: the weights themselves
    with optimiser.surgery():
        dependencies = traced(network)
        dependencies.remove({group.name: [group.width - 1] for group in dependencies.groups})
    after, momentum = dict(network.named_parameters()), optimiser.state()
    assert momentum.keys() == before.keys()
    assert sum(after[name].shape != before[name].shape for name in before) > 10
    assert all(torch.equal(momentum[name], after[name]) for name in before)


def test_the_step_after_surgery_goes_on_with_the_momentum() -> None:
    network, optimiser = trained(2)
    with optimiser.surgery():
        traced(network).remove({"backbone.conv1": [0, 3]})
    buffers = {name: buffer.clone() for name, buffer in optimiser.state().items()}
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(0.0)
    for name, parameter in network.named_parameters():
        rate = 0.01 if name.startswith("backbone.") else 0.1  # new layers: ten times
        moved = before[name] - rate * 0.9 * 0.9 * buffers[name]  # Nesterov, gradient zero
        assert torch.allclose(parameter, moved, rtol=1e-5, atol=1e-8)


def test_recalibration_averages_the_statistics_of_the_batches() -> None:
    network = small("plain")
    batches = [images(5, seed=1), 2 * images(5, seed=2), images(5, seed=3) - 1]
    with torch.no_grad():
        convolution = copy.deepcopy(network.backbone.get_submodule("conv1"))
        maps = [convolution(batch).transpose(0, 1).flatten(1) for batch in batches]
    recalibrate(network, batches)
    norm = network.backbone.get_submodule("norm1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    mean = torch.stack([m.mean(1) for m in maps]).mean(0)
    variance = torch.stack([m.var(1) for m in maps]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(norm.running_var, variance, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_recalibration_restores_mode_and_momentum_and_leaves_weights_alone(training: bool) -> None:
    network = small("residual").train(training)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for index, norm in enumerate(norms):
        norm.momentum = 0.1 + 0.1 * index
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    recalibrate(network, [images(4)])
    assert [norm.momentum for norm in norms] == [0.1 + 0.1 * i for i in range(len(norms))]
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[n], p) for n, p in network.named_parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
