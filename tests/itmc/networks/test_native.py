"""Our own kernel of BatchNorm computes what its formulas say, whatever comes before and after."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from itmc.networks.build import NetworkConfig, build
from itmc.networks.compute import Compute
from itmc.networks.kernels import FasterInBfloat16
from itmc.networks.native.batch_norm import BatchNorm, Clamp
from tests.compiler import compiler as compiler

pytestmark = pytest.mark.usefixtures("compiler")

CLAMPS = (Clamp(), Clamp(0.0), Clamp(0.0, 6.0), Clamp(-0.5, 0.75))
EPS = 1e-5


def images_of(*sizes: int, mean: float = 0.0, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    drawn = (
        torch.randn(sizes, generator=random) * (1 + torch.rand(sizes[1], 1, 1, generator=random))
        + mean
    )
    return drawn.bfloat16().contiguous(memory_format=torch.channels_last)


def by_hand(images: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor, clamp: Clamp) -> Any:
    """Outputs before the clamp and gradients of images, weight and bias, by the formulas, float64.

    No autograd: with z the standardised images and g the gradient inside the clamp,
    dL/dx = w / sd (g - mean g - z mean(g z)).
    """
    over, shape = (0, 2, 3), (1, -1, 1, 1)
    x, w, b = images.double(), weight.double().view(shape), bias.double().view(shape)
    mean, variance = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    deviation = (variance + EPS).sqrt()
    z = (x - mean) / deviation
    outputs = z * w + b
    # Where rounding decides on which side of the clamp an output is, nothing is to be learnt.
    at_edge = ((outputs - clamp.lowest).abs() < 1e-3) | ((outputs - clamp.highest).abs() < 1e-3)
    gradient = gradient.masked_fill(at_edge, 0)
    g = gradient.double() * ((outputs > clamp.lowest) & (outputs < clamp.highest))
    inner = g - g.mean(over, keepdim=True) - z * (g * z).mean(over, keepdim=True)
    return outputs, gradient, (w / deviation * inner, (g * z).sum(over), g.sum(over))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 70), st.integers(1, 9), st.integers(2, 9))
    | st.sampled_from([(2, 513, 3, 3), (3, 1280, 2, 2), (16, 3, 40, 40), (2, 64, 33, 31)]),
    st.sampled_from(CLAMPS),
    st.sampled_from([0.0, 3.0, -20.0]),
    st.integers(1, 3),
)
def test_it_is_batch_norm(
    sizes: tuple[int, int, int, int], clamp: Clamp, mean: float, threads: int
) -> None:
    random = torch.Generator().manual_seed(1)
    images, channels = images_of(*sizes, mean=mean).requires_grad_(), sizes[1]
    weight, bias, running_mean, running_var = torch.randn(4, channels, generator=random).unbind()
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    gradient = images_of(*sizes, seed=2)
    before = running_mean.double(), running_var.double()
    expected, gradient, of_all = by_hand(images, weight, bias, gradient, clamp)

    torch.set_num_threads(threads)
    try:
        normalised = BatchNorm(images, (running_mean, running_var), weight, bias, 0.3, EPS)
        normalised.write(clamp)
        found = torch.autograd.grad(normalised.outputs, (images, weight, bias), gradient)
    finally:
        torch.set_num_threads(1)

    near = partial(torch.testing.assert_close, check_dtype=False)
    near(normalised.outputs, expected.clamp(clamp.lowest, clamp.highest), rtol=2**-8, atol=1e-3)
    largest = max(1.0, float(of_all[0].detach().abs().max()))
    near(found[0], of_all[0], rtol=2**-8, atol=1e-4 * largest)
    near(found[1], of_all[1], rtol=1e-4, atol=1e-3)
    near(found[2], of_all[2], rtol=1e-4, atol=1e-3)
    x = images.detach().double().transpose(0, 1).flatten(1)
    near(running_mean, 0.7 * before[0] + 0.3 * x.mean(1), rtol=1e-5, atol=1e-5)
    near(running_var, 0.7 * before[1] + 0.3 * x.var(1), rtol=1e-4, atol=1e-5)


def test_small_variances_far_from_zero_are_seen() -> None:
    """The mean square less the square of the mean would be some noise in float32."""
    steps = torch.arange(1024).remainder(2).view(4, 1, 16, 16)
    images = (1024 + 8 * steps).bfloat16().contiguous(memory_format=torch.channels_last)
    running = torch.zeros(1), torch.zeros(1)
    BatchNorm(images, running, None, None, 1.0, EPS)
    assert running[0].item() == 1028
    assert running[1].item() == pytest.approx(16 * 1024 / 1023, rel=1e-6)


def test_the_same_bits_come_out_whatever_the_threads() -> None:
    found = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        try:
            images = images_of(16, 24, 40, 40).requires_grad_()
            weight = torch.linspace(0.5, 2, 24).requires_grad_()
            normalised = BatchNorm(images, (None, None), weight, None, 0.1, EPS)
            normalised.write(Clamp(0.0, 6.0))
            of = torch.autograd.grad(
                normalised.outputs, (images, weight), images_of(16, 24, 40, 40)
            )
            found.append([normalised.outputs.detach(), *of])
        finally:
            torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_what_is_not_a_number_stays_none() -> None:
    images = images_of(2, 3, 4, 4)
    images[0, 1, 2, 2] = math.nan
    normalised = BatchNorm(images, (None, None), None, None, 0.1, EPS)
    normalised.write(Clamp(0.0, 6.0))
    is_nan = normalised.outputs.isnan().flatten(2).transpose(0, 1).flatten(1)
    assert is_nan.all(1).tolist() == is_nan.any(1).tolist() == [False, True, False]


def passed(
    layers: nn.Module, images: Tensor, kernels: Any = "native"
) -> tuple[Tensor, list[Tensor]]:
    """Outputs, and the gradients of images and parameters, inside."""
    given = images.clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), FasterInBfloat16(kernels):
        outputs = layers(given)
    weights = images_of(*outputs.shape, seed=5)
    inputs = [given, *layers.parameters()]
    return outputs.detach(), list(torch.autograd.grad(outputs, inputs, weights))


def used(monkeypatch: pytest.MonkeyPatch) -> list[Clamp]:
    """What outputs of our kernel are kept within from now on, one for each call."""
    clamps: list[Clamp] = []
    write = BatchNorm.write

    def noted(self: BatchNorm, clamp: Clamp) -> None:
        clamps.append(clamp)
        write(self, clamp)

    monkeypatch.setattr(BatchNorm, "write", noted)
    return clamps


class Doubled(torch.autograd.Function):
    """Twice its input, by a function that no mode sees."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * 2


