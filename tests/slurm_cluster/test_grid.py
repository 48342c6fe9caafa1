"""A grid of two levels on a real cluster: submitted, followed, and as it would be without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.grids import Grid, same_weights

pytestmark = pytest.mark.slurm

# 2 methods on 3 tasks at 2 compressions with 2 seeds, each task and seed from one stage.
GRID = ("--methods", "dan_student,cdan_student", "--seeds", "0,1", "--compression", "0.5,0.75")
RUNS, STAGES = 24, 6


def test_a_grid_of_two_levels(cluster: Cluster, tmp_path: Path) -> None:
    """Four runs to a job, submitted twice, followed to its end; then it is as it is elsewhere."""
    grid = Grid(cluster, tmp_path / "out", *GRID, "--epochs", "1")
    first = grid.submit("--runs-per-job", "4")
    assert first.code == 0, first.err
    assert _arrays(first.err) == [("0", "2", "6 stages"), ("1", "6", "24 runs")]

    again = grid.submit("--runs-per-job", "4")
    assert again.code == 0 and "jobs wait or run already\nnothing to submit" in again.err
    assert len(cluster.unfinished()) <= 2  # arrays: the second command added none

    assert sum(grid.states().values()) == RUNS + STAGES
    grid.wait_for("done")
    assert {job["level"] for job in grid.status()} == {0, 1}

    found = grid.records()
    assert len(found) == RUNS
    assert all((grid.out / key / "log.txt").exists() for key in found)
    assert "nothing to submit" in grid.submit("--runs-per-job", "4").err

    elsewhere = Grid(cluster, tmp_path / "elsewhere", *GRID, "--epochs", "1")
    assert elsewhere.run_here("--tasks", "print->hand", "--seeds", "1").code == 0
    compared = elsewhere.records()
    assert len(compared) == 4
    for key, record in compared.items():
        assert same_weights(grid.out / key, elsewhere.out / key)
        assert found[key]["accuracy"] == record["accuracy"]
        assert found[key]["scores"] == record["scores"]


def test_long_arrays_are_split_and_what_is_cancelled_is_missing(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The cluster takes 13 elements in an array; held back, none of them ever starts."""
    grid = Grid(cluster, tmp_path / "out", *GRID, "--epochs", "1")
    held = tmp_path / "held.yaml"
    held.write_text("sbatch: {hold: true}\n")
    submitted = grid.submit("--cluster-file", str(held))
    assert submitted.code == 0, submitted.err
    assert [jobs for _, jobs, _ in _arrays(submitted.err)] == ["6", "13", "11"]
    assert grid.states() == {"queued": RUNS + STAGES}
    stages, *runs = sorted({seat.partition("_")[0] for seat in grid.seats().values()}, key=int)
    for job in runs:
        assert f"afterany:{stages}" in cluster.job(f"{job}_0")["Dependency"]

    cluster.cancel(stages)
    cluster.wait(lambda: grid.states()["missing"] == STAGES, 60, "end of the stages")
    assert grid.retry("--missing").code == 0
    again = grid.seats()[next(job["key"] for job in grid.status() if not job["is_run"])]
    for job in runs:  # which waited for the stages, and still do
        assert f"afterany:{again.partition('_')[0]}" in cluster.job(f"{job}_0")["Dependency"]

    cluster.cancel(*cluster.unfinished())
    cluster.wait(lambda: not cluster.unfinished(), 60, "end of all jobs")
    assert grid.states() == {"missing": RUNS + STAGES}
    assert {job["reason"] for job in grid.status()} == {"cancelled before it started"}
    assert "nothing is failed" in grid.retry("--failed").out
    shown = grid.retry("--missing", "--dry-run")
    assert [jobs for _, jobs, _ in _arrays(shown.out)] == ["6", "13", "11"]
    assert cluster.unfinished() == []


def _arrays(said: str) -> list[tuple[str, str, str]]:
    """Level, elements and content of each array, as the commands print them."""
    return re.findall(r"level (\d+), \S+: (\d+) jobs? with ([^,:\n]+)", said)
