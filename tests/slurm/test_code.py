"""A worker finds the code that its grid was planned with, or says what is another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmc.errors import UsageError
from slurm import code
from slurm.code import code_version, refuse_other_code


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of five files that count, and some that do not."""
    for name in (
        "itmc/a.py", "itmc/deep/b.py", "suites/c.py", "slurm/worker.py", "slurm/status.py",
        "results/unrelated.py", "suites/bench/step.py", "suites/zoo_page.py",
        "suites/methods_page.py", "itmc/networks/kernel.cpp",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    monkeypatch.setattr(code, "PROJECT", tmp_path)
    return tmp_path


@pytest.fixture
def planned(project: Path) -> Path:
    path = project / "code.json"
    path.write_text(json.dumps(code_version()))
    return path


def refusal(planned: Path) -> str:
    with pytest.raises(UsageError) as refused:
        refuse_other_code(planned)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_counts_as_code() -> None:
    found = code_version()
    assert {"itmc/errors.py", "suites/worker.py", "torch", "numpy"} <= found.keys()
    assert "itmc/networks/native/batch_norm.cpp" in found
    others = [name for name in found if name.startswith(("results/", "slurm/", "tests/"))]
    assert others == ["slurm/worker.py"]


def test_equal_code_is_accepted(project: Path, planned: Path) -> None:
    refuse_other_code(planned)
    for name in (
        "results/unrelated.py", "slurm/status.py", "suites/bench/step.py", "suites/zoo_page.py",
        "suites/methods_page.py",
    ):  # fmt: skip
        (project / name).write_text("changed")
    (project / "itmc" / "notes.txt").write_text("new")
    refuse_other_code(planned)


def test_the_first_file_that_changed_is_named(project: Path, planned: Path) -> None:
    (project / "suites" / "c.py").write_text("changed")
    said = refusal(planned)
    assert said.startswith("the code differs from what was submitted: suites/c.py (planned ")
    assert "more" not in said and "submit again" in said
    (project / "itmc" / "deep" / "b.py").write_text("changed")
    said = refusal(planned)
    assert "itmc/deep/b.py" in said and " and 1 more" in said
    (project / "slurm" / "worker.py").write_text("changed")
    assert " and 2 more" in refusal(planned)


def test_what_is_compiled_counts(project: Path, planned: Path) -> None:
    (project / "itmc" / "networks" / "kernel.cpp").write_text("changed")
    assert "itmc/networks/kernel.cpp" in refusal(planned)


def test_files_that_come_and_go_are_changes(project: Path, planned: Path) -> None:
    (project / "itmc" / "new.py").touch()
    assert "itmc/new.py" in refusal(planned)
    (project / "itmc" / "new.py").unlink()
    (project / "itmc" / "a.py").unlink()
    assert "itmc/a.py" in refusal(planned)


def test_another_library_is_a_change(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.code.metadata.version", lambda name: f"0.0 of {name}")
    assert "0.0 of numpy" in refusal(planned)


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "5"])
def test_without_what_was_planned_nothing_starts(planned: Path, content: str | None) -> None:
    planned.unlink()
    if content is not None:
        planned.write_text(content)
    assert refusal(planned) == f"{planned} is gone or damaged; submit the grid again"
