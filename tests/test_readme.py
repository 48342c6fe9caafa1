"""What the README shows must work as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_method_shown_runs_as_one_more_file(tmp_path: Path) -> None:
    for package in ("itmc", "baselines", "suites", "results"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shown = next(block for block in _blocks("python") if "@register" in block)
    (tmp_path / "baselines" / "confident_student.py").write_text(shown)
    command = "-m suites.run digits --methods confident_student --tasks H->P --compression 0.5"
    small = "--epochs 1 --set training.pretrain_epochs=1 --set training.steps_per_epoch=2"
    done = subprocess.run(
        [sys.executable, *command.split(), *small.split(), "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "ITMC_STORE": str(tmp_path / "store")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Confident student" in done.stdout
    assert len(shown.splitlines()) <= 120


def test_the_pruning_shown_runs_and_is_short(tmp_path: Path) -> None:
    shown = next(block for block in _blocks("python") if "prune(" in block)
    assert len(shown.splitlines()) <= 15
    done = subprocess.run(
        [sys.executable, "-c", shown],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    removed, shape = done.stdout.splitlines()
    assert 49 <= float(removed.partition("%")[0]) <= 51
    assert shape == "torch.Size([2, 1000])"


def test_the_first_commands_are_make_demo_and_make_test() -> None:
    commands = re.findall(r"^    (make \w+)", README, flags=re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {command.split()[1] for command in commands} <= set(targets)


def test_the_documents_named_exist() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
