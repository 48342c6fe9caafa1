"""What the machine is and can do: matrix rates, copy bandwidth, processor and versions."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

GEMM_SIZES = (1024, 2048, 4096)
"""N of the products of N x N matrices; the best rate counts."""
COPIED = 256 << 20
"""Bytes of the block that is copied: more than any cache holds."""
_SECONDS, _REPEATS = 0.3, 3
_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "itmc-bench")


def facts(device: torch.device) -> dict[str, Any]:
    """The machine and the versions of what runs on it, as JSON has it."""
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in _PACKAGES}
    found: dict[str, Any] = {
        "processor": f"{processor()} ({platform.machine()})",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "device": device.type,
        "gemm_sizes": list(GEMM_SIZES),
        "versions": versions,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = {"name": properties.name, "bytes": properties.total_memory}
        versions["cuda"] = str(torch.version.cuda)
    return found


@dataclass(frozen=True)
class Limits:
    """What the machine does at most: FLOP/s of matrix products by precision, bytes a second."""

    rates: dict[str, float]
    bandwidth: float

    def or_more(self, other: Limits) -> Limits:
        """The higher of both each: what else runs on the machine can only lower them."""
        rates = {name: max(rate, other.rates[name]) for name, rate in self.rates.items()}
        return Limits(rates, max(self.bandwidth, other.bandwidth))


def limits(device: torch.device) -> Limits:
    """Measure them; precisions are ``fp32``, ``bf16``, and ``tf32`` on CUDA.

    Bytes that a copy reads and those that it writes count both.
    """
    rates = {
        "fp32": _gemm_rate(torch.float32, device),
        "bf16": _gemm_rate(torch.bfloat16, device),
    }
    if device.type == "cuda":
        with _tf32_products():
            rates["tf32"] = _gemm_rate(torch.float32, device)
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return Limits(rates, 2 * COPIED / _fastest(lambda: target.copy_(source), device))


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done all that it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def processor() -> str:
    """The processor's model name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gemm_rate(dtype: torch.dtype, device: torch.device) -> float:
    return max(_gemm_rate_at(size, dtype, device) for size in GEMM_SIZES)


def _gemm_rate_at(size: int, dtype: torch.dtype, device: torch.device) -> float:
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return float(2 * size**3 / _fastest(lambda: torch.mm(a, b, out=out), device))


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several calls, after one that is not counted."""
    work()
    taken: list[float] = []
    while len(taken) < _REPEATS or sum(taken) < _SECONDS:
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


@contextmanager
def _tf32_products() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
