"""What ``suites.bench step`` measures: that both ways do the same, and that turns are turns."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import suites.config  # noqa: F401 - registers all methods
from itmc.itmc import Alternate
from itmc.networks.compute import Compute
from itmc.training.loop import train_step
from itmc.training.method import method
from suites.bench import clock, domains, rows
from suites.bench.domains import Domains, make_domains
from suites.bench.machine import Limits
from suites.bench.stages import Settings, context_of, discrepancies_of, networks_of, stage_of
from suites.bench.ways import DONE, Naive, Ours, naive_method

CPU = torch.device("cpu")
SETTINGS = Settings("digits_convnet", 32, 4, CPU, Compute())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Domains:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(domains, "IMAGES", 2 * domains.CLASSES)
        return make_domains(tmp_path_factory.mktemp("domains"), 32)


@pytest.mark.parametrize(
    ("name", "compression"), [("dan", 0.0), ("cdan", 0.0), ("itmc", 0.0), ("itmc", 0.5)]
)
def test_both_ways_compute_the_same(name: str, compression: float, made: Domains) -> None:
    """The same losses, importance and weights, from the same weights and images, with bn: split.

    Public code updates the teacher before its second pass, so here it stays nearly where it is.
    """
    changes = {"teacher_logits": "fresh", "teacher_rate": 1e-12} if name == "itmc" else {}
    ours, other = (
        stage_of(name, compression, 0.75, context_of(SETTINGS, made, "split"), changes)
        for _ in range(2)
    )
    naive = naive_method(other)
    for step in range(2):
        batch = ours.context.batches.at(step)
        losses = train_step(ours, batch, DONE)
        found = naive.step(batch.source, batch.labels, batch.target, ours.progress(DONE))
        assert found.keys() == losses.keys()
        for key, loss in losses.items():
            assert found[key] == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-6), key
    untrained = stage_of(name, compression, 0.75, context_of(SETTINGS, made, "split"), changes)
    _have_learnt_alike(networks_of(ours), networks_of(other), networks_of(untrained))
    _have_learnt_alike(discrepancies_of(ours), discrepancies_of(other), discrepancies_of(untrained))
    if isinstance(ours, Alternate) and isinstance(other, Alternate):
        totals, found = (s.acp.state()["criterion"]["totals"] for s in (ours, other))
        assert totals and found.keys() == totals.keys()
        for group, total in totals.items():
            assert torch.allclose(found[group], total, rtol=1e-2, atol=1e-5), group


def _have_learnt_alike(ours: Any, naive: Any, untrained: Any) -> None:
    for role, network in ours.items():
        moved = 0.0
        for here, there, before in zip(
            network.parameters(),
            naive[role].parameters(),
            untrained[role].parameters(),
            strict=True,
        ):
            assert torch.allclose(here, there, rtol=1e-3, atol=1e-5)
            moved += float((here - before).abs().sum().detach())
        if role == "student" and list(network.parameters()):
            assert moved > 0.1


def test_importance_is_accumulated_while_there_is_more_to_prune(made: Domains) -> None:
    observed = {}
    for compression in (0.5, 0.75):
        stage = stage_of("itmc", compression, 0.75, context_of(SETTINGS, made))
        Ours(stage).step()
        assert isinstance(stage, Alternate)
        observed[compression] = stage.acp.state()["criterion"]["batches"]
    assert observed == {0.5: 1, 0.75: 0}


def test_workers_work_in_their_turn_only_and_end(made: Domains) -> None:
    before = set(multiprocessing.active_children())
    stage = stage_of("dan", 0.0, 0.75, context_of(SETTINGS, made))
    with closing(Naive(stage, SETTINGS, made)) as way:
        workers = set(multiprocessing.active_children()) - before
        assert len(workers) == 4
        for _ in range(2):
            with way.turn():
                losses = way.step()
                _wait_until(lambda: all(_state(worker) != "T" for worker in workers))
            assert losses.keys() == {"source_ce", "discrepancy"}
            _wait_until(lambda: all(_state(worker) == "T" for worker in workers))
    _wait_until(lambda: not set(multiprocessing.active_children()) - before)


def _state(worker: Any) -> str:
    """``T``: stopped."""
    text = Path(f"/proc/{worker.pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0]


def _wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Recorded:
    """A way that writes down what is done to it."""

    device = CPU

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def step(self) -> None:
        self.log.append(self.name)

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.log.append(f"{self.name}(")
        yield
        self.log.append(")")

    def phases(self) -> tuple[()]:
        return ()

    def networks(self) -> dict[str, Any]:
        return {}


def test_ways_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_TURN_SECONDS", 0.0)
    log: list[str] = []
    told: list[int] = []
    taken = clock.rounds([Recorded("a", log), Recorded("b", log)], 3, 0.0, told.append)
    assert taken.shape == (3, 2) and told == [1, 2, 3]
    assert "".join(log) == 4 * "a(aa)b(bb)"  # one to see how long a step takes, and 3


def test_seconds_end_after_at_least_three_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_TURN_SECONDS", 0.0)
    assert clock.rounds([Recorded("a", [])], None, 0.0, lambda _: None).shape == (3, 1)
    assert clock.rounds([Recorded("a", [])], None, 1e6, lambda _: None).shape == (50, 1)


def test_time_counts_for_the_innermost_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    class Slow(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            passes(4.0)
            return images

    network = Slow()
    way: Any = SimpleNamespace(
        device=CPU, turn=Recorded("", []).turn, draw=lambda: passes(1.0),
        networks=lambda: {"teacher": network},
    )  # fmt: skip

    def losses() -> None:
        passes(2.0)
        network(torch.zeros(1))
        passes(3.0)

    way.losses = losses
    way.phases = lambda: [clock.Phase(way, "draw", "data"), clock.Phase(way, "losses", "losses")]

    def step() -> None:
        way.draw()
        passes(6.0)
        way.losses()

    way.step = step
    spent = clock.seconds_by_phase(way)
    known = {"data": 1.0, "teacher forward": 4.0, "losses": 5.0, "other": 6.0}
    assert spent == {name: known.get(name, 0.0) for name in clock.PHASES}
    assert way.losses is losses and "forward" not in vars(network)


def test_after_phases_are_timed_all_is_as_before(made: Domains) -> None:
    stage = stage_of("itmc", 0.0, 0.75, context_of(SETTINGS, made))
    before, backward = set(vars(stage)), torch.autograd.backward
    way = Ours(stage)
    assert sum(clock.seconds_by_phase(way).values()) > 0
    assert set(vars(stage)) - before <= {"_tkd_loss"} and torch.autograd.backward is backward
    assert "at" not in vars(stage.context.batches)
    assert all("forward" not in vars(network) for network in way.networks().values())


def test_peak_memory_is_what_is_taken_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.ones(256 << 20, np.uint8)  # was there before
    sums, found = clock.peak_memory(CPU, lambda: int(np.ones(64 << 20, np.uint8).sum()))
    assert sums == 64 << 20 < len(kept)
    assert found is not None and 60 << 20 < found < 128 << 20
    monkeypatch.setattr(clock, "_CLEAR", Path("/nowhere/clear_refs"))
    assert clock.peak_memory(CPU, lambda: "done") == ("done", None)


def test_the_host_waits_in_the_calls_that_synchronise() -> None:
    events = [
        SimpleNamespace(key=key, self_cpu_time_total=microseconds)
        for key, microseconds in (
            ("cudaStreamSynchronize", 2e6), ("cudaLaunchKernel", 5e6), ("aten::item", 7e6),
            ("cudaDeviceSynchronize", 11e6), ("cudaEventSynchronize", 1e6),
        )
    ]  # fmt: skip
    assert clock.waited(events) == 3.0


def test_a_run_is_as_fast_as_its_epochs_together() -> None:
    """After a whole lead 20 epochs, of which pruning takes 12: c(e) = 0.75 (1 - (1 - e / 12)^3)."""
    compressions = [0.75 * (1 - (1 - min(e, 12) / 12) ** 3) for e in range(20)]
    speeds = {0.0: 10.0, 0.75: 40.0}
    measured = [
        {"method": "itmc", "way": "ours", "compression": c, "images_per_second": speed}
        for c, speed in speeds.items()
    ]
    each = [10 + 40 * c for c in compressions]
    knobs: Any = method("itmc").Knobs(teacher_lead=1.0)
    found = rows.over_a_run(measured, knobs, 0.75)
    assert found == {"ours": pytest.approx(20 / sum(1 / speed for speed in each))}
    assert rows.over_a_run(measured[1:], knobs, 0.75) == {}


def test_limits_are_the_higher_of_two_measurements() -> None:
    first, second = Limits({"fp32": 1.0, "bf16": 4.0}, 5.0), Limits({"fp32": 2.0, "bf16": 3.0}, 6.0)
    assert first.or_more(second) == Limits({"fp32": 2.0, "bf16": 4.0}, 6.0)
