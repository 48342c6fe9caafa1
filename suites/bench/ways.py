"""The two ways to do a training step: this project's own, and the one of public code."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmc.itmc import Alternate
from itmc.training.loop import train_step
from itmc.training.stage import Stage
from suites.bench import naive
from suites.bench.clock import Phase
from suites.bench.domains import Domains
from suites.bench.stages import Settings, discrepancies_of, networks_of
from suites.memory import keep_freed, return_freed

DONE = 0.5
"""The share of training that is over: all losses have weight."""
_PR_SET_PDEATHSIG = 1  # prctl.h


class Ours:
    """The step that every run of this project makes."""

    def __init__(self, stage: Stage) -> None:
        self.device, self.example = stage.context.device, stage.context.example
        self._stage = stage
        self._done = 0

    def step(self) -> dict[str, Tensor]:
        """One step, with its data; returns the losses."""
        batch = self._stage.context.batches.at(self._done)
        self._done += 1
        return train_step(self._stage, batch, DONE)

    def turn(self) -> nullcontext[None]:
        """Nothing works in the background."""
        return nullcontext()

    def phases(self) -> Sequence[Phase]:
        """What to time of a step."""
        stage = self._stage
        return (
            Phase(stage.context.batches, "at", "data"),
            Phase(stage, "losses", "losses"),
            Phase(torch.autograd, "backward", "backward"),
            Phase(stage, "after_backward", "importance"),
            Phase(stage, "update", "optimiser"),
        )

    def networks(self) -> Mapping[str, nn.Module]:
        """All networks of a step by role."""
        return networks_of(self._stage)


class Naive:
    """The step of public code, with the networks and discrepancies of a stage of this project."""

    def __init__(self, stage: Stage, settings: Settings, domains: Domains) -> None:
        self.device, self.example = settings.device, stage.context.example
        self._stage = stage
        self._method = naive_method(stage)
        before = set(multiprocessing.active_children())
        self._sources, self._targets = (
            _endless(domains, name, settings) for name in ("source", "target")
        )
        self._workers = set(multiprocessing.active_children()) - before

    def step(self) -> dict[str, float]:
        """One step, with its data; returns the losses."""
        return self._method.step(*self._fetch(), self._stage.progress(DONE))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Settings of torch and of the C library as public code leaves them, and workers that work.

        Outside they stand still, and find all as they left it: so nobody's turn pays for another's
        data, and a turn is a piece of a training that went on.
        """
        self._signal(signal.SIGCONT)
        try:
            with _as_torch_comes():
                yield
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the workers."""
        self._signal(signal.SIGCONT)
        del self._sources, self._targets

    def phases(self) -> Sequence[Phase]:
        """What to time of a step."""
        own = self._method
        optimisers = (
            [own.optimiser] if isinstance(own, naive.Adaptation) else own.optimisers.values()
        )
        return (
            Phase(self, "_fetch", "data"),
            Phase(F, "cross_entropy", "losses"),
            Phase(naive, "kd", "losses"),
            *(Phase(term, "forward", "losses") for term in discrepancies_of(self._stage).values()),
            Phase(torch.autograd, "backward", "backward"),
            *([Phase(own, "observe", "importance")] if hasattr(own, "observe") else []),
            *(Phase(optimiser, "step", "optimiser") for optimiser in optimisers),
        )

    def networks(self) -> Mapping[str, nn.Module]:
        """All networks of a step by role."""
        return networks_of(self._stage)

    def _fetch(self) -> tuple[Tensor, Tensor, Tensor]:
        (source, labels), (target, _) = next(self._sources), next(self._targets)
        return source.to(self.device), labels.to(self.device), target.to(self.device)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, number)


def naive_method(stage: Stage) -> naive.Adaptation | naive.Compression:
    """The step of public code for what ``stage`` trains, whose networks become NCHW."""
    networks, discrepancies = networks_of(stage), discrepancies_of(stage)
    for network in networks.values():
        network.to(memory_format=torch.contiguous_format)
    training = stage.context.training
    if isinstance(stage, Alternate):
        return naive.Compression(networks, discrepancies, stage.acp.observe, stage.knobs, training)
    return naive.Adaptation(networks["student"], discrepancies["student"], training)


def _endless(domains: Domains, name: str, settings: Settings) -> Iterator[list[Tensor]]:
    loader = naive.loader(
        domains.files / name, domains.stored_size, settings.image_size, settings.batch,
        pinned=settings.device.type == "cuda",
    )  # fmt: skip
    loader.worker_init_fn = _die_with_parent
    return iter(loader)


def _die_with_parent(_: int) -> None:
    """A worker that stands still could not see for itself that its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _as_torch_comes() -> Iterator[None]:
    """Inside, torch may sum in any order, and use TF32 in convolutions, and what is freed goes back
    to the system, all as it is unasked."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    tf32 = torch.backends.cudnn.allow_tf32
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = True
    return_freed()
    try:
        yield
    finally:
        keep_freed()
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.backends.cudnn.allow_tf32 = tf32
