"""Counts of compute against torch's own counter, and networks that come out as they went in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from itmc.cost import count_macs, durations, layer_macs, measure
from itmc.networks.backbones import create_backbone
from itmc.networks.build import NetworkConfig, build
from tests.itmc.helpers import KINDS, images, small, torch_macs


class Attention(nn.Module):
    """A patch embedding and self-attention, fused or written out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.embed, self.qkv = nn.Conv2d(3, 12, 4, 4), nn.Linear(12, 36)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, 2)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.transpose(1, 2)).softmax(2) @ value
        return mixed.mean(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_macs_of_small_networks_are_torchs(kind: str, count: int) -> None:
    network, inputs = small(kind), images(count)
    assert count_macs(network, inputs) == torch_macs(network, inputs)


@pytest.mark.parametrize(
    "name", ["digits_convnet", "resnet18", "mobilenet_v3_small", "timm/vit_tiny_patch16_224"]
)
def test_macs_of_backbones_are_torchs(name: str) -> None:
    size = 224 if "vit" in name else 64
    network = create_backbone(name)
    inputs = images(1, size)
    assert count_macs(network, inputs) == torch_macs(network, inputs)


@pytest.mark.parametrize("fused", [True, False])
def test_the_products_of_attention_count(fused: bool) -> None:
    embed, qkv, tokens = 9 * 12 * 3 * 16, 9 * 12 * 36, 9
    expected = embed + qkv + 2 * tokens * tokens * 12
    assert count_macs(Attention(fused), images(1, 12)) == expected


def test_macs_of_a_convolution_are_the_textbooks() -> None:
    network = nn.Conv2d(3, 5, 3, padding=1)
    assert count_macs(network, images(1, 12)) == 12 * 12 * 5 * 3 * 3 * 3


def test_norms_activations_and_pools_do_not_count() -> None:
    assert count_macs(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), images()) == 0


def test_layers_add_up_to_the_whole() -> None:
    network = small("residual")
    layers = layer_macs(network, images())
    assert sum(layers.values()) == count_macs(network, images())
    assert layers["backbone.conv1"] == 12 * 12 * 10 * 8 * 9
    assert layers["head"] == 7 * 4


@pytest.mark.parametrize(
    "function",
    [count_macs, layer_macs, lambda n, x: measure({"n": n}, x), lambda n, x: durations([n], x, 2)],
)
def test_a_network_comes_out_as_it_went_in(function: object) -> None:
    network = small("plain")
    network.backbone.get_submodule("norm1").eval()  # a frozen BatchNorm stays frozen
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert callable(function)
    function(network, images())
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_modes_are_restored_after_an_error() -> None:
    network = small("plain")
    with pytest.raises(RuntimeError):
        count_macs(network, torch.zeros(1, 5, 12, 12))
    assert all(module.training for module in network.modules())


def test_measure_gives_every_cost() -> None:
    network = build(NetworkConfig(bottleneck=16, classes=5, image_size=32))
    costs = measure({"it": network}, images(1, 32))["it"]
    assert costs["macs"] == torch_macs(network, images(1, 32))
    assert costs["parameters"] == sum(p.numel() for p in network.parameters())
    # 16x16, 16x16, 8x8 and 4x4 maps of the convolutions, the bottleneck, the head.
    assert costs["activations"] == 16 * 256 + 16 * 256 + 32 * 64 + 64 * 16 + 16 + 5
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    assert size < costs["bytes"] < size + 30_000
    assert costs["latency_ms"].pop("threads") == torch.get_num_threads()
    assert costs["latency_ms"].keys() == {"batch_1", "batch_32"}
    for timing in costs["latency_ms"].values():
        assert 0 < timing["p50"] <= timing["p95"]


def test_networks_are_timed_in_turns() -> None:
    calls: list[str] = []

    class Recorded(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, inputs: Tensor) -> Tensor:
            assert inputs.shape == (4, 3, 12, 12)
            calls.append(self.name)
            return inputs

    taken = durations([Recorded("a"), Recorded("b")], images(), 4, seconds=0.001)
    rounds = len(taken)
    assert taken.shape == (rounds, 2) and 3 <= rounds <= 50 and (taken > 0).all()
    assert calls == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * rounds
