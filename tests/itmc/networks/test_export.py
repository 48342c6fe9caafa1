"""Exports: what they compute, what they say of themselves, and that a wrong one is never left."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.networks.build import Network, NetworkConfig, build, example
from itmc.networks.export import Exported, export_onnx, export_pt2
from itmc.pruning.groups import Dependencies
from itmc.pruning.shrink import kept_layers

REPOSITORY = Path(__file__).parents[3]
EXPORTERS = {"onnx": export_onnx, "pt2": export_pt2}
ABOUT = {"classes": ["a", "b", "ç"], "input": "normalised"}
SMALL = NetworkConfig(bottleneck=4, classes=3, image_size=16)


def pruned(of: NetworkConfig) -> Network:
    """Every group loses its first third; BatchNorm has seen a batch."""
    network = build(of)
    dependencies = Dependencies(network, example(of), kept_layers(network))
    dependencies.remove({g.name: list(range(g.width // 3)) for g in dependencies.groups})
    network(torch.randn(8, 3, of.image_size, of.image_size))
    return network.to(memory_format=torch.channels_last)


def runner(path: Path) -> Callable[[Tensor], Tensor]:
    """The file as a stranger runs it."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def export(network: Network, path: Path, size: int = 16) -> Exported:
    return EXPORTERS[path.suffix[1:]](network, torch.zeros(1, 3, size, size), path, ABOUT)


@pytest.mark.parametrize("ending", EXPORTERS)
@pytest.mark.parametrize("backbone", ["digits_convnet", "resnet18"])
def test_it_gives_the_logits_of_the_network_at_any_batch_size(
    backbone: str, ending: str, tmp_path: Path
) -> None:
    config = NetworkConfig(backbone=backbone, bottleneck=16, classes=5, image_size=32)
    network = pruned(config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = tmp_path / f"network.{ending}"
    made = export(network, path, 32)
    assert all(module.training for module in network.modules())  # as it was
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert made.path == path and made.size == path.stat().st_size
    assert 0 <= made.difference <= 1e-4
    assert made.opset is None if ending == "pt2" else made.opset >= 17
    run = runner(path)
    for count in (1, 2, 3, 5, 8):
        images = torch.randn(count, 3, 32, 32)
        with torch.no_grad():
            expected = network.eval()(images).logits
        assert expected.std() > 0.01  # so that the comparison says something
        torch.testing.assert_close(run(images), expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """An unpruned network in each format; tests leave the files as they are."""
    folder = tmp_path_factory.mktemp("small")
    return {ending: export(build(SMALL), folder / f"network.{ending}") for ending in EXPORTERS}


def test_onnx_names_its_ends_and_carries_the_metadata(small: dict[str, Exported]) -> None:
    made = small["onnx"]
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == (
        "images", "tensor(float)", ["batch", 3, 16, 16],
    )  # fmt: skip
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 3])
    found = session.get_modelmeta().custom_metadata_map
    assert found.keys() == ABOUT.keys()
    assert found["input"] == "normalised" and json.loads(found["classes"]) == ["a", "b", "ç"]
    model = onnx.load(made.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", made.opset)]


def test_pt2_carries_the_metadata_and_asks_for_no_gradient(small: dict[str, Exported]) -> None:
    extra = {"metadata.json": ""}
    classifier = torch.export.load(small["pt2"].path, extra_files=extra).module()
    assert json.loads(extra["metadata.json"]) == ABOUT
    assert not classifier(torch.zeros(1, 3, 16, 16)).requires_grad


@pytest.mark.parametrize("ending", EXPORTERS)
def test_nothing_of_this_machine_is_in_the_file(ending: str, small: dict[str, Exported]) -> None:
    path = small[ending].path
    content = path.read_bytes()
    if ending == "pt2":
        with zipfile.ZipFile(path) as archive:
            content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"backbone" in content  # names are readable where there are some
    for folder in (REPOSITORY, Path(sys.prefix), path.parent):
        assert str(folder).encode() not in content
    assert b"stack_trace" not in content


@pytest.mark.parametrize("ending", EXPORTERS)
def test_exporting_is_silent(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(action="error"):
        export(build(SMALL), tmp_path / f"network.{ending}")
    assert capfd.readouterr() == ("", "")


class Tracked(nn.Module):
    """A backbone whose features a test decides."""

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images.mean((2, 3)))


CALLS: list[int] = []


def growing(features: Tensor) -> Tensor:
    """Larger at each call, which no graph can show."""
    CALLS.append(1)
    return features * len(CALLS)


def infinite(features: Tensor) -> Tensor:
    return features * float("inf")


def of_two(features: Tensor) -> Tensor:
    """Takes batches of two only."""
    return features.reshape(2, 3)


@pytest.mark.parametrize("ending", EXPORTERS)
@pytest.mark.parametrize(
    ("features", "said", "before"),
    [
        (
            growing,
            r"differ by [\d.]+ on a batch of \d, where they reach [\d.]+; at most 0.0001",
            b"what was there",
        ),
        (infinite, r"differ by nan on a batch of 1, where they reach nan", None),
        (of_two, r"cannot be exported as \w+: \w+: ", None),
    ],
)
def test_an_export_that_is_wrong_is_not_left_behind(
    ending: str,
    features: Callable[[Tensor], Tensor],
    said: str,
    before: bytes | None,
    tmp_path: Path,
) -> None:
    path = tmp_path / f"network.{ending}"
    if before is not None:
        path.write_bytes(before)
    torch.manual_seed(0)  # of some weights all units are dead, and nothing shows
    network = Network(Tracked(features), width=3, bottleneck=4, classes=3)
    with pytest.raises(UsageError, match=said) as caught:
        export(network, path)
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_of_onnx_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package}: pip install 'itmc-bench\[onnx\]'"):
        export(build(SMALL), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []
