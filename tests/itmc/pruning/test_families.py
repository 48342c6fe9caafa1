"""Each family of backbones: pruned right, to the budget, counted right, saved and loaded."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from itmc.cost import count_macs
from itmc.errors import UsageError
from itmc.networks.build import Network, NetworkConfig, build, example
from itmc.networks.spec import load_network, save_network
from itmc.pruning import prune
from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import create
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import prune_to
from itmc.pruning.verify import masked
from tests.itmc.helpers import images, stir, torch_macs, uncovered, values

FAMILIES = (
    "digits_convnet@32", "alexnet@64", "vgg11@32", "vgg11_bn@32", "resnet18@32",
    "timm/resnet26d@32", "timm/seresnet50@32", "resnext50_32x4d@32", "wide_resnet50_2@32",
    "timm/resnetv2_50@32", "timm/resnet50_gn@32", "densenet121@32", "mobilenet_v2@32",
    "mobilenet_v3_small@32", "mnasnet0_5@32", "efficientnet_b0@32", "regnet_x_400mf@32",
    "regnet_y_400mf@32", "timm/convnext_atto@32", "timm/convnextv2_atto@32", "squeezenet1_1@32",
    "googlenet@64", "inception_v3@80", "shufflenet_v2_x0_5@32", "timm/ghostnet_100@32",
    "timm/dla34@32", "timm/hrnet_w18_small@32", "timm/ese_vovnet19b_slim@32", "timm/repvgg_a0@32",
    "timm/repvit_m0_9@32", "timm/mobilevit_xxs@64", "timm/vit_tiny_patch16_224@224",
    "timm/deit_tiny_distilled_patch16_224@224", "timm/swin_tiny_patch4_window7_224@224",
    "swin_t@64",
)  # fmt: skip
# Budgets by family: plain, depthwise, LayerNorm; in groups, shuffled, heads.
SWEPT = {
    "digits_convnet@32": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "mobilenet_v3_small@32": (0.1, 0.3, 0.5, 0.7, 0.9, 0.95),
    "timm/convnext_atto@32": (0.1, 0.5, 0.95),
    "resnext50_32x4d@32": (0.1, 0.5, 0.95),
    "shufflenet_v2_x0_5@32": (0.1, 0.5, 0.95),
    "timm/vit_tiny_patch16_224@224": (0.1, 0.5, 0.95),
}
REFUSED = (
    "timm/mixer_s32_224@224", "timm/res2net50_26w_4s@32", "timm/mixnet_s@32", "timm/skresnet18@32",
    "swin_v2_t@64", "timm/dpn68@32", "timm/shvit_s1@64", "timm/pvt_v2_b0@64",
)  # fmt: skip


def configured(name: str) -> NetworkConfig:
    backbone, _, size = name.partition("@")
    return NetworkConfig(backbone=backbone, classes=5, image_size=int(size), bottleneck=16)


def traced(network: Network, image: Tensor) -> Dependencies:
    return Dependencies(network, image, kept_layers(network))


def half_of(dependencies: Dependencies) -> dict[str, list[int]]:
    """Random units of every group, about half of them and never all."""
    source = torch.Generator().manual_seed(2)
    return {
        group.name: torch.randperm(group.width, generator=source)[: group.width // 2].tolist()
        for group in dependencies.groups
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_pruned_as_if_masked_counted_and_saved(name: str, tmp_path: Path) -> None:
    config = configured(name)
    inputs, image = images(2, config.image_size), example(config)
    network = stir(build(config), images(4, config.image_size, seed=1))
    is_huge = sum(parameter.numel() for parameter in network.parameters()) > 1e8
    dependencies = traced(network, image)
    assert dependencies.whole == {} and uncovered(network, dependencies) == []
    model, units = MacModel(network, image, dependencies.groups), half_of(dependencies)
    assert model.total == torch_macs(network, image)  # and it counts by fvcore
    unpruned = values(network, inputs)
    reference = masked(network, dependencies.positions(units), dependencies.parameters)
    for parameter in network.parameters():
        parameter.grad = parameter.detach()  # where momentum rides

    for group, indices in units.items():
        model.remove(group, indices)
    dependencies.remove(units)
    network.to(memory_format=torch.channels_last)  # as prune_to leaves it
    found = values(network, inputs)
    assert isinstance(reference, Network)
    assert (values(reference, inputs) - found).abs().max() <= 1e-4
    assert (unpruned - found).abs().max() > 1e-2
    counted = count_macs(network, image)
    assert counted == torch_macs(network, image) == pytest.approx(model.total, rel=1e-9)
    assert all(0 not in tensor.shape for tensor in network.state_dict().values())
    assert network.head.weight.shape == (5, 16) and network.bottleneck[0].out_features == 16
    for parameter in network.parameters():
        assert parameter.grad is not None and torch.equal(parameter.grad, parameter)

    if is_huge:
        return  # VGG's half a gigabyte, of layers that others have too
    save_network(network, config, tmp_path, "student")
    loaded, _ = load_network(tmp_path)
    assert torch.equal(values(loaded, inputs), found)


@pytest.mark.parametrize("name", SWEPT)
def test_the_budget_is_met_within_a_point(name: str) -> None:
    config = configured(name)
    image = example(config)
    unpruned = traced(build(config), image)
    before = torch_macs(unpruned.network, image)
    scores = create("random").scores(unpruned.network, unpruned.groups)
    for compression in SWEPT[name]:
        dependencies, target = copy.deepcopy(unpruned), (1 - compression) * before
        prune_to(dependencies.network, dependencies, scores, image, target, before, Limits())
        reached = 1 - torch_macs(dependencies.network, image) / before
        assert reached == pytest.approx(compression, abs=0.01)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_pruned_is_refused_in_one_line(name: str) -> None:
    config = configured(name)
    network, image = build(config), example(config)
    with pytest.raises(UsageError) as refusal:
        prune(network, image, 0.5, "random", keep=kept_layers(network))
    said = str(refusal.value)
    assert said.startswith("this backbone") and "\n" not in said and "--backbone" in said
