"""Time and memory of training steps: in turns, by phase, and what waits for the device."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.profiler import ProfilerActivity, profile

from suites.bench.machine import synchronise

PHASES = (
    "data", "teacher forward", "student forward", "losses", "backward", "importance", "optimiser",
    "other",
)  # fmt: skip
"""Where the time of a step goes; ``other`` is what no phase covers: Python between the kernels."""
_TURN_SECONDS = 0.25
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 50
_PHASE_STEPS, _PHASE_SECONDS = 3, 1.0
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""Calls in which the host waits for the GPU; the end of profiling synchronises the device."""

T = TypeVar("T")
Wrap = Callable[..., Any]


@dataclass(frozen=True)
class Phase:
    """``owner.attribute``, whose calls belong to the phase ``name``."""

    owner: Any
    attribute: str
    name: str


class Way(Protocol):
    """One way to do a training step."""

    device: torch.device

    def step(self) -> object:
        """One step, with its data; the device may still be at work on it."""

    def turn(self) -> AbstractContextManager[None]:
        """Open around the steps of a turn: what works in the background works inside only."""

    def phases(self) -> Sequence[Phase]:
        """What to time of a step, but for the networks."""

    def networks(self) -> Mapping[str, nn.Module]:
        """All networks of a step by role, ``teacher`` or ``student``."""


def rounds(
    ways: Sequence[Way], count: int | None, seconds: float, report: Callable[[int], None]
) -> NDArray[np.float64]:
    """Seconds of a step, ``(rounds, ways)``, the ways taking turns.

    A turn is a step that is not measured, for what the other way has left in memory, and then as
    many as take a quarter of a second, waited for at the end. It goes on for
    ``count`` rounds, or for ``seconds`` but 3 to 50 rounds; ``report`` hears how many are done.
    """
    steps = [max(1, math.ceil(_TURN_SECONDS / _seconds(way, 1))) for way in ways]
    taken: list[list[float]] = []
    deadline = time.perf_counter() + seconds

    def goes_on() -> bool:
        if count is not None:
            return len(taken) < count
        is_early = time.perf_counter() < deadline
        return len(taken) < _MOST_ROUNDS and (is_early or len(taken) < _FEWEST_ROUNDS)

    while goes_on():
        taken.append([_seconds(way, n) for way, n in zip(ways, steps, strict=True)])
        report(len(taken))
    return np.array(taken)


def _seconds(way: Way, steps: int) -> float:
    """Seconds of a step, the mean over one turn of ``steps``."""
    with way.turn():
        way.step()
        synchronise(way.device)
        start = time.perf_counter()
        for _ in range(steps):
            way.step()
        synchronise(way.device)
        return (time.perf_counter() - start) / steps


def seconds_by_phase(way: Way) -> dict[str, float]:
    """Seconds of a step by phase.

    It waits for the device wherever a phase begins or ends, so their sum is more than the time of
    a step that is left alone.
    """
    spent = _Spent(way.device)
    with ExitStack() as stack:
        stack.enter_context(way.turn())
        way.step()  # as in each turn
        for phase in way.phases():
            stack.enter_context(_timed(phase, spent))
        for role, network in way.networks().items():
            stack.enter_context(_timed(Phase(network, "forward", f"{role} forward"), spent))
        step, steps = spent.timed("other", way.step), 0
        while steps < _PHASE_STEPS and sum(spent.seconds.values()) < _PHASE_SECONDS:
            step()
            steps += 1
    return {name: spent.seconds.get(name, 0.0) / steps for name in PHASES}


class _Spent:
    """Seconds by phase; what is spent in a phase inside another counts for the inner one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self._inner = device, [0.0]

    def timed(self, name: str, work: Wrap) -> Wrap:
        """``work``, whose time is added to ``name``."""

        @wraps(work)
        def call(*arguments: Any, **keywords: Any) -> Any:
            synchronise(self._device)
            start = time.perf_counter()
            self._inner.append(0.0)
            result = work(*arguments, **keywords)
            synchronise(self._device)
            taken = time.perf_counter() - start
            own = taken - self._inner.pop()
            self._inner[-1] += taken
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            return result

        return call


def _timed(phase: Phase, spent: _Spent) -> AbstractContextManager[None]:
    work = getattr(phase.owner, phase.attribute)
    return _set(phase.owner, phase.attribute, spent.timed(phase.name, work))


@contextmanager
def _set(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    """``owner.attribute`` is ``value`` inside; an attribute of its class alone is so again after"""
    own = vars(owner)
    had, before = attribute in own, own.get(attribute)
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, attribute, before)
        else:
            delattr(owner, attribute)


def host_wait(way: Way) -> float | None:
    """Seconds of a step in which the host does nothing but wait for the GPU; None on a CPU."""
    if way.device.type != "cuda":
        return None
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with way.turn(), profile(activities=activities) as trace:
        for _ in range(_PHASE_STEPS):
            way.step()
    return waited(trace.key_averages()) / _PHASE_STEPS


def waited(events: Any) -> float:
    """Seconds of the calls among a profiler's ``events`` in which the host waits."""
    microseconds = sum(event.self_cpu_time_total for event in events if event.key in _WAITS)
    return float(microseconds) / 1e6


def peak_memory(device: torch.device, work: Callable[[], T]) -> tuple[T, int | None]:
    """What ``work`` returns, and the most bytes that it takes beside what is there before it.

    On a GPU what torch allocates there, on a CPU what this process has in memory: without the
    loaders' workers, and None where the system does not tell.
    """
    gc.collect()
    _give_back_freed()
    before = _restarted_peak(device)
    result = work()
    if before is None:
        return result, None
    if device.type == "cuda":
        return result, torch.cuda.max_memory_allocated(device) - before
    return result, _peak_resident() - before


def _restarted_peak(device: torch.device) -> int | None:
    """Bytes in memory now, from which on the peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        _CLEAR.write_text("5")  # the peak is what is resident now
        return _peak_resident()
    except (OSError, KeyError):
        return None


def _give_back_freed() -> None:
    """Have the C library give freed memory back, which else counts for whoever had it."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _peak_resident() -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024
