"""What clusters do to jobs: each ends in a finished run, or in a failure that is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.grids import MEMORY, Grid, processes_of, same_weights, task_of

pytestmark = pytest.mark.slurm

FAILING = "mcc"
# By what befalls it, the compression of a run.
KILLED, TASK_KILLED, CANCELLED, CANCELLED_BEFORE = "0.3", "0.4", "0.5", "0.6"
REQUEUED, TERMINATED, TOLD, NODE_DOWN = "0.65", "0.7", "0.75", "0.8"
HIT = (KILLED, TASK_KILLED, CANCELLED, REQUEUED, TERMINATED, TOLD, NODE_DOWN)
OPTIONS = ("--tasks", "hand->print", "--epochs", "8")


def test_each_fault_ends_in_a_finished_run_or_in_a_named_failure(
    cluster: Cluster, tmp_path: Path
) -> None:
    methods = ("--methods", f"dan_student,{FAILING}", "--set", f"{FAILING}.weight=1e38")
    all_of_them = ",".join((CANCELLED_BEFORE, *HIT))
    grid = Grid(cluster, tmp_path / "out", *OPTIONS, *methods, "--compression", all_of_them)
    submitted = grid.submit()
    assert submitted.code == 0, submitted.err
    key = {c: grid.named(_title(c))["key"] for c in (CANCELLED_BEFORE, *HIT)}
    _let_it_all_happen(grid, cluster, key)

    grid.wait_for("done", "failed", "missing")
    for c in (REQUEUED, TERMINATED, TOLD, NODE_DOWN):
        assert grid.named(_title(c))["state"] == "done", grid.named(_title(c))
    assert _told(grid, CANCELLED_BEFORE) == "missing: cancelled before it started"
    assert _told(grid, KILLED) == "failed: the process was killed by SIGKILL (out of memory?)"
    assert _told(grid, TASK_KILLED).startswith("failed: ended without a result")
    assert _told(grid, CANCELLED).startswith("failed: cancelled while it ran")
    stage, run = grid.named(f"adapt by {FAILING}"), grid.named(f"{FAILING} hand->print seed 0")
    assert stage["state"] == run["state"] == "failed"
    assert "lower the learning rate" in stage["reason"]
    assert run["reason"] == f"needs a failed {stage['title']}: {stage['reason']}"

    only_missing = grid.retry("--missing")
    assert only_missing.err.count("level ") == 1 and "1 job with 1 run" in only_missing.err
    grid.wait_for("done", "failed")
    rest = grid.retry("--failed", "--runs-per-job", "4")
    assert rest.code == 0, rest.err
    assert grid.wait_for("done", "failed") == {"done": 2 + len(HIT), "failed": 2}

    undisturbed = Grid(cluster, tmp_path / "undisturbed", *OPTIONS, "--methods", "dan_student")
    compared = (KILLED, REQUEUED, TOLD, NODE_DOWN)
    assert undisturbed.run_here("--compression", ",".join(compared)).code == 0
    for c in compared:
        assert same_weights(grid.out / key[c], undisturbed.out / key[c]), c


def _let_it_all_happen(grid: Grid, cluster: Cluster, key: dict[str, str]) -> None:
    """Each run in its midst, but for one that still waits for its stage."""
    seat = {c: grid.seats()[key[c]] for c in key}
    cluster.cancel(seat[CANCELLED_BEFORE])
    for c in HIT:
        grid.wait_for_epoch(key[c])
    for pid in processes_of(grid.out / key[KILLED]):
        os.kill(pid, signal.SIGKILL)
    os.kill(task_of(grid.out / key[TASK_KILLED]), signal.SIGKILL)
    cluster.cancel(seat[CANCELLED])
    cluster.signal(seat[TERMINATED], "TERM")
    cluster.signal(seat[TOLD], "USR2")
    cluster.requeue(seat[REQUEUED])
    cluster.node_down(cluster.job(seat[NODE_DOWN])["NodeList"])


def test_what_runs_out_of_memory_says_so_and_gets_more(cluster: Cluster, tmp_path: Path) -> None:
    grid = Grid(
        cluster, tmp_path / "out", "--tasks", "hand->print", "--methods", "dan_student",
        "--epochs", "1",
    )  # fmt: skip
    assert grid.submit("--mem", "200M").code == 0
    assert grid.wait_for("failed") == {"failed": 2}
    for job in grid.status():
        # The run is killed too, unless it has seen by then that its stage is missing.
        is_early = job["is_run"] and job["reason"].startswith("needs pretrain")
        killed = job["reason"].startswith("killed for want of memory; give it more with --mem")
        assert killed or is_early
    again = grid.retry("--failed", "--mem", MEMORY)
    assert again.code == 0 and again.err.count("level ") == 2
    assert grid.wait_for("done", "failed") == {"done": 2}


def test_a_preempted_run_goes_on_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    """Two of them in one job, which a job of higher priority takes the node from."""
    options = (*OPTIONS, "--methods", "itmc", "--seeds", "0,1", "--set", "itmc.teacher_lead=0")
    grid = Grid(cluster, tmp_path / "out", *options)
    assert grid.submit("--partition", "low", "--runs-per-job", "2").code == 0
    keys = [job["key"] for job in grid.status() if job["is_run"]]
    for key in keys:
        grid.wait_for_epoch(key, epochs=2)
    seat = grid.seats()[keys[0]]
    node = cluster.job(seat)["NodeList"]
    cluster.submit("sleep 1", "--partition=high", "--exclusive", f"--nodelist={node}")
    cluster.wait(lambda: cluster.job(seat)["Restarts"] == "1", 60, "second start")
    grid.wait_for("done")
    assert grid.log_of(seat).count("stopped at its last checkpoint") == len(keys)

    undisturbed = Grid(cluster, tmp_path / "undisturbed", *options)
    assert undisturbed.run_here().code == 0
    for key in keys:
        assert same_weights(grid.out / key, undisturbed.out / key)


def test_two_copies_of_a_run_never_work_together(
    cluster_without_accounting: Cluster, tmp_path: Path
) -> None:
    """A node is lost whose task lives on; its job starts elsewhere, and waits for it there.

    Without sacct, and beside a run that is killed: both are told right.
    """
    cluster = cluster_without_accounting
    grid = Grid(
        cluster, tmp_path / "out", "--tasks", "hand->print", "--methods", "dan_student",
        "--compression", f"{KILLED},{NODE_DOWN}", "--epochs", "40",
    )  # fmt: skip
    assert grid.submit("--cpus-per-task", "4").code == 0  # a node each
    killed, lost = (grid.named(_title(c))["key"] for c in (KILLED, NODE_DOWN))
    for key in (killed, lost):
        grid.wait_for_epoch(key)
    seat = grid.seats()[lost]
    process = task_of(grid.out / lost)
    os.kill(task_of(grid.out / killed), signal.SIGKILL)
    cluster.kill_slurmd(cluster.job(seat)["NodeList"])
    cluster.wait(lambda: cluster.job(seat)["Restarts"] == "1", 120, "second start")
    assert Path(f"/proc/{process}").exists()
    cluster.wait(lambda: "waiting for another process" in grid.log_of(seat), 60, "second copy")
    assert _told(grid, KILLED).startswith("failed: ended without a result")
    assert grid.wait_for("done", "failed") == {"done": 2, "failed": 1}


def _title(compression: str) -> str:
    return f"dan_student hand->print c={compression} "


def _told(grid: Grid, compression: str) -> str:
    job = grid.named(_title(compression))
    return f"{job['state']}: {job['reason']}"
