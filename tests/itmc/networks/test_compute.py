"""Passes in another precision or layout, or compiled, are those of the plain network."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from itmc.networks.build import Network, NetworkConfig, Outputs, build
from itmc.networks.compute import Compute
from itmc.pruning import prune

SIZE = 32
CONFIG = NetworkConfig(backbone="resnet18", bottleneck=16, classes=5, image_size=SIZE)


@pytest.fixture(scope="module")
def network() -> Network:
    return build(CONFIG, seed=1)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def passed(network: Network, images: Tensor, compute: Compute) -> tuple[Outputs, Network]:
    """Outputs of a copy of ``network``, and the copy with the gradients of their squares."""
    copied = copy.deepcopy(network).train()
    outputs = compute(copied, images)
    torch.autograd.backward(outputs.features.square().sum() + outputs.logits.square().sum())
    return outputs, copied


def distance(found: Tensor, expected: Tensor) -> float:
    error = found.detach().double() - expected.detach().double()
    return float(error.norm() / expected.detach().double().norm())


def test_in_float32_a_pass_is_a_call(network: Network, images: Tensor) -> None:
    plain = copy.deepcopy(network)(images.contiguous(memory_format=torch.channels_last))
    outputs, _ = passed(network, images, Compute("fp32"))
    assert all(torch.equal(*pair) for pair in zip(outputs, plain, strict=True))


def test_mixed_precision_is_near_float32_and_not_the_same(network: Network, images: Tensor) -> None:
    (expected, one), (found, other) = (
        passed(network, images, Compute(precision)) for precision in ("fp32", "bf16")
    )
    for values, truth in zip(found, expected, strict=True):
        assert values.dtype == torch.float32
        assert 0 < distance(values, truth) < 0.2
    for (name, parameter), truth in zip(other.named_parameters(), one.parameters(), strict=True):
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
        assert truth.grad is not None and parameter.grad.isfinite().all(), name
    head, truth = (of.head.weight.grad for of in (other, one))
    assert head is not None and truth is not None and 0 < distance(head, truth) < 0.2


def test_statistics_of_a_mixed_pass_are_sums_in_float32(images: Tensor) -> None:
    """Sums in bfloat16 over 8 x 16 x 16 positions would be off by several percent."""
    network = build(CONFIG, seed=1).train()
    seen: list[Tensor] = []
    convolution, norm = (
        network.backbone.get_submodule("conv1"),
        network.backbone.get_submodule("bn1"),
    )
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    convolution.register_forward_hook(lambda _, __, output: seen.append(output.double()))
    norm.momentum = 1.0
    Compute("bf16")(network, images + 3)
    assert norm.running_mean.dtype == torch.float32
    assert distance(norm.running_mean, seen[0].mean((0, 2, 3))) < 1e-5
    assert norm.running_var is not None
    assert distance(norm.running_var, seen[0].var((0, 2, 3))) < 1e-5


def test_bottleneck_and_head_are_in_float32(network: Network, images: Tensor) -> None:
    pooled: list[Tensor] = []
    copied = copy.deepcopy(network).eval()
    copied.backbone.register_forward_hook(lambda _, __, output: pooled.append(output))
    with torch.no_grad():
        outputs = Compute("bf16")(copied, images)
        features = copied.bottleneck(pooled[0].float())
    assert pooled[0].dtype == torch.bfloat16
    assert torch.equal(outputs.features, features)
    assert torch.equal(outputs.logits, copied.head(features))


def test_rows_by_rows_is_the_same_but_for_rounding(network: Network, images: Tensor) -> None:
    layouts: list[bool] = []
    copied = copy.deepcopy(network)
    copied.backbone.get_submodule("conv1").register_forward_hook(
        lambda _, inputs, __: layouts.append(inputs[0].is_contiguous())
    )
    expected = Compute()(copied, images)
    found = Compute(channels_last=False)(copied, images)
    assert layouts == [False, True]
    weight = copied.backbone.get_submodule("layer1.0.conv1").get_parameter("weight")
    assert weight.is_contiguous()
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(found, expected, strict=True))


def test_a_compiled_network_is_compiled_anew_when_it_is_pruned(
    network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = 0

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> object:
        nonlocal graphs
        graphs += 1
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compute, copied = Compute(compile=True), copy.deepcopy(network)
    expected = Compute()(copied, images)
    for _ in range(2):
        found = compute(copied, images)
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, expected, strict=True))
    assert graphs == 1
    before = set(copied.state_dict())
    example = torch.zeros(1, 3, SIZE, SIZE)
    prune(copied, example, 0.5, "l1", keep=(copied.bottleneck[0],))
    expected, found = Compute()(copied, images), compute(copied, images)
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, expected, strict=True))
    assert graphs == 2
    assert set(copied.state_dict()) == before


def test_hooks_see_compiled_passes(
    network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compute, copied, seen = Compute(compile=True), copy.deepcopy(network), []
    compute(copied, images)
    copied.backbone.get_submodule("bn1").register_forward_hook(lambda *_: seen.append(1))
    compute(copied, images)
    assert seen == [1]
