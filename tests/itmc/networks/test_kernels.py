"""Kernels that stand in for slow ones compute the same."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from itmc.networks.backbones import create_backbone
from itmc.networks.kernels import FasterInBfloat16, _StridedDepthwise


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(2, 3),
    st.sampled_from([(3, 1, 1), (5, 2, 1), (3, 0, 1), (1, 0, 1), (3, 2, 2), (2, 0, 1)]),
    st.tuples(st.integers(7, 12), st.integers(7, 12)),
    st.integers(1, 2),
    st.booleans(),
)
def test_a_strided_depthwise_convolution_is_torchs(
    channels: int,
    stride: int,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    multiplier: int,
    biased: bool,
) -> None:
    kernel, padding, dilation = shape
    random = torch.Generator().manual_seed(0)

    def drawn(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=random, dtype=torch.float64, requires_grad=True)

    given = [drawn(2, channels, *size), drawn(channels * multiplier, 1, kernel, kernel)]
    given += [drawn(channels * multiplier)] * biased
    how = [stride] * 2, [padding] * 2, [dilation] * 2, channels
    expected = torch.conv2d(given[0], given[1], given[2] if biased else None, *how)
    found = _StridedDepthwise.apply(given[0], given[1], given[2] if biased else None, *how)
    assert torch.equal(found, expected)
    weights = torch.randn(expected.shape, generator=random, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, given, weights),
        torch.autograd.grad(expected, given, weights),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


class Strided(nn.Module):
    """A depthwise convolution of stride 2, behind an activation and a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.activation = nn.ReLU6(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        total = images * 2
        total += images
        activated: Tensor = self.activation(self.convolution(total))
        return activated


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_inside_gradients_are_those_of_autocast(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 8, 14, 14).contiguous(memory_format=layout)
    networks = [Strided().to(memory_format=layout)]
    networks.append(copy.deepcopy(networks[0]))
    outputs = []
    for network, faster in zip(networks, (False, True), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            if faster:
                with FasterInBfloat16():
                    outputs.append(network(images))
            else:
                outputs.append(network(images))
        torch.autograd.backward(outputs[-1].float().square().sum())
    assert outputs[1].dtype == torch.bfloat16
    assert torch.equal(outputs[0], outputs[1])
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        assert one.grad is not None and other.grad is not None
        assert one.grad.dtype == torch.float32
        assert torch.allclose(one.grad, other.grad, rtol=1e-2)


def test_inside_nothing_is_done_in_place() -> None:
    values = torch.linspace(-1, 7, 9, dtype=torch.bfloat16)
    before = values.clone()
    for activation in (F.relu, F.relu6, F.hardtanh, F.hardswish, F.silu, F.leaky_relu, F.elu):
        with FasterInBfloat16():
            found = activation(values, inplace=True)
        assert torch.equal(values, before)
        assert torch.equal(found, activation(values.clone(), inplace=True))
    maps = values.view(1, 1, 3, 3)
    with FasterInBfloat16():
        total = maps
        total += before.view(1, 1, 3, 3)
    assert torch.equal(values, before) and torch.equal(total, 2 * maps)


def test_inside_other_sums_are_in_place() -> None:
    """BatchNorm counts its batches so."""
    norm = nn.BatchNorm2d(3).train()
    with FasterInBfloat16():
        norm(torch.randn(2, 3, 4, 4).bfloat16())
    assert norm.num_batches_tracked is not None and int(norm.num_batches_tracked) == 1
    total = torch.zeros(3)
    with FasterInBfloat16():
        same = total
        same += torch.ones(3, dtype=torch.bfloat16)
    assert torch.equal(total, torch.ones(3)) and same is total


# The first of timm's adds positions in place, in a method that returns nothing.
FAMILIES = (
    *("timm/naflexvit_base_patch16_gap", "vit_b_32", "swin_t"),
    *("resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121"),
    *("efficientnet_b0", "regnet_y_400mf", "timm/mobilenetv3_small_050", "timm/convnext_atto"),
)


@pytest.mark.parametrize("name", FAMILIES)
def test_libraries_networks_compute_the_same_inside(name: str) -> None:
    """None of them relies on having been changed in place."""
    torch.manual_seed(0)
    backbone = create_backbone(name, "none", None).eval().to(memory_format=torch.channels_last)
    for key, parameter in backbone.named_parameters():
        if "pos" in key:  # which begin near zero
            nn.init.normal_(parameter)
    side = 224 if name == "vit_b_32" else 64
    images = torch.randn(2, 3, side, side).contiguous(memory_format=torch.channels_last)
    outputs = []
    for faster in (False, True):  # with gradients, for which strided convolutions are others
        with torch.autocast("cpu", torch.bfloat16), FasterInBfloat16() if faster else nullcontext():
            outputs.append(backbone(images.clone()).detach().double())
    assert (outputs[0] - outputs[1]).norm() <= 0.05 * outputs[0].norm()


@pytest.mark.parametrize("channels", [64, 32])
@pytest.mark.parametrize("biased", [True, False])
def test_single_pixels_are_multiplied_as_they_are_convolved(channels: int, biased: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(96, channels, 1, bias=biased)
    images = torch.randn(2, 96, 5, 7).contiguous(memory_format=torch.channels_last)
    found, layers = [], []
    for faster in (False, True):
        copied, given = copy.deepcopy(layer), images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16), FasterInBfloat16() if faster else nullcontext():
            outputs = copied(given)
        assert outputs.is_contiguous(memory_format=torch.channels_last)
        torch.autograd.backward(outputs.float().square().sum())
        assert given.grad is not None
        found.append((outputs.detach().float(), given.grad))
        layers.append(copied)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=2e-2, atol=2e-2)
    for one, other in zip(*(copied.parameters() for copied in layers), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=2e-2, atol=2e-1)
