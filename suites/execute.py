"""Execute a plan on this machine: jobs side by side, each in a process of its own.

A job that crashes, whatever the reason, fails alone. Workers are forked from a server that has the
libraries loaded, so that a short run does not wait for imports.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from itmc.training.control import Control
from suites.config import Places
from suites.folders import FAILURE, is_finished, job_folder, record_failure
from suites.plan import Job, Plan
from suites.waiting import Waiting
from suites.worker import child

STOP_SIGNAL = signal.SIGUSR2
"""What a scheduler sends before it takes a job's machine away; submitit's choice too."""
PAUSE_SECONDS = 60.0
_WORKER = "suites.worker"
_HELD_BACK = {signal.SIGINT, signal.SIGTERM, STOP_SIGNAL}


class Display(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None:
        """One line about what goes on."""

    def advance(self, job: Job, share: float) -> None:
        """``share`` in [0, 1] of ``job`` is done."""

    def already_finished(self, job: Job) -> None:
        """``job`` was finished before this plan was begun."""

    def finished(self, job: Job, places: Places, seconds: float) -> None:
        """``job`` is finished, after ``seconds``."""

    def failed(self, job: Job, reason: str) -> None:
        """``job`` has failed."""


@dataclass
class Outcome:
    """What became of a plan's runs."""

    failures: dict[str, str] = field(default_factory=dict)
    """The reason in one line, by the title of the run that failed."""
    interrupted: bool = False


@dataclass
class _Worker:
    job: Job
    process: Any
    connection: Connection
    started: float = field(default_factory=time.monotonic)
    verdict: tuple[Any, ...] | None = None


def run_plan(plan: Plan, places: Places, jobs: int, display: Display) -> Outcome:
    """Execute what is not finished yet, ``jobs`` at a time; a failure stops only what needs it.

    Ctrl-C stops all workers; their checkpoints stay, so the same plan can be taken up again.
    """
    executor = Executor(plan, places, jobs, display)
    try:
        executor.work()
    except KeyboardInterrupt:
        executor.outcome.interrupted = True
    finally:
        executor.stop()
    return executor.outcome


def outstanding(plan: Plan, places: Places) -> dict[str, Job]:
    """The jobs to do, by key: what the plan is for, and the stages needed that are unfinished.

    It is for its runs, and for stages that nothing in it needs.
    """
    waiting: dict[str, Job] = {}
    needed: set[str] = set()
    inner = {key for job in plan.jobs for key in job.needs}
    for job in reversed(plan.jobs):  # what needs a stage comes after it
        wanted = job.key in needed or job.key not in inner
        if wanted and not is_finished(places.out, job.key, job.is_run):
            waiting[job.key] = job
            needed.update(job.needs)
    return dict(reversed(waiting.items()))


