"""``python -m suites.bench latency``, called as a user does. How fast things are is not tested."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from itmc.networks import NetworkConfig, build
from itmc.networks.build import example
from suites.bench import latency
from suites.bench.__main__ import main

SMALL = ["latency", "--backbone", "digits_convnet", "--image-size", "32", "--seconds", "0.01"]


@pytest.fixture(autouse=True)
def _same_threads() -> object:
    """The command sets the threads of the process, which is the other tests' too."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_page_has_a_row_for_each_way_runtime_and_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latency.md"
    ways = ["--criteria", "l2,uniform", "--round-to", "1,4", "--compressions", "0.5", "--batches"]
    assert main([*SMALL, *ways, "1,2", "--threads", "1", "--out", str(out)]) == 0
    page = out.read_text()
    assert page in capsys.readouterr().out and "1 thread(s)" in page
    rows = [line.strip("|").split(" | ") for line in re.findall(r"^\| (?:l2|unif).*", page, re.M)]
    assert len(rows) == 2 * 2 * 2 * 2
    for _, per, _, compression, left, runtime, _, unpruned, pruned, ratio, _, pairs in rows:
        assert (per, compression) == ("none", "0.5") and runtime in latency.RUNTIMES
        assert float(left) == pytest.approx(0.5, abs=0.01)
        assert float(unpruned) > 0 and float(pruned) > 0 and float(ratio) > 0
        assert int(pairs.strip(" |")) >= 3


def test_only_runtimes_in_use_are_needed_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main([*SMALL]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs the package onnxruntime: pip install" in line
    few = ["--batches", "1", "--compressions", "0.5", "--round-to", "1"]
    assert main([*SMALL, "--runtimes", "torch", *few]) == 0
    page = capsys.readouterr().out
    assert f"torch {metadata.version('torch')}" in page and "onnxruntime" not in page


def test_a_runtime_computes_what_the_network_does() -> None:
    config = NetworkConfig(backbone="digits_convnet", bottleneck=8, classes=4, image_size=32)
    network, images = build(config).eval(), torch.rand(3, 3, 32, 32)
    (found,) = latency.OnnxRuntime(network, example(config))(images)
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(found), network(images).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--runtimes", "tensorrt"], "allowed: torch, onnxruntime"),
        (["--criteria", "taylor"], "allowed: uniform, l1"),
        (["--backbone", "resnet81"], "did you mean"),
        (["--compressions", "2"], "0 < compression < 1"),
        (["--round-to", "x"], "'x' is not allowed"),
        (["--threads", "0"], "whole number >= 1"),
        (["--image-size", "4"], "whole number >= 8"),
        (["--out", "/nowhere/latency.md"], "does not exist"),
        (["--out", "/"], "--out '/' is no file"),
        (["--compressions", "0.5,0.9999", "--round-to", "1"], "cannot be reached: with the floors"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
