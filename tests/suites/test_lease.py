"""A folder is one process's: others wait, take over from the dead, and fence off the late."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.training.adapt import Adapt
from itmc.training.control import Control, Stopped
from suites import worker
from suites.config import Places, RunConfig
from suites.execute import Executor, _Worker
from suites.lease import Lease, LeaseLostError, leased
from suites.plan import plan
from tests.suites.tiny_runs import (
    STEPS,
    assert_same_result,
    config,
    few_images,
    places,
    silent,
)

METHOD = "dan_student"
MARKER = ".lease"
SHORT, LONG = 3.0, 3600.0
"""Durations of a lease: one that is waited for, and one that would hang the test."""
GUARD = 120.0


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """An out folder with the run that nothing disturbed, and what it started from."""
    out = tmp_path_factory.mktemp("whole")
    with few_images():
        for job in plan([config(METHOD)]).jobs:
            worker.execute(job.run, job.key, places(out, store), silent, silent)
    return out


@pytest.fixture
def where(stages: Path, tmp_path: Path, store: Path) -> Places:
    """A place where only the run is still to do."""
    shutil.copytree(stages / "stages", tmp_path / "out" / "stages")
    return places(tmp_path / "out", store)


@dataclass
class Peer:
    """A process that executes the run, as the suite's own do."""

    process: Any
    connection: Connection

    def hear(self) -> tuple[Any, ...]:
        """Its next message."""
        assert self.connection.poll(GUARD), "it says nothing"
        message: tuple[Any, ...] = self.connection.recv()
        return message

    def rest(self) -> list[tuple[Any, ...]]:
        """All that it still says."""
        messages = [self.hear()]
        while messages[-1][0] in ("progress", "say"):
            messages.append(self.hear())
        return messages

    def reaches(self, *message: Any) -> None:
        """Listen until it says ``message``."""
        while self.hear() != message:
            pass


Start = Callable[..., Peer]


@pytest.fixture
def start(where: Places) -> Iterator[Start]:
    """Starts processes that work on the run; none is left when the test is over."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["suites.worker"])
    peers: list[Peer] = []

    def begin(duration: float, pause: str = "") -> Peer:
        receiver, sender = context.Pipe(duplex=False)
        run = config(METHOD)
        arguments = (run.model_dump_json(), where.model_dump_json(), duration, pause, sender)
        process = context.Process(target=_peer, args=arguments, daemon=True)
        process.start()
        sender.close()
        peers.append(Peer(process, receiver))
        return peers[-1]

    yield begin
    for peer in peers:
        peer.process.kill()
        peer.process.join()


def _peer(run: str, where: str, duration: float, pause: str, connection: Connection) -> None:
    """Executes the run by a lease of ``duration`` seconds.

    In the middle of its second epoch it says so where ``pause`` is given: it then is suspended, or
    waits, all else of it alive, for the file of that name to appear.
    """
    original, steps = Adapt.losses, itertools.count()

    def losses(self: Adapt, batch: Batch, progress: float) -> dict[str, Tensor]:
        if next(steps) == STEPS + 2 and pause:
            connection.send(("pause",))
            if pause == "suspended":
                os.kill(os.getpid(), signal.SIGSTOP)
            while pause != "suspended" and not Path(pause).exists():
                time.sleep(0.05)
        return original(self, batch, progress)

    Adapt.losses = losses  # type: ignore[method-assign]
    worker.leased = partial(leased, duration=duration)  # type: ignore[assignment]
    with few_images():
        key = RunConfig.model_validate_json(run).key
        folder = Places.model_validate_json(where).out / key
        worker.child(run, where, folder, "the run", connection)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file but the log, and when it was written."""
    files = [path for path in folder.iterdir() if path.name != worker.LOG]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_the_second_waits_as_long_as_the_first_is_alive_and_does_nothing_again(
    start: Start, where: Places, stages: Path, tmp_path: Path
) -> None:
    gate, key = tmp_path / "gate", config(METHOD).key
    first = start(SHORT, pause=str(gate))
    first.reaches("pause")
    second = start(SHORT)
    assert second.hear() == ("say", f"waiting for another process that works in {where.out / key}")
    time.sleep(1.5 * SHORT)  # no lease runs out that is renewed
    gate.touch()
    assert first.rest()[-1] == ("finished",)
    assert second.rest() == [("finished",)]
    assert_same_result(stages / key, where.out / key)
    assert contents(where.out / key).keys() == contents(stages / key).keys()
    assert MARKER not in contents(where.out / key)


