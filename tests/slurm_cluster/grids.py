"""Grids of the embedded digits suite on a test cluster: submit, look, and break things."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from suites.folders import PROGRESS, job_folder
from tests.slurm_cluster.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
# What a process of torch's takes; nodes of the test cluster claim to have it.
MEMORY = "4G"
TINY = ("--set", "training.pretrain_epochs=1", "--set", "training.steps_per_epoch=4")


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str


class Grid:
    """A grid of runs in ``out``, submitted to ``cluster``."""

    def __init__(self, cluster: Cluster, out: Path, *options: str) -> None:
        """``options``: of suites.run, which say what the grid is."""
        self.cluster, self.out = cluster, out
        self.options = ("digits", *TINY, *options)

    def submit(self, *options: str) -> Answer:
        """``python -m slurm.submit``."""
        here = ("--out", str(self.out), "--gpus-per-node", "0", "--mem", MEMORY)
        return self._call("slurm.submit", *self.options, *here, *options)

    def run_here(self, *options: str) -> Answer:
        """``python -m suites.run``, without the cluster; one thread a run, as there."""
        one_thread = ("--jobs", str(len(os.sched_getaffinity(0))))
        where = ("--out", str(self.out))
        return self._call("suites.run", *self.options, *where, *one_thread, *options)

    def retry(self, *options: str) -> Answer:
        """``python -m slurm.retry``."""
        return self._call("slurm.retry", str(self.out), *options)

    def status(self) -> list[dict[str, Any]]:
        """What ``python -m slurm.status --json`` says of each job."""
        said = self._call("slurm.status", str(self.out), "--json")
        assert said.code in (0, 1), said.err
        found: list[dict[str, Any]] = json.loads(said.out)
        return found

    def states(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(job["state"] for job in self.status())

    def named(self, title: str) -> dict[str, Any]:
        """The job whose title contains ``title``."""
        (found,) = [job for job in self.status() if title in job["title"]]
        return found

    def wait_for(self, *states: str, seconds: float = 150) -> Counter[str]:
        """Wait until all jobs are in one of ``states``; how many are in each then."""

        def settled() -> Counter[str] | None:
            found = self.states()
            if found and set(found) <= set(states):
                return found
            time.sleep(2)  # to ask costs time that the runs could use
            return None

        settled_states = self.cluster.wait(settled, seconds, f"grid that is all {states}")
        assert settled_states is not None
        return settled_states

    def seats(self) -> dict[str, str]:
        """By key, the job or array element ``12_3`` that it was submitted as last."""
        found = {}
        for page in sorted((self.out / "slurm").glob("*.json")):
            for array in json.loads(page.read_text())["arrays"]:
                for index, keys in enumerate(array["elements"]):
                    single = len(array["elements"]) == 1
                    seat = array["job"] if single else f"{array['job']}_{index}"
                    found |= dict.fromkeys(keys, seat)
        return found

    def log_of(self, seat: str) -> str:
        """What the worker of a job or element has said, since it was submitted."""
        return "".join(log.read_text() for log in self.out.glob(f"slurm/logs/*/{seat}_0_log.out"))

    def wait_for_epoch(self, key: str, is_run: bool = True, epochs: int = 1) -> None:
        """Wait until the run is in its midst: so many epochs are over."""
        progress = job_folder(self.out, key, is_run) / PROGRESS
        self.cluster.wait(
            lambda: progress.exists() and len(progress.read_text().splitlines()) >= epochs,
            120,
            f"epoch of {key}",
        )

    def records(self) -> dict[str, dict[str, Any]]:
        """All records by the name of their folder."""
        return {p.parent.name: json.loads(p.read_text()) for p in self.out.glob("*/record.json")}

    def _call(self, module: str, *arguments: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr)


def same_weights(one: Path, other: Path) -> bool:
    """Whether the students of two folders are the same to the bit."""
    ours, theirs = (load_file(folder / "student.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(ours[n].equal(theirs[n]) for n in ours)


def processes_of(folder: Path) -> Iterator[int]:
    """Processes that have the log of the run in ``folder`` open: those that compute it."""
    log = str((folder / "log.txt").resolve())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.resolve()) == log for link in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:  # it has ended, or is another user's
            continue


def task_of(folder: Path) -> int:
    """The task of the cluster that the run in ``folder`` is one of: the parent of its process."""
    (process,) = processes_of(folder)
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])
