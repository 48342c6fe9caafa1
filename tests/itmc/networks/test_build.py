"""Building a classifier: what its initial weights depend on, and what it gives."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.networks import backbones
from itmc.networks.build import NetworkConfig, build, example

CONFIG = NetworkConfig(bottleneck=16, classes=5, image_size=32)


def weights(seed: int, config: NetworkConfig = CONFIG) -> dict[str, Tensor]:
    return build(config, seed).state_dict()


def test_the_same_seed_gives_the_same_weights_whatever_ran_before() -> None:
    first = weights(3)
    torch.manual_seed(99)
    torch.randn(7)
    second = weights(3)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_another_seed_gives_others_in_every_layer_that_is_drawn() -> None:
    first, second = weights(3), weights(4)
    drawn = [name for name in first if name.endswith("weight") and first[name].dim() > 1]
    assert len(drawn) == 6
    assert not any(torch.equal(first[name], second[name]) for name in drawn)


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    build(CONFIG, 1)
    assert torch.equal(torch.randn(3), expected)


def test_outputs_are_features_and_the_heads_logits() -> None:
    network = build(CONFIG).eval()
    outputs = network(torch.randn(4, 3, 32, 32))
    assert outputs.features.shape == (4, 16) and outputs.logits.shape == (4, 5)
    assert outputs.features.min() >= 0  # after a ReLU
    assert torch.equal(outputs.logits, network.head(outputs.features))


def test_new_layers_are_the_bottleneck_and_the_head() -> None:
    network = build(CONFIG)
    new = {id(p) for layer in network.new_layers() for p in layer.parameters()}
    backbone = {id(p) for p in network.backbone.parameters()}
    assert not new & backbone
    assert new | backbone == {id(p) for p in network.parameters()}


def test_a_network_is_built_in_train_mode_with_channels_last_weights() -> None:
    network = build(CONFIG)
    assert all(module.training for module in network.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_example_has_the_networks_input_size() -> None:
    assert example(CONFIG).shape == (1, 3, 32, 32)


def test_an_image_size_that_is_too_small_is_a_usage_error() -> None:
    config = NetworkConfig(backbone="alexnet", classes=5, image_size=16)
    with pytest.raises(UsageError, match=r"'alexnet' does not take 16x16.*--image-size"):
        build(config)


def test_a_backbone_without_pooled_features_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(backbones.OWN, "maps", lambda: nn.Conv2d(3, 4, 3))
    config = NetworkConfig(backbone="maps", classes=5, image_size=32)
    with pytest.raises(UsageError, match="'maps' gives no single pooled feature vector"):
        build(config)


@pytest.mark.parametrize(
    "wrong", [{"classes": 1}, {"bottleneck": 0}, {"image_size": 4}, {"width": 3}]
)
def test_values_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        NetworkConfig.model_validate({"classes": 5, "image_size": 32} | wrong)


def test_a_backbone_with_layers_for_volumes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"lambda_resnet26t.*not for images"):
        build(
            NetworkConfig(backbone="timm/lambda_resnet26t", bottleneck=8, classes=3, image_size=64)
        )
