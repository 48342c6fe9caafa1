"""``slurm.submit``: what it hands in, and what it does not hand in twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slurm import ledger
from suites.planned import PLANS
from suites.planning import Planned, planned
from tests.slurm.conftest import GRID
from tests.slurm.factory import finish, train
from tests.slurm.fake import NEVER, FakeCluster
from tests.suites.conftest import Call

INVALID = (
    "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
    "Batch job submission failed: Invalid partition name specified",
)
TOO_MANY = (
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job "
    "violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
    "AssocMaxSubmitJobLimit; Batch job submission failed: Job violates accounting/QOS policy",
)


OPTIONS = (
    "--partition", "long", "--account", "me", "--qos", "high", "--time", "8:00:00",
    "--gpus-per-node", "0", "--cpus-per-task", "4", "--mem", "16GB", "--constraint", "avx512",
    "--array-parallelism", "1", "--runs-per-job", "1", "--setup", "module load python",
    "--setup", "ulimit -n 4096",
)  # fmt: skip


def names(cluster: FakeCluster) -> list[str]:
    """Of the arrays that sbatch took."""
    return [option(script, "job-name") or "" for script in cluster.scripts]


def option(script: str, name: str) -> str | None:
    """What ``script`` asks sbatch for by ``--name``."""
    found = re.search(rf"^#SBATCH --{name}(?:=(.*))?$", script, re.MULTILINE)
    return None if found is None else found[1] or ""


def plans(out: Path) -> list[Path]:
    """Those that tables would count as missing."""
    return list((out / PLANS).glob("*"))


def test_an_array_for_each_level(submit: Call, cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = submit(*GRID, *OPTIONS, "--out", out)
    assert answer.code == 0, answer.err
    stage, middle, last = cluster.scripts
    assert [option(script, "array") for script in cluster.scripts] == [None, "0-1%1", "0-1%1"]
    assert option(stage, "dependency") is None
    assert option(middle, "dependency") == "afterany:101"
    assert option(last, "dependency") == "afterany:102"
    for script in cluster.scripts:
        given = {
            "partition": "long", "account": "me", "qos": "high", "time": "480", "mem": "16GB",
            "cpus-per-task": "4", "constraint": "avx512", "nodes": "1", "ntasks-per-node": "1",
            "requeue": "", "gpus-per-node": None, "signal": "USR2@120",
        }  # fmt: skip
        assert {name: option(script, name) for name in given} == given
        assert "\nmodule load python\nulimit -n 4096\nexport PYTHONPATH=" in script
        (line,) = [line for line in script.splitlines() if line.startswith("srun ")]
        assert " --cpus-per-task=4 " in line and str(out / "slurm" / "logs") in line
    (page,) = ledger.read(out)
    assert [array.job for array in page.arrays] == ["101", "102", "103"]
    assert [array.name for array in page.arrays] == names(cluster)
    assert len(list((out / "slurm" / "logs").rglob("*_submitted.pkl"))) == 5
    assert answer.err.splitlines()[-1] == f"follow it: python -m slurm.status {out} --watch"


def test_twice_submits_only_what_is_neither_finished_nor_queued(
    submit: Call, status: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert submit(*GRID, "--out", out).code == 0
    assert "queued" in status(out).out
    answer = submit(*GRID, "--out", out)
    assert answer.code == 0 and len(cluster.scripts) == 3
    assert "5 jobs wait or run already\nnothing to submit\n" in answer.err
    # One stage is over, another was cancelled; what needs it waits all the same.
    (page,) = ledger.read(out)
    finish(out, page.arrays[0].elements[0][0], is_run=False)
    cancelled = f"{page.arrays[1].name}|102|1|"
    left = [line for line in cluster.queue.splitlines(keepends=True) if cancelled not in line]
    cluster.says("squeue", "".join(left[1:]))
    answer = submit(*GRID, "--out", out)
    assert answer.code == 0 and "3 jobs wait or run already" in answer.err
    assert len(cluster.scripts) == 4
    (held,) = ledger.read(out)[-1].arrays
    assert held.elements == (page.arrays[1].elements[1],)
    assert option(cluster.scripts[-1], "dependency") is None


def test_more_runs_wait_for_stages_that_are_queued(
    submit: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    submit(*GRID, "--out", out)
    more = [word if word != "0.5" else "0.5,0.75" for word in GRID]
    assert submit(*more, "--out", out).code == 0
    (script,) = cluster.scripts[3:]
    assert option(script, "array") is None  # one run more
    assert option(script, "dependency") == "afterany:102"


def test_what_the_command_did_not_live_to_write_is_waited_for(
    submit: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    """It died between sbatch's answer and the ledger; squeue knows the number."""
    out = tmp_path / "out"
    submit(*GRID, "--out", out)
    (page,) = ledger.read(out)
    first = page.arrays[0].model_copy(update={"job": None})
    ledger.write(page.model_copy(update={"arrays": (first,)}))
    cluster.says("squeue", cluster.queue.splitlines(keepends=True)[0])
    assert submit(*GRID, "--out", out).code == 0
    dependencies = [option(script, "dependency") for script in cluster.scripts[3:]]
    assert dependencies == ["afterany:101", "afterany:104"]


