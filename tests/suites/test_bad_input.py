"""Bad input: exit code 2 and one line that names what was given and what is allowed."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from itmc.domains import origins
from itmc.domains.fetch import FetchError
from itmc.networks.backbones import create_backbone
from tests.suites.conftest import Answer, Call

SUITE = """\
dataset: digits
tasks: all
compression: [0.5, 0.75]
seeds: [0]
network: {backbone: digits_convnet, weights: none, bottleneck: 64}
data: {image_size: 32}
training: {epochs: 2}
"""
DRY = ("--tasks", "hand->print", "--dry-run")
METHODS = "source_only"


def complaint(answer: Answer) -> str:
    """The one line that says what is wrong; what was said before must not look like another."""
    assert answer.code == 2
    assert "Traceback" not in answer.out + answer.err
    assert "\x1b" not in answer.err
    *before, last = answer.err.splitlines()
    assert last.startswith("suites.run: ")
    assert all(line.startswith(("preparing ", "warning: ", "source ")) for line in before)
    assert answer.out == ""
    return last


def only_line(answer: Answer) -> str:
    assert len(answer.err.splitlines()) == 1
    return complaint(answer)


@pytest.mark.parametrize(
    ("arguments", "given", "allowed"),
    [
        ([], "suite", "--help"),
        (["digit"], "'digit'", "office_home, visda2017, a YAML file, or a folder"),
        (["nowhere.yaml"], "'nowhere.yaml'", "a YAML file, or a folder"),
        (["digits", "--methods", "itmcc"], "'itmcc' (did you mean itmc?)", "source_only"),
        (["digits", "--methods", "itmc,uppers"], "'uppers'", "groups references, baselines, itmc"),
        (["digits", "--methods", ","], "no method", "source_only"),
        (["digits", "--tasks", "hand->mnist"], "'mnist'", "hand (H), print (P), scene (S)"),
        (["digits", "--tasks", "hand"], "'hand'", "SOURCE->TARGET"),
        (["digits", "--tasks", "hand->H"], "'hand->H'", "to itself"),
        (["digits", "--tasks", ""], "tasks", "at least one"),
        (["digits", "--compression=1"], "1.0", "[0, 1)"),
        (["digits", "--compression=-0.1"], "-0.1", "[0, 1)"),
        (["digits", "--compression=0.5,nan"], "nan", "[0, 1)"),
        (["digits", "--compression=half"], "'half'", "numbers separated by commas"),
        (["digits", "--compression="], "compression", "at least one"),
        (["digits", "--seeds=0,x"], "'0,x'", "whole numbers separated by commas"),
        (["digits", "--seeds=1.5"], "'1.5'", "whole numbers separated by commas"),
        (["digits", "--seeds=-1"], "-1", "negative"),
        (["digits", "--epochs", "0"], "epochs = 0", "greater than or equal to 1"),
        (["digits", "--image-size", "x"], "'x'", "--help"),
        (["digits", "--jobs", "0"], "--jobs 0", "at least 1"),
        (["digits", "--device", "tpu"], "'tpu'", "'auto', 'cpu', 'cuda'"),
        (["digits", "--set", "itmc"], "'itmc'", "METHOD.KEY=VALUE"),
        (["digits", "--set", "itmc.=1"], "'itmc.=1'", "METHOD.KEY=VALUE"),
        (["digits", "--set", "itmc.weight=["], "'itmc.weight=['", "YAML"),
        (["digits", "--set", "itmc.speed=1"], "'speed'", "temperature"),
        (["digits", "--set", "itmc.weight=-1"], "itmc.weight = -1", "greater than or equal to 0"),
        (["digits", "--set", "itmc.prune_from=0.9"], "0.9", "after prune_until"),
        (["digits", "--set", "training.speed=1"], "'training.speed'", "lr"),
        (["digits", "--methods", "itmc", "--set", "dan.weight=2"], "dan", "--methods (itmc)"),
        (
            ["digits", "--methods", "itmc_tau_1", "--set", "itmc.temperature=2"],
            "temperature=2",
            "set their own temperature",
        ),
        (
            ["digits", "--methods", "acp_only", "--set", "itmc.temperature=2"],
            "temperature=2",
            "changes nothing",
        ),
        (
            ["digits", "--protocol", "paper", "--set", "data.source_holdout=0.2"],
            "0.2",
            "holds nothing out",
        ),
        (
            [
                "digits",
                "--methods",
                "kd",
                "--set",
                "kd.criterion=uniform",
                "--set",
                "kd.cost_aware=macs",
            ],
            "uniform",
            "cost_aware must be none",
        ),
        (["digits", "--weights", "IMAGENET1K_V1"], "digits_convnet", "none, or a file"),
        (["digits", "--weights", "nowhere.pth"], "'nowhere.pth'", "no such file"),
        (["digits", "--speed", "9"], "--speed", "--help"),
    ],
)
def test_arguments(here: Call, arguments: list[str], given: str, allowed: str) -> None:
    line = only_line(here(*arguments))
    assert given in line and allowed in line


def test_cuda_where_there_is_none(here: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = only_line(here("digits", "--device", "cuda"))
    assert "cuda" in line and "auto, cpu" in line


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("resnot50", "did you mean resnet50"),
        ("keras/resnet50", "allowed: timm/, torchvision/"),
        ("vit_b_16", "choose another --image-size"),
        ("alexnet", "choose another --image-size"),
    ],
)
def test_a_backbone_that_cannot_be(here: Call, backbone: str, said: str) -> None:
    line = complaint(here("digits", "--methods", METHODS, "--backbone", backbone, *DRY))
    assert repr(backbone) in line and said in line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dataset:", "colour: red\ndataset:", "unknown key 'colour'; allowed: name, dataset"),
        ("training: {", "training: {speed: 3, ", "key 'training.speed'; allowed: discriminator"),
        ("compression: [0.5, 0.75]", "", "'compression' is missing"),
        ("compression: [0.5, 0.75]", "compression: [2.0]", "2.0 is outside [0, 1)"),
        ("dataset: digits", "dataset: mnist", "'mnist'; allowed: classic_digits, digits,"),
        ("tasks: all", "tasks: []", "tasks = []: at least one task"),
        ("tasks: all", "tasks: all\nmethods: 3", "methods = 3"),
        ("tasks: all", "tasks: all\nmethods: {itmc: {speed: 1}}", "hyper-parameter 'speed'"),
        ("tasks: all", "tasks: all\nmethods: {itmcc: {}}", "did you mean itmc?"),
        ("tasks: all", "tasks: [all", "no valid YAML"),
    ],
)
def test_a_suite_file(here: Call, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SUITE
    file = tmp_path / "mine.yaml"
    file.write_text(SUITE.replace(old, new, 1))
    line = only_line(here(file, "--dry-run"))
    assert said in line


def test_the_suite_file_is_good(here: Call, tmp_path: Path) -> None:
    """So that what is changed in it is refused for its own reason."""
    file = tmp_path / "mine.yaml"
    file.write_text(SUITE)
    assert here(file, "--methods", METHODS, *DRY).code == 0


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe\x00"])
def test_a_suite_file_that_is_none(here: Call, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    assert "mine.yaml" in only_line(here(file))


@pytest.mark.parametrize("below", ["file", "file/deep/out"])
def test_an_out_folder_that_cannot_be_written(here: Call, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / below
    line = complaint(here("digits", "--methods", METHODS, "--tasks", "hand->print", "--out", out))
    assert str(out) in line and "choose another" in line


def office(root: Path | None, *more: object) -> list[object]:
    given = [] if root is None else ["--data-root", root]
    return [
        "office31", "--methods", METHODS, "--tasks", "W->D", "--backbone", "mobilenet_v2",
        "--weights", "none", "--image-size", "32", *given, *more, "--dry-run",
    ]  # fmt: skip


def test_the_fake_office31_is_good(here: Call, fake_office31: Path) -> None:
    """So that what follows is refused for its own reason."""
    answer = here(*office(fake_office31))
    assert answer.code == 0
    assert (
        "warning: office31/dslr: 436 official images are missing: back_pack/frame_0003"
        in answer.err
    )


def test_images_that_cannot_be_downloaded(
    here: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> Path:
        raise FetchError("no connection")

    monkeypatch.setattr(origins, "fetch", nothing)
    monkeypatch.setenv("ITMC_STORE", str(tmp_path / "empty"))
    line = complaint(here(*office(None)))
    assert "Office-31 (dslr, webcam)" in line and "domain_adaptation_images.tar.gz" in line
    assert "python -m suites.data prepare office31 --from PATH" in line


def test_a_data_root_that_does_not_exist(here: Call, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in only_line(here(*office(tmp_path / "nowhere")))


def test_a_data_root_without_the_domain(here: Call, fake_office31: Path) -> None:
    shutil.rmtree(fake_office31 / "dslr")
    line = complaint(here(*office(fake_office31)))
    assert "no images of office31/dslr" in line and "dslr/images/<class>/*" in line


def test_a_domain_folder_without_images(here: Call, fake_office31: Path) -> None:
    for image in (fake_office31 / "dslr").rglob("*.jpg"):
        image.rename(image.with_suffix(".txt"))
    line = complaint(here(*office(fake_office31)))
    assert str(fake_office31) in line and "no images of office31/dslr" in line


def test_a_domain_folder_without_a_class(here: Call, fake_office31: Path) -> None:
    shutil.rmtree(fake_office31 / "dslr" / "images" / "mug")
    line = complaint(here(*office(fake_office31)))
    assert "1 of 31 classes: mug" in line


@pytest.mark.parametrize("left", [0.0, 0.1, 0.7])
def test_a_truncated_jpeg_is_named(here: Call, fake_office31: Path, left: float) -> None:
    image = fake_office31 / "dslr" / "images" / "mug" / "frame_0002.jpg"
    content = image.read_bytes()
    image.write_bytes(content[: int(left * len(content))])
    line = complaint(here(*office(fake_office31)))
    assert str(image) in line and "replace or remove" in line
    image.write_bytes(content)
    assert here(*office(fake_office31)).code == 0  # the half-prepared domain is not in the way


class Malicious:
    """Unpickled, it would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def weights(folder: Path, kind: str) -> Path:
    file = folder / f"{kind}.pth"
    state = create_backbone("digits_convnet").state_dict()
    if kind == "other_shape":
        state["features.0.weight"] = torch.zeros(8, 3, 3, 3)
    if kind == "too_few":
        del state["features.0.weight"]
    if kind == "another_network":
        state["extra.weight"] = torch.zeros(1)
    if kind == "nested":
        torch.save({"state_dict": state}, file)
    elif kind == "pickled_module":
        torch.save(create_backbone("digits_convnet"), file)
    elif kind == "malicious":
        file.write_bytes(pickle.dumps(Malicious(folder / "trace")))
    else:
        torch.save(state, file)
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    if kind == "text":
        file.write_text("weights")
    if kind == "empty":
        file.write_bytes(b"")
    if kind == "safetensors":
        file = folder / "cut.safetensors"
        save_file(state, file)
        file.write_bytes(file.read_bytes()[:-1000])
    return file


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("other_shape", "(8, 3, 3, 3), expected (16, 3, 3, 3)"),
        ("too_few", "missing, such as 'features.0.weight'"),
        ("another_network", "parts that it lacks (extra)"),
        ("nested", "plain dictionary of tensors"),
        ("pickled_module", "does not load safely"),
        ("malicious", "does not load safely"),
        ("truncated", "does not load safely"),
        ("text", "does not load safely"),
        ("empty", "does not load safely"),
        ("safetensors", "does not load safely"),
    ],
)
def test_weights_that_cannot_be_used(here: Call, tmp_path: Path, kind: str, said: str) -> None:
    file = weights(tmp_path, kind)
    line = complaint(here("digits", "--methods", METHODS, "--weights", file, *DRY))
    assert file.name in line and said in line
    assert not (tmp_path / "trace").exists()


def test_weights_that_fit_are_taken(here: Call, tmp_path: Path) -> None:
    file = weights(tmp_path, "good")
    answer = here("digits", "--methods", METHODS, "--weights", file, *DRY)
    assert answer.code == 0
    assert "pretrain" not in answer.out  # pretrained, they need no shared start


@pytest.mark.parametrize("arguments", [["digit"], ["digits", "--methods", "itmcc"]])
def test_as_a_command(
    cli: Callable[..., subprocess.CompletedProcess[str]], arguments: list[str]
) -> None:
    done = cli(*arguments)
    line = only_line(Answer(done.returncode, done.stdout, done.stderr))
    assert repr(arguments[-1]) in line
