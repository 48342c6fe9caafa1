"""A pruned network as data: it comes back bit by bit, and damage is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from itmc.errors import UsageError
from itmc.networks.build import Network, NetworkConfig, build, example
from itmc.networks.spec import load_network, load_state, save_network, sealed, widths_of
from itmc.pruning.groups import Dependencies
from itmc.pruning.shrink import kept_layers


def config(backbone: str = "digits_convnet", size: int = 32) -> NetworkConfig:
    return NetworkConfig(backbone=backbone, bottleneck=16, classes=5, image_size=size)


def pruned(of: NetworkConfig, seed: int = 1) -> Network:
    """Every group loses its first third; BatchNorm has seen a batch."""
    network = build(of, seed)
    dependencies = Dependencies(network, example(of), kept_layers(network))
    dependencies.remove({g.name: list(range(g.width // 3)) for g in dependencies.groups})
    network(torch.randn(3, 3, of.image_size, of.image_size))
    return network.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("digits_convnet", 32),
        ("resnet18", 32),
        ("mobilenet_v2", 32),
        ("mnasnet0_5", 32),  # its loader wants the version of its modules
        ("timm/convnext_atto", 32),  # LayerNorm
    ],
)
def test_a_pruned_network_comes_back_bit_by_bit(backbone: str, size: int, tmp_path: Path) -> None:
    network = pruned(config(backbone, size))
    save_network(network, config(backbone, size), tmp_path, "student")
    loaded, found = load_network(tmp_path)
    assert found == config(backbone, size)
    assert widths_of(loaded) == widths_of(network)
    saved, restored = network.state_dict(), loaded.state_dict()
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[name], restored[name]) for name in saved)
    images = torch.randn(2, 3, size, size)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(network.eval()(images).logits, loaded(images).logits)


def test_buffers_that_are_never_saved_are_no_reason_to_refuse(tmp_path: Path) -> None:
    network = build(config())
    network.register_buffer("derived", torch.ones(2), persistent=False)
    load_state(network, widths_of(network), dict(network.state_dict()))
    assert torch.equal(network.get_buffer("derived"), torch.ones(2))


# timm's MobileNetV3 has BatchNorms with children (BatchNormAct2d).
@pytest.mark.parametrize("backbone", ["digits_convnet", "timm/mobilenetv3_small_050"])
def test_a_loaded_network_can_be_trained_and_pruned_further(tmp_path: Path, backbone: str) -> None:
    made = config(backbone)
    save_network(pruned(made), made, tmp_path, "student")
    network, _ = load_network(tmp_path)
    network.train()(torch.randn(3, 3, 32, 32)).logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    dependencies = Dependencies(network, example(made), kept_layers(network))
    dependencies.remove({g.name: [0] for g in dependencies.groups})
    assert network(torch.randn(3, 3, 32, 32)).logits.shape == (3, 5)


def test_widths_follow_the_tensors(tmp_path: Path) -> None:
    network = pruned(config())
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [11, 11, 22, 43]
    assert widths_of(network)["backbone.features.3"] == {
        "in_channels": 11,
        "out_channels": 11,
        "groups": 1,
    }


Tamper = Callable[[dict[str, Any]], object]


def forge(path: Path, tamper: Tamper) -> None:
    """Change a description and give it a sha256 that fits, as no accident would."""
    description = json.loads(path.read_text())
    del description["sha256"]
    tamper(description)
    path.write_bytes(sealed(description))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda d: d.update(format=1), "format 1, this version reads 2"),
        (lambda d: d.pop("format"), "describes no network"),
        (lambda d: d.pop("safetensors_sha256"), "safetensors_sha256: Field required"),
        (lambda d: d.pop("network"), "network: Field required"),
        (lambda d: d.pop("widths"), "widths: Field required"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d["network"].update(classes=0), "classes"),
        (lambda d: d["network"].update(unknown=0), "unknown"),
        (lambda d: d["network"].update(backbone="resnet5"), "did you mean"),
        (lambda d: d["network"].update(classes=4), "at most"),
        (lambda d: d["widths"].update(stranger={"out_features": 3}), "'stranger'"),
        (lambda d: d["widths"]["head"].update(forward=1), "no width 'forward'"),
        (lambda d: d["widths"]["head"].update(training=0), "no width 'training'"),
        (lambda d: d["widths"]["head"].update(out_features=3), "'head' the widths"),
        (lambda d: d["widths"]["head"].update(out_features="many"), "out_features"),
        (lambda d: d["widths"]["backbone.features.3"].update(groups=2), "features.3"),
        (lambda d: d["widths"]["backbone.features.3"].update(groups=0), "features.3"),
        (lambda d: d["widths"]["backbone.features.1"].update(num_features=99), "features.1"),
    ],
)
def test_a_forged_description_is_a_usage_error(
    tamper: Tamper, message: str, tmp_path: Path
) -> None:
    save_network(pruned(config()), config(), tmp_path, "student")
    forge(tmp_path / "student.json", tamper)
    with pytest.raises(UsageError, match=message):
        load_network(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'"text"'])
def test_what_is_no_description_is_a_usage_error(content: bytes, tmp_path: Path) -> None:
    save_network(pruned(config()), config(), tmp_path, "student")
    (tmp_path / "student.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"student\.json"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["student.json", "student.safetensors"])
def test_a_missing_file_is_a_usage_error(name: str, tmp_path: Path) -> None:
    save_network(pruned(config()), config(), tmp_path, "student")
    (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=rf"{name}.*missing"):
        load_network(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_weights_cut_short_are_a_usage_error(share: float, tmp_path: Path) -> None:
    save_network(pruned(config()), config(), tmp_path, "student")
    path = tmp_path / "student.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UsageError, match=r"student\.safetensors.*damaged"):
        load_network(tmp_path)


def test_weights_of_another_architecture_are_a_usage_error(tmp_path: Path) -> None:
    save_network(pruned(config()), config(), tmp_path, "student")
    save_network(build(config("resnet18")), config("resnet18"), tmp_path, "other")
    weights = (tmp_path / "other.safetensors").rename(tmp_path / "student.safetensors")
    named = hashlib.sha256(weights.read_bytes()).hexdigest()
    forge(tmp_path / "student.json", lambda d: d.update(safetensors_sha256=named))
    with pytest.raises(UsageError, match="lack the tensor"):
        load_network(tmp_path)


def test_weights_with_a_tensor_too_many_are_a_usage_error(tmp_path: Path) -> None:
    network = pruned(config())
    network.register_buffer("stranger", torch.ones(1))
    save_network(network, config(), tmp_path, "student")
    with pytest.raises(UsageError, match=r"does not fit student\.json.*stranger"):
        load_network(tmp_path)
