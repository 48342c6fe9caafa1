"""Compiles the C++ file of this folder, once for each kind of processor, and loads it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from itmc.errors import UsageError, first_line

_SOURCE = Path(__file__).with_name("batch_norm.cpp")
# GCC's OpenMP is the one that torch's own kernels have their threads from.
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512"),
    *("-fopenmp", "-shared", "-fPIC"),
)


class NoKernelsError(UsageError):
    """They cannot be compiled or loaded here. The message says why."""


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels. Raises NoKernelsError.

    They lie in the user's cache folder, under a name that says of what source, by which compiler
    and for which processor they are. Processes that find none at once each compile them, which
    takes about a second: no lock is there to wait for. Where they cannot be kept they are compiled
    for this process alone.
    """
    path = _folder() / f"batch_norm-{_kind()}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _compile(path)
        return ctypes.CDLL(str(path))
    except OSError:  # nowhere to write, or a file that another C library is needed for
        return _of_this_process()


def _of_this_process() -> ctypes.CDLL:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "batch_norm.so"
            _compile(path)
            return ctypes.CDLL(str(path))  # which stays when the file goes
    except OSError as error:
        raise NoKernelsError(f"what was compiled cannot be loaded: {error}") from error


def _compile(path: Path) -> None:
    """Make ``path``, which is whole or absent at any time. OSError where it cannot be written."""
    handle, unfinished = tempfile.mkstemp(".so", ".unfinished-", path.parent)
    os.close(handle)
    try:
        _run_compiler([*_FLAGS, str(_SOURCE), "-o", unfinished])
        os.replace(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _run_compiler(arguments: list[str]) -> None:
    compiler = _compiler()
    try:
        done = subprocess.run([*compiler, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoKernelsError(
            f"there is no C++ compiler {compiler[0]!r}; install g++, or name another in $CXX"
        ) from error
    if done.returncode != 0:
        said = first_line(Exception(done.stderr))
        raise NoKernelsError(f"the C++ compiler {compiler[0]!r} fails: {said}")


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["g++"]


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "itmc-bench" / "kernels"


def _kind() -> str:
    """Other where anything is that the compiled file depends on."""
    processor = sorted(torch.cpu.get_capabilities().items())
    everything = [_SOURCE.read_text(), _compiler(), _FLAGS, processor]
    return hashlib.sha256(repr(everything).encode()).hexdigest()[:16]
