"""Workers without a cluster: when they start, that they start again, and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm import local
from slurm.worker import CHECKPOINT
from suites.folders import PROGRESS
from tests.slurm.conftest import GRID
from tests.suites.conftest import REPOSITORY, Call

GUARD_SECONDS = 120
"""After which what does not come is taken to hang."""
PRETRAIN_EPOCHS = 20
LONG = (
    "digits", "--methods", "source_only", "--device", "cpu", "--tasks", "hand->print",
    "--epochs", "1", "--set", f"training.pretrain_epochs={PRETRAIN_EPOCHS}",
    "--set", "training.steps_per_epoch=2",
)  # fmt: skip
"""Stages of which the first takes some seconds."""


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while not what():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


@pytest.fixture
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs write what they do, on a machine with two cores."""
    monkeypatch.setattr("slurm.local.cores", lambda: 2)
    path = tmp_path / "diary"
    monkeypatch.setenv("DIARY", str(path))
    return path


def entries(diary: Path) -> list[str]:
    """What each job wrote, with the number of its array and that in it instead of its name."""
    return [line[line.rindex("-") + 1 :] for line in diary.read_text().splitlines()]


BEGIN, END = (f'echo "$SUBMITIT_LOCAL_JOB_ID {word}" >> "$DIARY"' for word in ("begins", "ends"))
# The second stage of the second level ends when the run that needs the first one has begun.
WAIT = (
    'case $SUBMITIT_LOCAL_JOB_ID in *-1.1) for n in {1..600}; do '
    'grep -q -e "-2.0 begins" "$DIARY" && break; sleep 0.1; done;; esac'
)  # fmt: skip


def test_each_starts_as_soon_as_what_it_needs_is_over(
    submit: Call, diary: Path, tmp_path: Path
) -> None:
    setup = [word for line in (BEGIN, WAIT, END, "exit 0") for word in ("--setup", line)]
    answer = submit(*GRID, "--cluster", "local", *setup, "--out", tmp_path / "out")
    done = entries(diary)
    assert sorted(done) == sorted(
        f"{name} {word}"
        for name in ("0.0", "1.0", "1.1", "2.0", "2.1")
        for word in ("begins", "ends")
    )
    for first, then in (
        ("0.0 ends", "1.0 begins"), ("0.0 ends", "1.1 begins"), ("1.0 ends", "2.0 begins"),
        ("2.0 begins", "1.1 ends"), ("1.1 ends", "2.1 begins"),
    ):  # fmt: skip
        assert done.index(first) < done.index(then)
    assert answer.code == 1
    assert answer.err.count(": FAILED: ended without a result") == 5
    assert answer.err.splitlines()[-1] == "0 of 5 jobs finished"


def test_one_that_was_stopped_starts_again(submit: Call, diary: Path, tmp_path: Path) -> None:
    """submitit's processes end so when they have left what is to go on; others are over."""
    stop = (
        f'[ $(grep -c "^$SUBMITIT_LOCAL_JOB_ID begins" "$DIARY") -gt 2 ] || {{ {END}; exit 144; }}'
    )
    setup = [word for line in (BEGIN, stop, "exit 3") for word in ("--setup", line)]
    answer = submit(*GRID, "--cluster", "local", *setup, "--out", tmp_path / "out")
    done = entries(diary)
    for name in ("0.0", "1.0", "1.1", "2.0", "2.1"):
        assert (done.count(f"{name} begins"), done.count(f"{name} ends")) == (3, 2)
    assert done.index("1.0 begins") > max(n for n, e in enumerate(done) if e == "0.0 begins")
    assert answer.code == 1 and answer.err.count(": FAILED: ended without a result") == 5
    assert [f"[{n}/5] " in answer.err for n in (0, 1, 5, 6)] == [False, True, True, False]


@dataclass(frozen=True)
class Command:
    """``slurm.submit`` with LONG in a process of its own."""

    process: subprocess.Popen[str]
    out: Path
    mark: str
    """What the environment of its processes has, and that of no other."""

    @property
    def stage(self) -> Path:
        """Folder of the stage that it trains."""
        (found,) = (self.out / "stages").iterdir()
        return found

    def epochs(self) -> int:
        """How many are over."""
        return sum(
            len(path.read_text().splitlines()) for path in self.out.glob(f"stages/*/{PROGRESS}")
        )

    def alive(self) -> set[int]:
        """Its processes, workers and what they started, that have not ended."""
        return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._has(pid)}

    def workers(self) -> set[int]:
        """Those that it has started itself."""
        pid = self.process.pid
        found = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return {worker for worker in found if b"submitit" in _of(worker, "cmdline")}

    def _has(self, pid: int) -> bool:
        return self.mark.encode() in _of(pid, "environ")


def _of(pid: int, what: str) -> bytes:
    """What Linux tells of a process; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """One that has begun to train."""
    if sys.platform != "linux":
        pytest.skip("its processes are looked up in /proc")
    out, mark = tmp_path / "out", uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "slurm.submit", *LONG, "--cluster", "local", "--out", str(out)],
        cwd=REPOSITORY, env=os.environ | {"TEST_MARK": mark}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    made = Command(process, out, mark)
    try:
        wait_for(lambda: made.epochs() or process.poll() is not None)
        assert process.poll() is None, process.communicate()[0]
        yield made
    finally:
        for pid in made.alive():
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_what_is_stopped_is_finished_by_the_same_grid(command: Command, submit: Call) -> None:
    """Being terminated is like Ctrl-C: the workers write their checkpoints and end."""
    (command.stage / CHECKPOINT).unlink(missing_ok=True)
    command.process.send_signal(signal.SIGTERM)
    said, _ = command.process.communicate(timeout=GUARD_SECONDS)
    assert command.process.returncode == 130, said
    assert said.splitlines()[-1] == local.STOPPED
    wait_for(lambda: not command.alive())
    assert (command.stage / CHECKPOINT).exists()
    before = command.epochs()
    assert 0 < before < PRETRAIN_EPOCHS
    answer = submit(*LONG, "--cluster", "debug", "--out", command.out)  # which starts sooner
    assert answer.code == 0, answer.err
    assert re.search(r"^\[1/3\] pretrain, .*: finished$", answer.err, re.MULTILINE)
    assert answer.err.splitlines()[-1] == "3 of 3 jobs finished"


def test_workers_start_again_and_do_not_outlive_a_command_that_is_killed(
    command: Command,
) -> None:
    (first,) = command.workers()
    os.kill(first, signal.SIGUSR2)  # as where a cluster wants its node back
    wait_for(lambda: command.workers() - {first})
    (second,) = command.workers()
    assert b"-0.0\0" in _of(second, "environ"), "the next array begins, the first is given up"
    assert (command.stage / CHECKPOINT).exists()
    before = command.epochs()
    wait_for(lambda: command.epochs() > before)
    assert len(command.alive()) > 2  # the command, its worker, and what trains
    command.process.kill()
    wait_for(lambda: not command.alive())


@pytest.mark.parametrize(("cluster", "function"), [("local", "_side_by_side"), ("debug", "_here")])
def test_ctrl_c_leaves_nothing_that_goes_on(
    submit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, function: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, function, interrupt)
    answer = submit(*GRID, "--cluster", cluster, "--out", tmp_path / "out")
    assert answer.code == 130 and answer.err.splitlines()[-1] == local.STOPPED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_to_be_terminated_is_like_ctrl_c(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), local._ended_as_by_ctrl_c():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