class Called(nn.Module):
    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, images: Tensor) -> Any:
        return self.call(images)


@pytest.mark.parametrize(
    ("after", "clamp"),
    [
        (nn.ReLU(inplace=True), Clamp(0.0)),
        (nn.ReLU6(inplace=True), Clamp(0.0, 6.0)),
        (nn.Hardtanh(-0.25, 0.5, inplace=True), Clamp(-0.25, 0.5)),
        (Called(lambda images: F.relu6(images, inplace=True)), Clamp(0.0, 6.0)),
        (nn.ReLU6(), Clamp()),
        (nn.Identity(), Clamp()),
        (nn.SiLU(inplace=True), Clamp()),
        (Called(torch.relu_), Clamp()),
        (Called(lambda images: F.relu(images * 2, inplace=True)), Clamp()),
        (Called(Doubled.apply), Clamp()),
    ],
)
def test_an_activation_in_place_is_one_with_it(
    after: nn.Module, clamp: Clamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    clamps = used(monkeypatch)
    layers = nn.Sequential(nn.BatchNorm2d(7), after)
    with torch.no_grad():
        layers[0].weight.copy_(torch.linspace(0.5, 3, 7))
        layers[0].bias.copy_(torch.linspace(-1, 1, 7))
    images = images_of(4, 7, 9, 9)
    outputs, gradients = passed(layers, images)
    assert clamps == [clamp]
    expected, others = passed(layers.float(), images.float(), "torch")
    torch.testing.assert_close(outputs.float(), expected.float(), rtol=2**-7, atol=2**-6)
    # Rounding decides of a few outputs whether they are inside the clamp.
    for one, other in zip(gradients, others, strict=True):
        assert (one.float() - other.float()).norm() <= 0.1 * other.float().norm()


def test_who_looks_between_sees_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    clamps = used(monkeypatch)
    layers = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(inplace=True))
    images, seen = images_of(3, 5, 6, 6), []
    whole, _ = passed(layers, images)
    layers[0].register_forward_hook(lambda *given: seen.append(given[2].detach().clone()))
    outputs, _ = passed(layers, images)
    assert clamps == [Clamp(0.0), Clamp()]
    assert (seen[0] < 0).any() and torch.equal(seen[0].relu(), outputs)
    assert torch.equal(outputs, whole)