class Executor:
    """Executes what of a plan is not finished, ``jobs`` at a time."""

    def __init__(
        self,
        plan: Plan,
        places: Places,
        jobs: int,
        display: Display,
        on_cluster: bool = False,
    ) -> None:
        """``on_cluster``: its processes heed a scheduler's signals, as ``_child`` says.

        They are then forked from this process, which is there for nothing else, so that a job of
        the cluster loads the libraries once.
        """
        self._places, self._limit, self._display = places, jobs, display
        self._on_cluster = on_cluster
        self.outcome = Outcome()
        to_do = outstanding(plan, places)
        self._waiting = Waiting(to_do)
        for job in plan.jobs:
            if job.key not in to_do:
                display.already_finished(job)
        self._workers: list[_Worker] = []
        self._processes: Any = multiprocessing.get_context("fork" if on_cluster else "forkserver")
        alone = len(to_do) <= jobs  # each process then loads what it needs, at the same time
        self._processes.set_forkserver_preload([_WORKER] if alone else [_WORKER, "suites.late"])

    def work(self) -> None:
        """Start what can start and take in what comes of it, until nothing is left."""
        while self._waiting or self._workers:
            while len(self._workers) < self._limit and (job := self._waiting.pop_ready()):
                self._start(job)
            if self._workers:
                self._listen()

    def pause(self) -> None:
        """Have all workers write their checkpoints and end; for a signal handler, amid ``work``.

        One that takes too long is left to its fate: then its last checkpoint is what remains.
        """
        self._waiting.clear()
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, STOP_SIGNAL)
        deadline = time.monotonic() + PAUSE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            how = "stopped" if worker.process.exitcode == 0 else "left behind"
            with suppress(RuntimeError):  # where the signal came amid another line
                self._display.say(f"{worker.job.title}: {how} at its last checkpoint")

    def stop(self) -> None:
        """End all workers, at once and for good."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def _start(self, job: Job) -> None:
        if not self._on_cluster:
            _start_server()
        receiver, sender = self._processes.Pipe(duplex=False)
        process = self._processes.Process(
            target=_child,
            args=(
                job.run.model_dump_json(), self._places.model_dump_json(), self._folder(job),
                job.title, sender, self._on_cluster,
            ),
            daemon=True,
        )  # fmt: skip
        with _deaf():  # as the process begins too, until it has chosen what to heed
            process.start()
            self._workers.append(_Worker(job, process, receiver))
        sender.close()

    def _listen(self) -> None:
        """Wait for news of any worker, and take it in."""
        readable = wait([worker.connection for worker in self._workers])
        for worker in [w for w in self._workers if w.connection in readable]:
            try:
                message = worker.connection.recv()
            except EOFError:  # the process has ended, and closed its side
                worker.process.join()
                self._workers.remove(worker)
                self._conclude(worker)
                continue
            if message[0] == "progress":
                self._display.advance(worker.job, message[1] / max(1, message[2]))
            elif message[0] == "say":
                self._display.say(message[1])
            else:
                worker.verdict = message

    def _conclude(self, worker: _Worker) -> None:
        if worker.verdict == ("finished",):
            self._waiting.finished(worker.job.key)
            seconds = time.monotonic() - worker.started
            self._display.finished(worker.job, self._places, seconds)
        elif worker.verdict == ("stopped",):
            self._display.say(f"{worker.job.title}: stopped at its last checkpoint")
        elif worker.verdict is not None and worker.verdict[0] == "lost":
            self._display.say(worker.verdict[1])
            self._waiting.put_back(worker.job)  # to wait for the one that has it now
        elif worker.verdict is not None:
            self._fail(worker.job, worker.verdict[1])
        else:
            reason = _death(worker.process.exitcode)
            folder = self._folder(worker.job)
            self._fail(worker.job, record_failure(folder, worker.job.title, reason))

    def _fail(self, job: Job, reason: str) -> None:
        """Tell that ``job`` has failed, and with it all that waits for it."""
        if job.is_run:
            self.outcome.failures[job.title] = f"{reason} ({self._folder(job) / FAILURE})"
        self._display.failed(job, reason)
        for user in self._waiting.pop_users(job.key):
            because = f"needs a failed {job.title}: {reason}"
            self._fail(user, record_failure(self._folder(user), user.title, because))

    def _folder(self, job: Job) -> Path:
        return job_folder(self._places.out, job.key, job.is_run)


def _start_server() -> None:
    """Start the server that forks the workers, unless it runs: deaf to all that may be sent.

    What is sent to a whole group of processes, Ctrl-C say, would end it.
    """
    with _deaf():
        resource_tracker.ensure_running()  # first, for starting it lifts the block of some signals
    with _deaf():
        forkserver.ensure_running()


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold signals back inside; processes that are started inherit it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the process was killed by {name}{hint}"
    return f"the process ended with exit code {code} and no message"


def _child(
    run: str, places: str, folder: Path, title: str, connection: Connection, on_cluster: bool
) -> None:
    """``worker.child`` in a process that ignores Ctrl-C (its parent decides) and dies with it.

    On a cluster it writes its checkpoint when it is terminated, for a kill follows, and goes on
    until then; at STOP_SIGNAL it writes it and ends.
    """
    control = Control()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if on_cluster:
        signal.signal(signal.SIGTERM, lambda *_: control.save())
        signal.signal(STOP_SIGNAL, lambda *_: control.stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    child(run, places, folder, title, connection, control)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a child
    wait([parent.sentinel])
    os._exit(1)
