"""``python -m suites.export`` as a user calls it: files that can be used, and wrong usage told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from itmc.domains.augment import DataConfig, plain
from itmc.domains.catalog import dataset
from itmc.domains.store import open_domain
from itmc.networks import load
from suites import export, run
from tests.suites.conftest import REPOSITORY, SMALL, Answer, Call, prepared

METADATA = "metadata.json"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a suite with one finished run; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("runs")
    grid = ("digits", "--methods", "dan_student", "--compression", "0.5", *SMALL)
    assert run.main([*grid, "--jobs", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def finished(out: Path) -> Path:
    (record,) = out.glob("*/record.json")
    return record.parent


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """The command in this process, which saves its imports."""

    def answer(*arguments: object) -> Answer:
        capfd.readouterr()
        code = export.main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return answer


def complaint(answer: Answer) -> str:
    """The one line that says what is wrong."""
    assert answer.code == 2 and answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("suites.export: ")
    return line


def normalised(images: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """What a stranger makes of images ``(N, S, S, 3)``, uint8, by the file's own words."""
    assert about["preprocessing"].endswith(", divided by 255, minus mean, divided by std")
    scaled = (images / 255 - np.array(about["mean"])) / np.array(about["std"])
    return scaled.transpose(0, 3, 1, 2).astype(np.float32)


def check_use(logits: np.ndarray, images: np.ndarray, about: dict[str, Any], of: Path) -> None:
    """The logits are the network's, and the metadata the record's."""
    record = json.loads((of / "record.json").read_text())
    with torch.no_grad():
        inputs = plain(torch.from_numpy(images), DataConfig.model_validate(record["data"]))
        expected = load(of)(inputs).logits
    assert expected.std() > 0.01  # so that the comparison says something
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-4)
    assert about["classes"] == list(dataset("digits").classes)
    assert (about["image_size"], about["run"], about["method"], about["task"]) == (
        32, of.name, "dan_student", "hand->print",
    )  # fmt: skip
    assert about["network"] == record["network"]


@pytest.fixture
def images(store: Path) -> np.ndarray:
    domain = open_domain(prepared(store) / "print")
    return np.array(domain.images[:7])