def test_arrays_are_no_larger_than_the_cluster_takes(
    submit: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.says("scontrol", "MaxArraySize            = 1\n")
    assert submit(*GRID, "--out", tmp_path / "out").code == 0
    assert [option(script, "array") for script in cluster.scripts] == [None] * 5
    assert [option(script, "dependency") for script in cluster.scripts] == [
        None, "afterany:101", "afterany:101", "afterany:102", "afterany:103",
    ]  # fmt: skip


def test_runs_are_packed(submit: Call, cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert submit(*GRID, "--runs-per-job", "2", "--out", out).code == 0
    (page,) = ledger.read(out)
    assert [len(keys) for array in page.arrays for keys in array.elements] == [1, 2, 2]
    assert option(cluster.scripts[1], "cpus-per-task") == "2"
    assert page.places["threads"] == 1


@pytest.mark.parametrize(("said", "told"), [INVALID, TOO_MANY])
def test_what_sbatch_refuses_is_submitted_by_the_same_command(
    submit: Call, status: Call, cluster: FakeCluster, tmp_path: Path, said: str, told: str
) -> None:
    out = tmp_path / "out"
    cluster.refuses(2, said)
    answer = submit(*GRID, "--out", out)
    assert answer.code == 2
    last = answer.err.splitlines()[-1]
    assert last.startswith("slurm.submit: sbatch refused itmc-digits-") and told in last
    assert "1 array before it are submitted; submit again for the rest" in last
    assert "Traceback" not in answer.err
    assert len(plans(out)) == 1  # the rest of it is missing, and known to be
    (page,) = ledger.read(out)
    assert [array.job for array in page.arrays] == ["101", None]
    assert status(out, "--all").out.count("was not submitted") == 4
    cluster.refuses(NEVER, "")
    answer = submit(*GRID, "--out", out)
    assert answer.code == 0 and "1 jobs wait or run already" in answer.err
    assert [option(script, "dependency") for script in cluster.scripts] == [
        None, "afterany:101", "afterany:103",
    ]  # fmt: skip
    assert status(out).code == 0


@pytest.mark.parametrize(("said", "told"), [INVALID, TOO_MANY])
def test_where_the_first_array_is_refused_nothing_is_left(
    submit: Call, cluster: FakeCluster, tmp_path: Path, said: str, told: str
) -> None:
    out = tmp_path / "out"
    cluster.refuses(1, said)
    answer = submit(*GRID, "--out", out)
    assert answer.code == 2
    last = answer.err.splitlines()[-1]
    assert last.startswith("slurm.submit: sbatch refused itmc-digits-") and told in last
    assert last.endswith(". Nothing is submitted; correct it and submit again")
    assert ledger.read(out) == [] and plans(out) == []
    cluster.refuses(NEVER, "")
    assert submit(*GRID, "--out", out).code == 0
    assert len(ledger.read(out)) == 1 and len(cluster.scripts) == 3 and len(plans(out)) == 1


def test_the_code_is_that_of_the_beginning(
    submit: Call, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is changed while a grid is planned is not what was planned."""
    order: list[str] = []

    def version() -> dict[str, str]:
        order.append("code")
        return {"itmc/errors.py": f"look {len(order)}"}

    def plan(*words: Any) -> Planned:
        order.append("plan")
        return planned(*words)

    monkeypatch.setattr("slurm.code.code_version", version)
    monkeypatch.setattr("slurm.submit.planned", plan)
    assert submit(*GRID, "--out", tmp_path / "out").code == 0
    assert order == ["code", "plan"]
    (written,) = (tmp_path / "out" / "slurm" / "logs").glob("*/code.json")
    assert json.loads(written.read_bytes()) == {"itmc/errors.py": "look 1"}


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_batch_that_cannot_be_parted_is_refused(
    submit: Call, cluster: FakeCluster, tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    batch = ("--set", "training.batch_size=32", "--out", out)
    answer = submit(*GRID, "--nodes", "3", *words, *batch)
    assert answer.code == 2 and cluster.scripts == []
    assert answer.err.splitlines()[-1].startswith(
        "slurm.submit: training.batch_size 32 cannot be parted evenly between 3 processes"
    )
    assert ledger.read(out) == [] and plans(out) == []
    assert submit(*GRID, "--nodes", "4", *words, *batch).code == 0
    assert len(plans(out)) == (not words)


@pytest.mark.usefixtures("cluster")
def test_what_is_finished_is_not_judged_any_more(
    submit: Call, tmp_path: Path, asked: Planned
) -> None:
    (run,) = (job for job in asked.plan.runs if job.run.method == "kd")
    out = asked.places.out
    finish(out, run.key)
    train(out, run.key, 2, 1.0)
    answer = submit(*GRID, "--judge-teacher", "--out", out)
    said = "note: 1 finished run was not judged with their teacher; delete them or choose"
    assert answer.code == 0 and said in answer.err


def test_the_names_of_arrays_part_no_list(
    submit: Call, status: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine, of|all.yaml").write_text("extends: digits\n")
    out = tmp_path / "out"
    assert submit(tmp_path / "mine, of|all.yaml", *GRID[1:], "--out", out).code == 0
    assert all(re.fullmatch(r"itmc-mine--of-all-[-0-9a-f]+", name) for name in names(cluster))
    assert status(out).code == 0


def test_options_of_sbatch_in_the_cluster_file(
    submit: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("sbatch: {requeue: false, exclude: node7, hold: true}\n")
    file = tmp_path / "c.yaml"
    assert submit(*GRID, "--cluster-file", file, "--out", tmp_path / "out").code == 0
    script = cluster.scripts[0]
    assert (option(script, "exclude"), option(script, "hold")) == ("node7", "")
    assert option(script, "requeue") is None


def test_a_dry_run_shows_all_and_writes_nothing(
    submit: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = submit(*GRID, *OPTIONS, "--dry-run", "--out", out)
    assert answer.code == 0, answer.err
    levels = [line for line in answer.out.splitlines() if line.startswith("level ")]
    assert [
        re.sub(r"itmc-digits-\d{8}-\d{6}-\d{6}-[0-9a-f]{4}", "NAME", line) for line in levels
    ] == [
        "level 0, NAME-0: 1 job with 1 stage",
        "level 1, NAME-1: 2 jobs with 2 stages, after NAME-0",
        "level 2, NAME-2: 2 jobs with 2 runs, after NAME-1",
    ]
    assert re.search(r"^about \S+ core-hours; ", answer.out, re.MULTILINE)
    assert "estimated with 0.03 TFLOP/s a run, assumed until" in answer.out
    assert "#SBATCH --partition=long\n" in answer.out and "\nsrun " in answer.out
    assert not out.exists() and cluster.scripts == []


@pytest.mark.usefixtures("no_cluster")
def test_without_a_cluster_a_dry_run_only_notes_it(submit: Call, tmp_path: Path) -> None:
    answer = submit(*GRID, "--dry-run", "--out", tmp_path / "out")
    assert answer.code == 0
    assert "note: there is no scontrol here" in answer.err and "#SBATCH" in answer.out
    answer = submit(*GRID, "--out", tmp_path / "out")
    assert answer.code == 2
    assert answer.err.splitlines()[-1] == (
        "slurm.submit: there is no scontrol here: this is no machine of a SLURM cluster; choose "
        "--cluster local to run on this machine"
    )
    assert plans(tmp_path / "out") == []


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--gpus-per-node", "1"), "--device cpu and 1 GPUs a node contradict one another"),
        (("--time", "soon"), "--time 'soon'"),
        (("--cluster", "cloud"), "'cloud'"),
        (("--cluster", "local", "--nodes", "2"), "--nodes 2: this machine is one node"),
        (("--cluster", "local", "--device", "cuda"), "--device cuda: this machine has 0 GPUs"),
        (
            ("--cluster", "local", "--device", "auto", "--gpus-per-node", "2"),
            "--gpus-per-node 2: this machine has 0 GPUs",
        ),
        (("--methods", "none_such"), "none_such"),
        (("--cluster-file", "none_such"), "allowed: cpu, gpu"),
        (("--unknown", "1"), "unrecognized arguments: --unknown 1"),
    ],
)
def test_wrong_usage_is_one_line(
    submit: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    answer = submit(*GRID, *words, "--out", tmp_path / "out")
    assert answer.code == 2 and named in answer.err
    assert answer.err.count("\n") == 1 and answer.err.startswith("slurm.submit: ")
    assert not (tmp_path / "out").exists()
