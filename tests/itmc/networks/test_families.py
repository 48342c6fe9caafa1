"""The libraries' models in a form that can be pruned: they compute what the libraries' own do."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from itmc.networks.attention import SelfAttention, ShiftedWindows
from itmc.networks.backbones import create_backbone
from itmc.networks.families import prunable
from itmc.networks.layers import Gather, ShuffleUnit


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def stirred(model: nn.Module) -> nn.Module:
    """With noise on all parameters, as zero biases and tables would hide mistakes."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=source)
    return model.eval()


def vit() -> VisionTransformer:
    return VisionTransformer(32, 8, 2, num_heads=3, hidden_dim=24, mlp_dim=40)


def swin() -> SwinTransformer:
    return SwinTransformer([4, 4], 12, [2, 2], [3, 6], window_size=[3, 3])


@pytest.mark.parametrize(
    ("build", "size", "replaced"),
    [
        (models.shufflenet_v2_x0_5, 64, ShuffleUnit),
        (vit, 32, SelfAttention),
        (swin, 48, ShiftedWindows),  # 12 tokens a side: whole windows
        (swin, 56, ShiftedWindows),  # 14: padded ones
        (swin, 16, ShiftedWindows),  # 4, then 2: less than a window, so no shift
    ],
)
def test_a_model_computes_what_it_did(build: object, size: int, replaced: type) -> None:
    assert callable(build)
    original = stirred(build())
    changed = prunable(copy.deepcopy(original))
    assert any(isinstance(module, replaced) for module in changed.modules())
    with torch.inference_mode():
        expected, found = original(images(size)), changed(images(size))
    assert expected.std() > 1e-3
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in changed.parameters()) == sum(
        p.numel() for p in original.parameters()
    )


def test_gradients_are_the_same_too() -> None:
    original = stirred(vit())
    changed = prunable(copy.deepcopy(original))
    for model in (original, changed):
        model(images(32)).square().sum().backward()
    expected = original.encoder.layers[0].self_attention.in_proj_weight.grad
    found = changed.encoder.layers[0].self_attention.qkv.weight.grad
    assert expected.abs().max() > 1e-4
    assert torch.allclose(expected, found, rtol=1e-3, atol=1e-5)


def test_what_is_prunable_stays_as_it_is() -> None:
    model = prunable(vit())
    before = dict(model.named_modules())
    assert prunable(model) is model and dict(model.named_modules()) == before


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_left_out(name: str, recwarn: pytest.WarningsRecorder) -> None:
    backbone = create_backbone(name)
    assert not [warning for warning in recwarn if "init_weights" in str(warning.message)]
    assert not [part for part, _ in backbone.named_parameters() if "aux" in part.lower()]
    size = 299 if name == "inception_v3" else 96
    for training in (True, False):
        outputs = backbone.train(training)(images(size))
        assert isinstance(outputs, Tensor) and outputs.shape == (2, backbone_width(name))


def backbone_width(name: str) -> int:
    return {"googlenet": 1024, "inception_v3": 2048}[name]


@pytest.mark.parametrize("name", ["googlenet", "shufflenet_v2_x0_5"])
def test_a_file_of_the_librarys_weights_fits(name: str, tmp_path: Path) -> None:
    extra = {"init_weights": False} if name == "googlenet" else {}
    original = stirred(models.get_model(name, weights=None, **extra))
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    backbone = create_backbone(name, weights_file=str(tmp_path / "weights.pth")).eval()
    with torch.inference_mode():
        expected = original(images(64))
        expected = getattr(expected, "logits", expected)
        found = original.fc(backbone(images(64)))
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-5)


def test_gather_puts_out_the_channels_it_names() -> None:
    inputs = torch.arange(6.0).reshape(1, 3, 2)
    found = Gather(torch.tensor([2, 0, 0]), 3)(inputs)
    assert found.tolist() == [[[4.0, 5.0], [0.0, 1.0], [0.0, 1.0]]]


def test_a_shuffle_interleaves_its_two_branches() -> None:
    unit = prunable(models.shufflenet_v2_x0_5()).stage2[1]
    assert unit.shuffle.index.tolist()[:4] == [0, 24, 1, 25]
    assert unit.left.index.tolist() == list(range(24))
    assert unit.right.index.tolist() == list(range(24, 48))
