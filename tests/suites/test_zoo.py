"""``python -m suites.zoo`` as a user calls it: a page of what passes, and why the rest does not."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from itmc.networks import Network
from suites import zoo, zoo_check
from suites.zoo_page import Outcome


def row(page: str, backbone: str) -> list[str]:
    (line,) = re.findall(rf"^\|.*`{re.escape(backbone)}`.*\|$", page, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_page_says_what_passes_and_why_the_rest_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zoo.md"
    arguments = ["--only", "DigitsConvNet,timm/mixnet_s@32", "--export", "pt2", "--out", str(out)]
    assert zoo.main(arguments) == 0
    page = out.read_text()
    assert "1 of 2 backbones pass, from 1 families; 1 refused, 0 failed" in page
    assert "saving, loading, pt2" in page
    assert f"`python -m suites.zoo {shlex.join(arguments)}`" in page
    passed, refused = row(page, "digits_convnet"), row(page, "timm/mixnet_s")
    assert passed[-1] == "pass"
    before, after = (float(part) for part in passed[3].split(" → "))
    assert after / before == pytest.approx(0.5, abs=0.01) and passed[4].startswith("50.")
    assert refused[-1].startswith("refused: this backbone") and refused[3:9] == [""] * 6
    shown = capsys.readouterr()
    assert str(out) in shown.out and "[2/2] timm/mixnet_s: refused" in shown.err


def test_what_breaks_is_on_the_page_and_in_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: Network, batch: torch.Tensor) -> None:
        raise RuntimeError("it\nbroke")

    monkeypatch.setattr(zoo_check, "_train", broken)
    monkeypatch.setattr(zoo, "apart", lambda function, *arguments: function(*arguments))
    out = tmp_path / "zoo.md"
    assert zoo.main(["--only", "digits_convnet", "--export", "none", "--out", str(out)]) == 1
    assert row(out.read_text(), "digits_convnet")[-1] == "FAIL: RuntimeError: it"


def test_a_backbone_that_kills_its_process_does_not_take_the_others_along() -> None:
    outcome = zoo_check.apart(abort, "Family", "name@32", 0.5, ())
    assert (outcome.family, outcome.backbone, outcome.size) == ("Family", "name", 32)
    assert outcome.error == "the process died of signal 6" and not outcome.passed


def abort(*_: object) -> Outcome:
    os.abort()


def test_a_loaded_network_that_differs_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = zoo_check.load_network

    def altered(folder: Path) -> tuple[Network, object]:
        network, config = load(folder)
        with torch.no_grad():
            network.head.bias += 1e-5
        return network, config

    monkeypatch.setattr(zoo_check, "load_network", altered)
    assert not zoo_check.examine("own", "digits_convnet@32", 0.5, ()).passed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compression", "1.5"], "0 < c < 1"),
        (["--export", "tflite"], "allowed: onnx, pt2, none"),
        (["--only", "resnet81"], "did you mean"),
        (["--only", "resnet18@big"], "NAME@PIXELS"),
        (["--only", "resnet18@4"], "'4' is no size; write NAME@PIXELS, at least 8"),
        (["--out", "/nowhere/zoo.md"], "does not exist"),
        (["--out", "/"], "--out '/' is no file"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo.main(["--out", str(tmp_path / "zoo.md"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "zoo.md").exists()


def test_without_the_packages_of_onnx_it_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(zoo, "apart", passed)
    out = ["--only", "digits_convnet", "--out", str(tmp_path / "zoo.md")]
    assert zoo.main(out) == 2
    assert "needs the package onnxruntime: pip install" in capsys.readouterr().err
    assert not (tmp_path / "zoo.md").exists()
    assert zoo.main([*out, "--export", "pt2"]) == 0


def test_only_the_full_list_goes_to_the_page_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo, "apart", passed)
    monkeypatch.setattr(zoo, "PAGE", tmp_path / "zoo.md")
    assert zoo.main(["--only", "digits_convnet"]) == 0
    assert row(capsys.readouterr().out, "digits_convnet")[-1] == "pass"
    assert not (tmp_path / "zoo.md").exists()
    assert zoo.main([]) == 0
    assert "Made by `python -m suites.zoo`." in (tmp_path / "zoo.md").read_text()


def passed(_: object, family: str, name: str, *__: object) -> Outcome:
    return Outcome(family, name.partition("@")[0], 32)


def test_every_family_of_the_issue_is_there() -> None:
    assert len(zoo.FAMILIES) >= 18
    assert sum(map(len, zoo.FAMILIES.values())) >= 40