def test_from_a_killed_process_the_next_takes_over_at_once(
    start: Start, where: Places, stages: Path
) -> None:
    key = config(METHOD).key
    first = start(LONG, pause="never")
    first.reaches("pause")
    first.process.kill()
    first.process.join()
    assert (where.out / key / MARKER).exists()
    messages = [message for message in start(LONG).rest() if message[0] != "say"]
    assert messages[0][:2] == ("progress", 1) and messages[-1] == ("finished",)
    assert_same_result(stages / key, where.out / key)
    assert MARKER not in contents(where.out / key)


@pytest.mark.parametrize("meanwhile", ["finished", "working"])
def test_one_that_was_suspended_for_long_is_taken_over_and_writes_no_more(
    meanwhile: str, start: Start, where: Places, stages: Path, tmp_path: Path
) -> None:
    gate, folder = tmp_path / "gate", where.out / config(METHOD).key
    first = start(SHORT, pause="suspended")
    first.reaches("pause")
    second = start(SHORT, pause=str(gate))
    second.reaches("pause")
    if meanwhile == "finished":
        gate.touch()
        assert second.rest()[-1] == ("finished",)
    before = contents(folder)
    os.kill(first.process.pid, signal.SIGCONT)
    reason = f"another process has taken over the work in {folder}; this one stops"
    assert first.rest() == [("lost", reason)]
    first.process.join()
    after = contents(folder)
    if meanwhile == "working":  # which touches its marker
        assert before.pop(MARKER)[1] == after.pop(MARKER)[1]
    assert after == before
    gate.touch()
    if meanwhile == "working":
        assert second.rest()[-1] == ("finished",)
    assert_same_result(stages / folder.name, folder)
    assert contents(folder).keys() == contents(stages / folder.name).keys()


def test_a_job_whose_lease_was_lost_is_waited_for(where: Places) -> None:
    jobs = plan([config(METHOD)])
    executor = Executor(jobs, where, 1, _Said())
    job, count = executor._waiting.pop_ready(), len(executor._waiting)
    executor._conclude(_Worker(job, None, None, verdict=("lost", "taken")))  # type: ignore[arg-type]
    assert len(executor._waiting) == count + 1 and executor.outcome.failures == {}
    assert executor._waiting.pop_ready() is job


class _Said:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return silent


def never() -> bool:
    return False


def test_a_marker_that_names_nobody_is_waited_for_and_removed(tmp_path: Path) -> None:
    """What a node leaves that dies between creating the marker and writing it."""
    (tmp_path / MARKER).touch()
    said: list[str] = []
    with leased(tmp_path, said.append, never, duration=0.5):
        assert len(said) == 1
        assert (tmp_path / MARKER).stat().st_size > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exchanges", [True, False])
def test_of_a_dead_node_it_is_taken_over_on_any_file_system(
    exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS refuses to exchange two names, by which filelock takes a marker over."""
    owner = "pid=1\nhost=a node that is gone\nmode=lease\ntoken=its\nduration=0.5\n"
    (tmp_path / MARKER).write_text(f"filelock/2\n{owner}")
    if not exchanges:
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *_: False)
    said: list[str] = []
    with leased(tmp_path, said.append, never, duration=0.5) as lease:
        assert len(said) == 1
        lease.check()
    assert list(tmp_path.iterdir()) == []


def test_one_that_waits_can_be_stopped(tmp_path: Path) -> None:
    control = Control()
    (tmp_path / MARKER).touch()
    with pytest.raises(Stopped), leased(tmp_path, lambda _: control.stop(), stopping(control)):
        raise AssertionError("it must not get the lease")


def stopping(control: Control) -> Callable[[], bool]:
    return lambda: control.is_stopping


@pytest.mark.parametrize("marker", ["gone", "another's"])
def test_an_error_after_the_loss_is_no_failure_of_the_work(
    marker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suites.lease._LOOK", 0.0)
    other = Lease(tmp_path)

    def work() -> None:
        with hold(tmp_path) as lease:
            lease.check()
            (tmp_path / MARKER).unlink()
            if marker == "another's":
                other.acquire(silent, never)
            raise OSError("what follows from that")

    with pytest.raises(LeaseLostError, match="taken over the work in"):
        work()
    assert (tmp_path / MARKER).exists() == (marker == "another's")
    other.release()


def test_an_error_while_it_is_held_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), hold(tmp_path):
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


def hold(folder: Path) -> Any:
    return leased(folder, silent, never)