def test_what_nothing_follows_is_written() -> None:
    layer, images = nn.BatchNorm2d(5), images_of(3, 5, 6, 6)
    with FasterInBfloat16("native"):
        outputs = layer(images)
    assert torch.allclose(outputs.float(), nn.BatchNorm2d(5)(images.float()), rtol=2**-7, atol=1e-3)


def test_without_momentum_statistics_are_the_mean_of_all() -> None:
    layer, expected = (nn.BatchNorm2d(5, momentum=None) for _ in range(2))
    for seed in range(3):
        images = images_of(3, 5, 6, 6, seed=seed)
        with torch.no_grad(), FasterInBfloat16("native"):
            layer(images)
        expected.double()(images.double())
    assert torch.allclose(layer.running_mean.double(), expected.running_mean, atol=1e-6)
    assert torch.allclose(layer.running_var.double(), expected.running_var, rtol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        images_of(3, 5, 6, 6).float(),
        images_of(3, 5, 6, 6).contiguous(),
        images_of(3, 5, 6, 6).flatten(2),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_else_batch_norm_is_torchs(
    given: Tensor, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clamps = used(monkeypatch)
    layer = (nn.BatchNorm2d if given.dim() == 4 else nn.BatchNorm1d)(5).train(training)
    with FasterInBfloat16("native"):
        outputs = layer(given)
    assert torch.equal(outputs, layer(given)) and not clamps


def test_one_pixel_of_a_channel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 value"), FasterInBfloat16("native"):
        F.batch_norm(images_of(1, 5, 1, 1), None, None, training=True)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_a_training_step_is_torchs_to_the_noise_of_bfloat16(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = build(NetworkConfig(backbone=name, classes=5, image_size=96)).train()
    images = torch.randn(8, 3, 96, 96)
    clamps = used(monkeypatch)
    found: dict[str, list[Tensor]] = {}
    for way, compute in {
        "exact": Compute(),
        "torch": Compute("bf16"),
        "native": Compute("bf16", kernels="native"),
    }.items():
        copied = copy.deepcopy(network)
        outputs = compute(copied, images)
        F.cross_entropy(outputs.logits, torch.arange(8) % 5).backward()
        gradients = torch.cat([p.grad.flatten() for p in copied.parameters() if p.grad is not None])
        running = [b for key, b in copied.state_dict().items() if "running_var" in key]
        found[way] = [outputs.features.detach(), gradients, torch.cat(running)]
    assert len(clamps) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert sum(clamp != Clamp() for clamp in clamps) == {"mobilenet_v2": 35, "resnet18": 9}[name]
    for exact, torchs, ours in zip(*found.values(), strict=True):
        assert (ours - exact).norm() <= 1.3 * (torchs - exact).norm()
        assert (ours - exact).norm() > 0
