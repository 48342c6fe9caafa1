"""The test cluster itself does what other tests rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.folders import remove_orphans

pytestmark = pytest.mark.slurm


def test_an_array_runs_and_is_accounted_for(cluster: Cluster) -> None:
    job = cluster.submit("exit $SLURM_ARRAY_TASK_ID", "--array=0-1", "--job-name=pair")
    cluster.wait(lambda: job not in cluster.unfinished(), 60, "end of the array")
    ended = {row.element: row.state for row in cluster.squeue("--name=pair")}
    assert ended == {"0": "COMPLETED", "1": "FAILED"}

    def booked() -> list[str]:
        form = "--format=JobID,State,ExitCode"
        return cluster.output("sacct", "-nPX", form, "-j", job).split()

    expected = [f"{job}_0|COMPLETED|0:0", f"{job}_1|FAILED|1:0"]
    cluster.wait(lambda: sorted(booked()) == expected, 60, "accounting of the array")


def test_an_array_of_one_element_too_many_is_refused(cluster: Cluster) -> None:
    size = cluster.settings.max_array_size
    cluster.submit("true", f"--array=0-{size - 1}")
    with pytest.raises(RuntimeError, match="Invalid job array specification"):
        cluster.submit("true", f"--array=0-{size}")


def test_two_jobs_on_a_node_have_different_gpus(cluster: Cluster, tmp_path: Path) -> None:
    script = f"echo $CUDA_VISIBLE_DEVICES > {tmp_path}/$SLURM_ARRAY_TASK_ID; sleep 1000"
    cluster.submit(script, "--array=0-2", "--gpus=1", "--nodelist=n1", "--job-name=gpu")
    cluster.wait(lambda: len(_numbers(tmp_path)) == 2, 60, "two jobs with a GPU")
    assert sorted(_numbers(tmp_path)) == ["0", "1"]
    states = sorted(row.state for row in cluster.squeue("--name=gpu", "--states=PD,R"))
    assert states == ["PENDING", "RUNNING", "RUNNING"]  # the node has two


def _numbers(folder: Path) -> list[str]:
    return [text for file in folder.iterdir() if (text := file.read_text().strip())]


def test_a_preempted_job_is_told_so_and_runs_again(cluster: Cluster, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    task = tmp_path / "task"
    # It does nothing about it: when its time of grace is over, SLURM ends it.
    task.write_text(
        f"trap 'echo told >> {notes}' USR2\necho started >> {notes}\n"
        "while true; do sleep 0.1; done\n"
    )
    one_node = ("--nodelist=n2", "--exclusive")
    told_early = ("--partition=low", "--signal=USR2@30", "--requeue")
    low = cluster.submit(f"srun bash {task}", *told_early, *one_node)
    cluster.wait(notes.exists, 60, "start of the job")
    high = cluster.submit("true", "--partition=high", *one_node)
    cluster.wait_for(high, "COMPLETED")
    cluster.wait(lambda: notes.read_text().count("started") == 2, 60, "second start")
    assert notes.read_text().split() == ["started", "told", "started"]
    assert cluster.job(low)["Restarts"] == "1"


def test_jobs_do_not_outlive_a_cleared_cluster(cluster: Cluster, tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while true; do sleep 0.1; done"
    cluster.submit(script, "--nodelist=n3")
    cluster.wait(lambda: _numbers(tmp_path), 60, "start of the job")
    (pid,) = _numbers(tmp_path)
    cluster.kill_slurmd("n3")
    cluster.node_down("n3")
    cluster.clear()
    assert cluster.unfinished() == [] and cluster.ready()
    assert _ended(pid)


def test_a_killed_process_leaves_a_cluster_that_the_next_one_removes(
    cluster: Cluster, tmp_path: Path
) -> None:
    code = f"""
from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.config import Settings
cluster = Cluster(Settings(nodes=1, accounting="none"))
cluster.start()
cluster.submit("echo $$ > {tmp_path}/pid; sleep 1000")
print(cluster.folder, flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    cluster.wait(lambda: _numbers(tmp_path), 60, "start of the job")
    (pid,) = _numbers(tmp_path)
    daemon = (folder / "slurmctld.pid").read_text().strip()
    remove_orphans()
    assert folder.exists() and not _ended(pid)  # its owner lives
    process.kill()
    process.communicate()
    cluster.wait(lambda: _ended(daemon), 60, "end of slurmctld")
    remove_orphans()
    cluster.wait(lambda: not folder.exists() and _ended(pid), 60, "end of the job")


def _ended(pid: str) -> bool:
    """Whether a process ended; what nobody waited for yet is still there by name."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()
