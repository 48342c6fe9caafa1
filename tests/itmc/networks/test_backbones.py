"""Backbones by name, and weights files that must fit and must not run anything."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.networks.backbones import create_backbone, read_state, resolve, without_classifier

NAME = "digits_convnet"


def state(seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return create_backbone(NAME).state_dict()


def written(folder: Path, tensors: object, name: str = "weights.pth") -> str:
    torch.save(tensors, folder / name)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits_convnet", ("own", "digits_convnet")),
        ("resnet50", ("torchvision", "resnet50")),
        ("timm/resnet50", ("timm", "resnet50")),
        ("torchvision/resnet50", ("torchvision", "resnet50")),
        ("resnet50.tv_in1k", ("timm", "resnet50.tv_in1k")),
        ("resnet10t", ("timm", "resnet10t")),
    ],
)
def test_a_name_is_looked_up_in_order(name: str, expected: tuple[str, str]) -> None:
    assert resolve(name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet5", "resnet50"),
        ("digits_convnett", "digits_convnet"),
        ("torchvision/resnet10t", "resnet10t"),
        ("resnet50.tv_in1kk", "resnet50.tv_in1k"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}.*did you mean .*{hint}"):
        resolve(name)


@pytest.mark.parametrize("name", ["", "fasterrcnn_resnet50_fpn", "no-such-thing-at-all"])
def test_what_is_no_classifier_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="neither torchvision nor timm"):
        resolve(name)


def test_an_unknown_library_is_refused_and_nothing_is_fetched() -> None:
    with pytest.raises(UsageError, match=r"unknown library 'hf-hub:timm'.*timm/, torchvision/"):
        create_backbone("hf-hub:timm/resnet18.a1_in1k")


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("timm/resnet10t", 512), ("squeezenet1_1", 512)]
)
def test_the_classifier_is_gone(name: str, width: int) -> None:
    backbone = create_backbone(name).eval()
    assert not [m for m in backbone.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, width)


def test_only_a_layer_with_the_imagenet_classes_is_a_classifier() -> None:
    with pytest.raises(UsageError, match="no layer with 1000 outputs"):
        without_classifier(nn.Sequential(nn.Linear(4, 10)))


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_of_a_file_are_the_backbones(tmp_path: Path, ending: str) -> None:
    tensors = state()
    path = tmp_path / f"weights.{ending}"
    save_file(tensors, path) if ending == "safetensors" else torch.save(tensors, path)
    loaded = create_backbone(NAME, weights_file=str(path)).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_files_classifier_and_missing_counters_do_not_matter(tmp_path: Path) -> None:
    tensors = {k: v for k, v in state().items() if not k.endswith("num_batches_tracked")}
    extended = tensors | {"fc.weight": torch.zeros(1000, 128)}
    loaded = create_backbone(NAME, weights_file=written(tmp_path, extended)).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.pth.*does not exist"):
        create_backbone(NAME, weights_file=str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("ending", ["pth", "old.pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_a_usage_error(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=ending == "pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UsageError, match=rf"{path.name} does not load"):
        create_backbone(NAME, weights_file=str(path))


def test_no_damaged_byte_raises_anything_but_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        try:
            read_state(path)
        except UsageError:
            refused += 1
    assert refused > len(content) / 4


class Harmful:
    """Pickles to a call that would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("how", ["pickle", "zip", "inside"])
def test_code_in_a_file_never_runs(tmp_path: Path, how: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / "weights.pth"
    harmful = Harmful(marker)
    if how == "pickle":
        path.write_bytes(pickle.dumps(harmful))
    else:
        torch.save(harmful if how == "zip" else {"a": torch.ones(1), "b": harmful}, path)
    with pytest.raises(UsageError, match="does not load safely"):
        create_backbone(NAME, weights_file=str(path))
    assert not marker.exists()
    if how == "pickle":  # the trap works: loading it carelessly does create the file
        pickle.loads(path.read_bytes()).close()
        assert marker.exists()


@pytest.mark.parametrize("content", [[torch.ones(1)], {"state_dict": {"a": torch.ones(1)}}, 3])
def test_a_file_without_plain_tensors_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(UsageError, match="no plain dictionary of tensors"):
        read_state(Path(written(tmp_path, content)))


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    tensors = state() | {"features.0.weight": torch.zeros(8, 3, 3, 3)}
    with pytest.raises(
        UsageError, match=r"'features.0.weight' has shape \(8, 3, 3, 3\), expected \(16, 3, 3, 3\)"
    ):
        create_backbone(NAME, weights_file=written(tmp_path, tensors))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = written(tmp_path, create_backbone("resnet18").state_dict())
    with pytest.raises(UsageError, match=r"do not fit backbone 'digits_convnet'.*missing"):
        create_backbone(NAME, weights_file=other)


def test_parts_that_the_backbone_lacks_are_named(tmp_path: Path) -> None:
    tensors = state() | {"neck.weight": torch.zeros(1)}
    with pytest.raises(UsageError, match=r"parts that it lacks \(neck\)"):
        create_backbone(NAME, weights_file=written(tmp_path, tensors))


def test_own_backbones_have_no_pretrained_weights() -> None:
    with pytest.raises(UsageError, match="no pretrained weights"):
        create_backbone(NAME, "IMAGENET1K_V1")


def test_an_unknown_tag_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'V9'.*IMAGENET1K_V1"):
        create_backbone("resnet18", "V9")
    with pytest.raises(UsageError, match=r"'V9'.*resnet18\.tv_in1k"):
        create_backbone("timm/resnet18", "V9")
