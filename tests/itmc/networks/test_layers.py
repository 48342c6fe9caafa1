"""Layers that stand in for a library's: alike in training and once they are pruned, too."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import VisionTransformer

from itmc.networks.build import Network
from itmc.networks.families import prunable
from itmc.networks.layers import Gather
from itmc.pruning.groups import Dependencies
from itmc.pruning.shrink import kept_layers
from tests.itmc.helpers import gap, images


def test_the_positions_of_a_gather_go_with_its_weights_and_are_not_learnt() -> None:
    first, second = Gather(torch.tensor([2, 0]), 3), Gather(torch.tensor([0, 1]), 3)
    assert not list(first.parameters())
    second.load_state_dict(first.state_dict())
    inputs = torch.randn(2, 3, 4, 4)
    assert torch.equal(second(inputs), inputs[:, [2, 0]])


def test_gradients_pass_a_gather_to_the_channels_it_puts_out() -> None:
    inputs = torch.randn(1, 4, 2, 2, requires_grad=True)
    outputs: Tensor = Gather(torch.tensor([3, 1, 1]), 4)(inputs)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    assert gradient[0, :, 0, 0].tolist() == [0, 2, 0, 1]


def test_a_shuffled_network_trains_as_the_librarys_does() -> None:
    original = models.shufflenet_v2_x0_5().train()
    changed = prunable(copy.deepcopy(original)).train()
    for model in (original, changed):
        model(images(4, 64)).square().mean().backward()
    expected, found = dict(original.named_parameters()), dict(changed.named_parameters())
    assert expected.keys() == found.keys()
    for name, parameter in expected.items():
        one, two = parameter.grad, found[name].grad
        assert one is not None and two is not None and torch.equal(one, two), name
    left = changed.state_dict()  # the statistics of BatchNorm too
    assert all(torch.equal(tensor, left[name]) for name, tensor in original.state_dict().items())


def transformer() -> Network:
    """torchvision's, with three heads of eight channels in each of two blocks."""
    torch.manual_seed(0)
    backbone = VisionTransformer(24, 8, 2, num_heads=3, hidden_dim=24, mlp_dim=40)
    backbone.heads = nn.Sequential()
    for name, parameter in backbone.named_parameters():
        if name.endswith("bias"):  # zero at first, which hides mistakes
            nn.init.normal_(parameter, std=0.3)
    return Network(backbone, 24, bottleneck=8, classes=3).eval()


def pruned(network: Network, units: dict[str, list[int]]) -> Network:
    """A copy in the form that can be pruned, without ``units``."""
    changed = copy.deepcopy(network)
    prunable(changed.backbone)
    Dependencies(changed, images(1, 24), kept_layers(changed)).remove(units)
    return changed


def test_a_head_removed_is_a_head_whose_values_are_zero_in_the_librarys_attention() -> None:
    network = transformer()
    block = "backbone.encoder.layers.encoder_layer_0.self_attention"
    found = pruned(network, {f"{block}.qkv": [1]})
    masked = copy.deepcopy(network)
    attention = masked.get_submodule(block)
    assert isinstance(attention, nn.MultiheadAttention)
    with torch.no_grad():
        for tensor in (attention.in_proj_weight, attention.in_proj_bias):
            tensor[2 * 24 + 8 : 2 * 24 + 16] = 0
    assert gap(found, masked, images(2, 24)) <= 1e-5
    assert gap(found, network, images(2, 24)) > 1e-3
    assert found.get_submodule(block).num_heads == 2


def test_a_token_loses_channels_and_the_model_still_takes_its_images() -> None:
    network = transformer()
    found = pruned(network, {"backbone.conv_proj": [0, 5, 11]})
    model = found.backbone
    assert isinstance(model, VisionTransformer)
    shapes = [tuple(t.shape) for t in (model.class_token, model.encoder.pos_embedding)]
    assert model.hidden_dim == 21 and shapes == [(1, 1, 21), (1, 10, 21)]
    assert gap(found, network, images(2, 24)) > 1e-3
    assert found(images(2, 24)).logits.shape == (2, 3)
