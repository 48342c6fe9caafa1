"""What clusters do to jobs: each ends in a finished run, or in a failure that is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.grids import Grid, processes_of

pytestmark = pytest.mark.slurm

# What befalls the run of each compression.
KILLED, TASK_KILLED, CANCELLED, CANCELLED_BEFORE = "0.3", "0.4", "0.5", "0.6"
REQUEUED, TERMINATED, TOLD, NODE_DOWN = "0.65", "0.7", "0.75", "0.8"
FAILING = "mcc"


def test_each_fault_ends_in_a_finished_run_or_in_a_named_failure(
    cluster: Cluster, tmp_path: Path
) -> None:
    compressions = (
        *(KILLED, TASK_KILLED, CANCELLED, CANCELLED_BEFORE),
        *(REQUEUED, TERMINATED, TOLD, NODE_DOWN),
    )
    grid = Grid(
        cluster, tmp_path / "out", "--methods", f"dan_student,{FAILING}", "--tasks", "hand->print",
        "--compression", ",".join(compressions), "--epochs", "8", "--set", f"{FAILING}.weight=1e38",
    )  # fmt: skip
    submitted = grid.submit("--time", "60")
    assert submitted.code == 0, submitted.err
    key = {c: grid.named(f"dan_student hand->print c={c} ")["key"] for c in compressions}
    seat = {c: grid.seats()[key[c]] for c in compressions}
    cluster.cancel(seat[CANCELLED_BEFORE])  # it waits for the shared stage
    running = [c for c in compressions if c != CANCELLED_BEFORE]
    for c in running:
        grid.wait_for_epoch(key[c])

    for pid in processes_of(grid.out / key[KILLED]):
        os.kill(pid, signal.SIGKILL)
    os.kill(task_of(grid.out / key[TASK_KILLED]), signal.SIGKILL)
    cluster.cancel(seat[CANCELLED])
    cluster.signal(seat[TERMINATED], "TERM")
    cluster.signal(seat[TOLD], "USR2")
    cluster.requeue(seat[REQUEUED])
    cluster.node_down(cluster.job(seat[NODE_DOWN])["NodeList"])

    grid.wait_for("done", "failed", "missing")
    told = {c: grid.named(f"dan_student hand->print c={c} ") for c in compressions}
    for c in (REQUEUED, TERMINATED, TOLD, NODE_DOWN):
        assert told[c]["state"] == "done", told[c]
    assert told[CANCELLED_BEFORE]["state"] == "missing"
    assert told[CANCELLED_BEFORE]["reason"] == "cancelled before it started"
    for c, reason in (
        (KILLED, "the process was killed by SIGKILL (out of memory?)"),
        (TASK_KILLED, "ended without a result: killed, or its node died"),
        (CANCELLED, "cancelled while it ran"),
    ):
        assert told[c]["state"] == "failed" and told[c]["reason"].startswith(reason), told[c]
    stage, run = grid.named(f"adapt by {FAILING}"), grid.named(f"{FAILING} hand->print seed 0")
    assert stage["state"] == run["state"] == "failed"
    assert "lower the learning rate" in stage["reason"]
    assert run["reason"].startswith("needs a failed adapt by mcc")

    only_missing = grid.retry("--missing")
    assert "1 job with 1 run" in only_missing.err
    assert only_missing.err.count("level ") == 1
    grid.wait_for("done", "failed")
    the_failed = grid.retry("--failed", "--runs-per-job", "4")
    assert the_failed.code == 0, the_failed.err
    states = grid.wait_for("done", "failed")
    assert states == {"done": 1 + len(compressions), "failed": 2}

    undisturbed = tmp_path / "undisturbed"
    compared = f"{KILLED},{REQUEUED},{TOLD},{NODE_DOWN}"
    done = grid.run_here(undisturbed, "--methods", "dan_student", "--compression", compared)
    assert done.code == 2 and FAILING in done.err  # whose --set would be in vain