def test_onnx_beside_the_run_by_a_process_of_its_own(copied: Path, images: np.ndarray) -> None:
    command = [sys.executable, "-m", "suites.export", str(copied), "--format", "onnx"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
    path = copied / "student.onnx"
    said = r"([\d.]+) MB, opset (\d+), logits within (\S+) of torch's at batches of 1, 2, 5"
    line = re.fullmatch(rf"{path}: {said}\n", done.stdout)
    assert line is not None, done.stdout
    assert float(line[1]) == pytest.approx(path.stat().st_size / 1e6, abs=0.01)
    assert int(line[2]) >= 17 and 0 <= float(line[3]) <= 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = {"input", "output", "preprocessing", "dataset", "task", "method", "run"}
    about = {
        key: value if key in texts else json.loads(value)
        for key, value in session.get_modelmeta().custom_metadata_map.items()
    }
    (logits,) = session.run(["logits"], {"images": normalised(images, about)})
    about["run"] = copied.name  # the run was copied
    check_use(logits, images, about, copied)


def test_pt2_elsewhere(call: Call, finished: Path, images: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "digits.pt2"
    before = sorted(finished.iterdir())
    answer = call(finished, "--format", "pt2", "--out", path)
    assert answer.code == 0 and answer.err == ""
    assert re.fullmatch(rf"{path}: [\d.]+ MB, logits within \S+ of torch's .*\n", answer.out)
    extra = {METADATA: ""}
    classifier = torch.export.load(path, extra_files=extra).module()
    about = json.loads(extra[METADATA])
    logits = classifier(torch.from_numpy(normalised(images, about)))
    check_use(logits.numpy(), images, about, finished)
    assert sorted(finished.iterdir()) == before


def test_a_file_that_exists_is_replaced_by_force_only(call: Call, copied: Path) -> None:
    path = copied / "student.pt2"
    path.write_bytes(b"mine")
    line = complaint(call(copied, "--format", "pt2"))
    assert str(path) in line and "--force" in line
    assert path.read_bytes() == b"mine"
    assert call(copied, "--format", "pt2", "--force").code == 0
    assert path.stat().st_size > 4


@pytest.mark.parametrize(
    ("arguments", "given", "allowed"),
    [
        ([], "RUN", "--help"),
        (["{run}"], "--format", "--help"),
        (["{run}", "--format", "tflite"], "'tflite'", "'onnx', 'pt2'"),
        (["{run}", "--format", "pt2", "--speed"], "--speed", "--help"),
        (["{run}/nowhere", "--format", "pt2"], "nowhere' is no directory", "OUT/<hash>"),
        (["{run}/student.json", "--format", "pt2"], "student.json' is no dir", "OUT/<hash>"),
        (["{run}/..", "--format", "pt2"], "holds finished ones", "{run}"),
        (["{run}/../stages", "--format", "pt2"], "no record.json", "OUT/<hash>"),
        (["{run}", "--format", "pt2", "--out", "x.onnx"], "'x.onnx'", "end in .pt2"),
        (["{run}", "--format", "pt2", "--out", "{folder}.pt2"], "is a directory", "name a file"),
        (["{run}", "--format", "pt2", "--out", "{run}/log.txt/x.pt2"], "x.pt2'", "another --out"),
    ],
)  # fmt: skip
def test_arguments(
    call: Call, finished: Path, tmp_path: Path, arguments: list[str], given: str, allowed: str
) -> None:
    (tmp_path / "folder.pt2").mkdir()
    names = {"run": finished, "folder": tmp_path / "folder"}
    line = complaint(call(*(argument.format(**names) for argument in arguments)))
    assert given in line
    assert allowed.replace("{run}", finished.name) in line


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (("config.yaml", "student.json", "student.safetensors"), "not finished; run the suite"),
        (("config.yaml", "failure.json"), r"failed \(failure.json says why\); run the suite again"),
        ((), "holds no record.json; give the directory of a finished run"),
    ],
)
def test_a_run_that_is_not_finished(
    call: Call, copied: Path, left: tuple[str, ...], said: str
) -> None:
    (copied / "failure.json").write_text("{}")
    for path in copied.iterdir():
        if path.name not in left:
            path.unlink()
    line = complaint(call(copied, "--format", "pt2"))
    assert repr(str(copied)) in line and re.search(said, line)


def test_a_student_that_was_altered(call: Call, copied: Path) -> None:
    path = copied / "student.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    line = complaint(call(copied, "--format", "onnx"))
    assert "student.safetensors" in line and "sha256" in line
    assert not (copied / "student.onnx").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "is no record"),
        (b"{}", "damaged, or of another version (KeyError: 'data')"),
    ],
)
def test_a_record_that_is_none(call: Call, copied: Path, content: bytes, said: str) -> None:
    (copied / "record.json").write_bytes(content)
    line = complaint(call(copied, "--format", "pt2"))
    assert "record.json" in line and said in line


def test_a_record_of_another_network(call: Call, copied: Path) -> None:
    path = copied / "record.json"
    record = json.loads(path.read_text())
    record["network"]["bottleneck"] += 1
    path.write_text(json.dumps(record))
    assert "of different networks" in complaint(call(copied, "--format", "pt2"))


def test_classes_and_size_are_those_of_the_record(call: Call, copied: Path) -> None:
    path = copied / "record.json"
    record = json.loads(path.read_text())
    record["dataset"] |= {"name": "mine", "classes": list("abcdefghij"), "stored_size": 64}
    path.write_text(json.dumps(record))
    assert call(copied, "--format", "pt2").code == 0
    extra = {METADATA: ""}
    torch.export.load(copied / "student.pt2", extra_files=extra)
    about = json.loads(extra[METADATA])
    assert about["dataset"] == "mine" and about["classes"] == list("abcdefghij")
    assert about["preprocessing"].startswith("RGB resized to 64x64")


def test_ctrl_c_leaves_nothing(call: Call, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.export, "export", interrupted)
    before = sorted(copied.iterdir())
    answer = call(copied, "--format", "pt2")
    assert answer == Answer(130, "", "stopped; nothing was written\n")
    assert sorted(copied.iterdir()) == before
