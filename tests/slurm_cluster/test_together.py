"""One run on two nodes: by submitit's helper its processes find one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from itmc.networks.spec import load_network
from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.grids import Grid

pytestmark = pytest.mark.slurm


def test_two_nodes_train_one_run_and_are_stopped_together(cluster: Cluster, tmp_path: Path) -> None:
    grid = Grid(
        cluster, tmp_path / "out", "--tasks", "hand->print", "--methods", "dan_student",
        "--epochs", "6", "--set", "training.steps_per_epoch=12",
    )  # fmt: skip
    # The names of the test cluster's nodes mean nothing to this machine.
    submitted = grid.submit("--nodes", "2", "--setup", "export MASTER_ADDR=127.0.0.1")
    assert submitted.code == 0, submitted.err
    key = grid.named("dan_student")["key"]
    seat = grid.seats()[key]
    grid.wait_for_epoch(key, epochs=2)
    assert cluster.job(seat)["NumNodes"] == "2"
    cluster.signal(seat, "USR2")
    cluster.wait(lambda: cluster.job(seat)["Restarts"] == "1", 60, "second start")
    grid.wait_for("done")
    assert "stopped at its last checkpoint" in grid.log_of(seat)
    record = grid.records()[key]
    assert record["environment"]["processes"] == 2
    assert 0.74 <= record["compression"]["reached"] <= 0.76
    network, _ = load_network(grid.out / key)
    assert sum(p.numel() for p in network.parameters()) == record["cost"]["student"]["parameters"]
