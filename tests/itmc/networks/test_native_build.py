"""The kernels are compiled where they have to be, once, and never half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from itmc.errors import UsageError
from itmc.networks.compute import Compute
from itmc.networks.native import build
from itmc.networks.native.build import NoKernelsError
from itmc.training import precision
from itmc.training.precision import settled
from tests.compiler import compiler as compiler

fresh = build.library.__wrapped__
"""As a new process has them."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they are kept: nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "itmc-bench" / "kernels"


@pytest.mark.usefixtures("compiler")
def test_processes_find_what_one_has_compiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh()
    (made,) = folder.iterdir()
    monkeypatch.setattr(build, "_run_compiler", lambda arguments: pytest.fail("compiled again"))
    assert fresh()._name == str(made)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("changed", ["processor", "compiler", "source"])
def test_another_machine_has_its_own(
    changed: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh()
    if changed == "processor":
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    elif changed == "compiler":
        monkeypatch.setenv("CXX", "g++ -DOTHER")
    else:
        source = tmp_path / "other.cpp"
        source.write_text(build._SOURCE.read_text() + "\n// Another.\n")
        monkeypatch.setattr(build, "_SOURCE", source)
    fresh()
    assert len(list(folder.iterdir())) == 2


@pytest.mark.usefixtures("compiler")
def test_processes_that_compile_at_once_leave_one_file(folder: Path) -> None:
    code = "from itmc.networks.native.build import library; library().normalise"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    started = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len(list(folder.iterdir())) == 1


@pytest.mark.usefixtures("compiler")
def test_where_nothing_can_be_kept_they_are_compiled_for_the_process(folder: Path) -> None:
    folder.parent.write_text("not a folder")
    assert fresh().normalise


@pytest.mark.usefixtures("compiler")
def test_a_file_that_does_not_load_is_not_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / f"batch_norm-{build._kind()}.so").write_bytes(b"")
    assert fresh().normalise


@pytest.mark.usefixtures("compiler")
def test_what_fails_to_compile_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "wrong.cpp"
    source.write_text("int f() { return nothing; }\n")
    monkeypatch.setattr(build, "_SOURCE", source)
    with pytest.raises(NoKernelsError, match=r"the C\+\+ compiler 'g\+\+' fails: .*wrong.cpp"):
        fresh()
    assert not list(folder.iterdir())


def test_without_a_compiler_torchs_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(precision, "library", fresh)
    said: list[str] = []
    assert settled("auto", Compute("bf16"), "cpu", said.append) == "torch"
    why = "there is no C++ compiler 'no-such-compiler'; install g++, or name another in $CXX"
    assert said == [f"kernels: torch's, which are slower: {why}"]
    with pytest.raises(UsageError) as raised:
        settled("native", Compute("bf16"), "cpu", said.append)
    assert str(raised.value) == f"--kernels native: {why}"


@pytest.mark.parametrize(
    ("compute", "device"),
    [
        (Compute("fp32"), "cpu"),
        (Compute("bf16"), "cuda"),
        (Compute("bf16", compile=True), "cpu"),
        (Compute("bf16", channels_last=False), "cpu"),
    ],
)
def test_there_are_native_kernels_for_bf16_on_the_cpu(
    compute: Compute, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "library", lambda: pytest.fail("compiled for nothing"))
    assert settled("auto", compute, device, pytest.fail) == "torch"
    with pytest.raises(UsageError, match="for bf16 on the CPU only"):
        settled("native", compute, device, pytest.fail)


@pytest.mark.usefixtures("compiler")
def test_auto_is_native_where_there_is_a_compiler() -> None:
    assert settled("auto", Compute("bf16"), "cpu", pytest.fail) == "native"
    assert settled("torch", Compute("bf16"), "cpu", pytest.fail) == "torch"
