"""``python -m suites.bench step``, called as a user does. How fast things are is not tested."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from suites.bench import domains, machine
from suites.bench.__main__ import main
from suites.bench.clock import PHASES

SMALL = [
    "--backbone", "digits_convnet", "--image-size", "32", "--batch", "4", "--threads", "1",
    "--device", "cpu", "--rounds", "1",
]  # fmt: skip
# One image of 32 px: each convolution's outputs and what each output sums over.
CONVOLUTIONS = [
    (16 * 16 * 16, 9 * 3),
    (16 * 16 * 16, 9 * 16),
    (32 * 8 * 8, 9 * 16),
    (64 * 4 * 4, 9 * 32),
]
LINEAR = [(256, 64), (31, 256)]
MACS = sum(outputs * inputs for outputs, inputs in CONVOLUTIONS + LINEAR)
OUTPUTS = sum(outputs for outputs, _ in CONVOLUTIONS + LINEAR)


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little to draw and to multiply; the settings of the process are as before afterwards."""
    monkeypatch.setattr(machine, "GEMM_SIZES", (16, 32))
    monkeypatch.setattr(machine, "COPIED", 1 << 16)
    monkeypatch.setattr(machine, "_SECONDS", 0.0)
    monkeypatch.setattr(domains, "IMAGES", 2 * domains.CLASSES)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.utils.deterministic.fill_uninitialized_memory = filled


def test_page_and_json_have_a_row_for_each_method_compression_and_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "step.md", tmp_path / "step.json"
    written = ["--out", str(out), "--json", str(file)]
    assert main(["step", *SMALL, "--naive", "--precision", "fp32", *written]) == 0
    page, report = out.read_text(), json.loads(file.read_text())
    assert page in capsys.readouterr().out
    cells = [("dan", 0), ("cdan", 0), ("itmc", 0), ("itmc", 0.5), ("itmc", 0.75)]
    rows = report["rows"]
    assert [(r["method"], r["compression"], r["way"]) for r in rows] == [
        (*cell, way) for cell in cells for way in ("ours", "naive")
    ]
    steps, phases = _tables(page)
    assert len(steps) == len(phases) == len(rows)
    for row, step, phase in zip(rows, steps, phases, strict=True):
        _is_alike(row, step, phase)
        assert row["macs_left"] == pytest.approx(1 - row["compression"], abs=0.01)
        assert row["images_per_second"] == pytest.approx(8 / row["seconds"]["median"])
        assert set(row["phases"]) == set(PHASES) and row["host_wait_seconds"] is None
        assert (row["phases"]["teacher forward"] > 0) == (row["method"] == "itmc")
        assert all(row["phases"][p] > 0 for p in ("data", "student forward", "backward", "losses"))
        assert ("speedup" in row) == (row["way"] == "ours")
    average = report["run"]["images_per_second"]
    assert f"ours {average['ours']:.4g}, naive {average['naive']:.4g} images/s" in page
    assert report["schema"] == 1 and report["command"] in page
    assert report["settings"]["precision"] == "fp32"
    assert report["machine"]["versions"]["torch"] == torch.__version__.split("+")[0] in page
    for rate in report["machine"]["rates"].values():
        assert f"{rate / 1e9:.0f}" in page and rate > 0


def _is_alike(row: dict[str, Any], step: list[str], phase: list[str]) -> None:
    """The lines of the tables say what the row of JSON does."""
    assert step[:2] == phase[:2] == [row["method"], f"{row['compression']:g}"]
    assert step[3] == phase[2] == row["way"] and step[4] == row["precision"]
    assert float(step[5]) == pytest.approx(1e3 * row["seconds"]["median"], rel=1e-3)
    assert int(step[7]) == row["rounds"]
    assert float(step[8]) == pytest.approx(row["images_per_second"], rel=1e-3)
    assert float(step[9]) == pytest.approx(row["mfu"], abs=1e-3)
    assert float(step[10]) == pytest.approx(row["flops"] / 1e9, rel=1e-3)
    least = row["least_seconds"]
    assert float(step[11]) == pytest.approx(1e3 * least["arithmetic"], rel=1e-3)
    assert float(step[12]) == pytest.approx(1e3 * least["memory"], rel=1e-3)
    assert step[14] == (f"{row['speedup']['median']:.2f}" if "speedup" in row else "–")
    total = sum(row["phases"].values())
    for name, share in zip(PHASES, phase[4:], strict=False):
        assert float(share) == pytest.approx(100 * row["phases"][name] / total, abs=0.1)


def _tables(page: str) -> tuple[list[list[str]], list[list[str]]]:
    found = re.findall(r"^\| (?:dan|cdan|itmc) .*", page, re.M)
    lines = [line.strip("| ").split(" | ") for line in found]
    return lines[: len(lines) // 2], lines[len(lines) // 2 :]


def test_flops_and_bytes_are_those_of_an_independent_count(tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    chosen = ["--methods", "dan,itmc", "--compressions", "0", "--precision", "bf16"]
    assert main(["step", *SMALL, *chosen, "--naive", "--json", str(file)]) == 0
    rows = {(row["method"], row["way"]): row for row in json.loads(file.read_text())["rows"]}
    images = 8
    # Forward once and backward twice, in the teacher as well; a second pass of it in the naive way.
    passes = {
        ("dan", "ours"): 3, ("dan", "naive"): 3, ("itmc", "ours"): 6, ("itmc", "naive"): 7,
    }  # fmt: skip
    for key, count in passes.items():
        assert rows[key]["flops"] == images * count * 2 * MACS
        size = {"ours": 2, "naive": 4}[key[1]]
        assert rows[key]["bytes"] == images * count * 5 * OUTPUTS * size
    assert rows["itmc", "ours"]["precision"] == "bf16"
    naive, ours = rows["itmc", "naive"], rows["itmc", "ours"]
    rates = json.loads(file.read_text())["machine"]["rates"]
    for row, precision in ((naive, "fp32"), (ours, "bf16")):
        rate = ours["flops"] / row["seconds"]["median"] / rates[precision]
        assert row["mfu"] == pytest.approx(rate)


def test_without_a_subcommand_it_measures_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--methods", "dan"]) == 0
    page = capsys.readouterr().out
    steps, phases = _tables(page)
    assert [line[:2] for line in steps] == [line[:2] for line in phases] == [["dan", "0"]]
    assert "No average over a run of ITMC" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backbone", "resnet81"], "did you mean"),
        (["--methods", "dan,jan"], "'jan' is unknown; allowed: dan, cdan, itmc"),
        (["--compressions", "1"], "give 0 <= compression < 1"),
        (["--compressions", "half"], "half"),
        (["--compressions", "0.9999", "--methods", "itmc"], "cannot be reached"),
        (["--batch", "1"], "whole number >= 2"),
        (["--threads", "0"], "whole number >= 1"),
        (["--precision", "fp8"], "fp8"),
        (["--seconds", "1"], "not allowed with"),
        (["--json", "/nowhere/step.json"], "--json: the folder '/nowhere' does not exist"),
        (["--out", "/nowhere/step.md"], "--out: the folder '/nowhere' does not exist"),
        (["--json", "/"], "--json '/' is no file"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", *SMALL, *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and lines[-1].startswith("suites.bench: ")
    assert sum(line.startswith("suites.bench: ") for line in lines) == 1


def test_what_cannot_be_that_small_is_said_before_anything_is_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["step", *SMALL, "--methods", "itmc", "--compressions", "0,0.9999"]) == 2
    error = capsys.readouterr().err
    assert "cannot be reached" in error and "itmc c=0" not in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", *SMALL, "--device", "cuda"]) == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err
