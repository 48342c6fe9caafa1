"""What has become of each job: from the ledger, the scheduler and the folders together."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from slurm.ledger import Array, Entry, Submission, process_start
from slurm.states import Standing, standings
from suites.folders import LEASE, PROGRESS, job_folder
from tests.slurm.factory import (
    AFTER,
    BEFORE,
    SUBMITTED,
    array,
    entry,
    fail,
    finish,
    log,
    page,
    train,
)
from tests.slurm.fake import FakeCluster

MEMORY = "slurmstepd: error: Exceeded job memory limit"


def one(out: Path, held: Array | None, *, keys: tuple[str, ...] = ("k",)) -> list[Standing]:
    """The standings of a page with ``keys`` in ``held``."""
    made = page(out, [entry(key) for key in keys], *([held] if held else []))
    return standings(out, [made])


def told(found: list[Standing]) -> list[tuple[str, str]]:
    return [(standing.state, standing.reason) for standing in found]


def test_what_is_finished_is_done_whatever_else_is_said(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.says("squeue", "a|7|N/A|PENDING|Priority\n")
    finish(tmp_path, "k")
    fail(tmp_path, "k", "too early", AFTER)
    (found,) = one(tmp_path, array("a", ["k"]))
    assert (found.state, found.reason, found.array) == ("done", "", None)
    assert found.epochs == found.entry.epochs == 10  # whatever of its progress is still there


def test_a_finished_stage_has_another_file(cluster: FakeCluster, tmp_path: Path) -> None:
    finish(tmp_path, "stage", is_run=False)
    entries = [entry("stage", is_run=False), entry("run", ["stage"])]
    found = standings(tmp_path, [page(tmp_path, entries, array("a", ["stage"]))])
    assert [(s.state, s.level) for s in found] == [("done", 0), ("missing", 1)]


def test_what_runs_tells_its_epochs(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.says("squeue", "a|7|0|RUNNING|None\na|7|1|COMPLETING|None\n")
    train(tmp_path, "k", epochs=3, seconds=2.0)
    first, second = one(tmp_path, array("a", ["k"], ["l"]), keys=("k", "l"))
    assert (first.state, first.epochs, first.seconds) == ("running", 3, 6.0)
    assert (first.array, first.number) == ("a", "7")
    assert (second.state, second.epochs, second.seconds) == ("running", 0, 0.0)


def test_an_epoch_whose_line_is_only_begun_is_not_counted(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.says("squeue", "a|7|0|RUNNING|None\n")
    train(tmp_path, "k", epochs=3, seconds=2.0)
    path = job_folder(tmp_path, "k", is_run=True) / PROGRESS
    path.write_bytes(path.read_bytes()[:-10])
    (found,) = one(tmp_path, array("a", ["k"]))
    assert (found.epochs, found.seconds) == (2, 4.0)


def test_what_waits_tells_why(cluster: FakeCluster, tmp_path: Path) -> None:
    """Also where it has trained before, and waits to start again."""
    cluster.says("squeue", "a|7|N/A|PENDING|Resources\n")
    train(tmp_path, "k", epochs=3, seconds=2.0)
    (found,) = one(tmp_path, array("a", ["k"]))
    assert (found.state, found.reason, found.array) == ("queued", "Resources", "a")


def test_a_failure_counts_from_the_submission_on(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.says("squeue", "a|7|0|RUNNING|None\na|7|1|RUNNING|None\na|7|2|RUNNING|None\n")
    for key, time in (("k", AFTER), ("l", SUBMITTED), ("m", BEFORE)):
        fail(tmp_path, key, f"reason of {key}", time)
    found = one(tmp_path, array("a", ["k"], ["l"], ["m"]), keys=("k", "l", "m"))
    assert told(found) == [("failed", "reason of k"), ("failed", "reason of l"), ("running", "")]


def test_packed_jobs_have_a_fate_each(cluster: FakeCluster, tmp_path: Path) -> None:
    keys = ("k", "l", "m")
    finish(tmp_path, "k")
    fail(tmp_path, "l", "NaN", AFTER)
    train(tmp_path, "m", 2, 1.0)
    held = array("a", keys)
    cluster.says("squeue", "a|7|N/A|RUNNING|None\n")
    found = one(tmp_path, held, keys=keys)
    assert [s.state for s in found] == ["done", "failed", "running"]
    assert [s.is_in_hand for s in found] == [False, False, True]
    cluster.says("squeue", "")
    cluster.says("sacct", "7|NODE_FAIL|0:0\n")
    log(tmp_path, "7", "")
    found = one(tmp_path, held, keys=keys)
    assert [s.state for s in found] == ["done", "failed", "failed"]
    assert found[1].reason == "NaN" and found[2].reason.startswith("its node failed (")


def test_what_was_cancelled_while_it_waited_is_missing(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    """SLURM 22.05 forgets it at once; others remember."""
    held = array("a", ["k"])
    assert told(one(tmp_path, held)) == [("missing", "cancelled before it started")]
    cluster.says("sacct", "7|CANCELLED by 1000|0:0\n")
    assert told(one(tmp_path, held)) == [("missing", "cancelled before it started")]


def test_each_tells_what_it_was_submitted_as(cluster: FakeCluster, tmp_path: Path) -> None:
    """An element of an array, or a job that is none; nothing before it has a number."""
    keys = ("done", "failed", "queued", "gone")
    cluster.says("squeue", "a|7|2|PENDING|Priority\n")
    finish(tmp_path, "done")
    fail(tmp_path, "failed", "NaN", AFTER)
    found = one(tmp_path, array("a", *((key,) for key in keys)), keys=keys)
    assert [s.job for s in found] == ["7_0", "7_1", "7_2", "7_3"]
    assert [s.state for s in found] == ["done", "failed", "queued", "missing"]
    assert [s.is_in_hand for s in found] == [False, False, True, False]
    assert [s.job for s in one(tmp_path, array("b", ["k"]))] == ["7"]
    assert [s.job for s in one(tmp_path, array("c", ["k"], number=None))] == [""]


def test_the_cluster_is_asked_only_about_what_is_not_finished(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    made = page(tmp_path, [entry(k) for k in "klm"], array("a", ["k"]), array("b", ["l", "m"]))
    for key in "kl":
        finish(tmp_path, key)
    standings(tmp_path, [made])
    (call,) = cluster.calls("squeue")
    assert call.endswith("--name=b")
    finish(tmp_path, "m")
    cluster.says("squeue", "", 1, "slurm_load_jobs error\n")
    cluster.lacks("sacct")
    assert [s.state for s in standings(tmp_path, [made])] == ["done"] * 3
    assert len(cluster.calls("squeue")) == 1


def test_what_was_never_submitted_is_missing(cluster: FakeCluster, tmp_path: Path) -> None:
    assert told(one(tmp_path, None)) == [("missing", "was not submitted")]
    assert told(one(tmp_path, array("a", ["k"], number=None))) == [("missing", "was not submitted")]


def test_what_sbatch_took_while_the_command_died_is_found(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.says("squeue", "a|31|N/A|PENDING|Priority\n")
    (found,) = one(tmp_path, array("a", ["k"], number=None))
    assert (found.state, found.array, found.number) == ("queued", "a", "31")


@pytest.mark.parametrize(
    ("accounting", "content", "reason"),
    [
        ("7_1|OUT_OF_MEMORY|0:125", "", "killed for want of memory; give it more with --mem"),
        ("7_1|TIMEOUT|0:0", "", "ended by the time limit"),
        ("7_1|NODE_FAIL|0:0", "", "its node failed"),
        ("7_1|CANCELLED by 0|0:0", "", "cancelled while it ran"),
        ("7_1|FAILED|2:0", "", "ended without a result, exit code 2: killed, or its node died"),
        ("7_1|FAILED|0:9", "", "ended without a result, signal 9: killed, or its node died"),
        ("", "", "ended without a result: killed, or its node died"),
        ("", MEMORY, "killed for want of memory; give it more with --mem"),
        ("7_1|FAILED|1:0", f"a\n{MEMORY}\nb\n", "killed for want of memory"),
        ("", "error: Detected 1 oom_kill event in StepId=7.0", "killed for want of memory"),
    ],
)
def test_what_died_without_a_word(
    cluster: FakeCluster, tmp_path: Path, accounting: str, content: str, reason: str
) -> None:
    cluster.says("sacct", f"{accounting}\n")
    path = log(tmp_path, "7_1", content)
    (_, found) = one(tmp_path, array("a", ["j"], ["k"]), keys=("j", "k"))
    assert found.state == "failed" and found.reason.startswith(reason)
    assert (MEMORY if MEMORY in content else content or str(path)) in found.reason


def test_the_line_of_the_log_that_tells(cluster: FakeCluster, tmp_path: Path) -> None:
    """The last with an error, of the end of a long log; else the last at all."""
    log(tmp_path, "7", "old error\n" + "x" * 5000 + "\nRuntimeError: broken\nbye\n")
    (found,) = one(tmp_path, array("a", ["k"]))
    assert found.reason.endswith("(RuntimeError: broken)")
    log(tmp_path, "7", "hello\nbye\n")
    (found,) = one(tmp_path, array("a", ["k"]))
    assert found.reason.endswith("(bye)")


def test_what_the_cluster_could_not_start_has_failed(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.says("sacct", "7|BOOT_FAIL|0:0\n")
    assert told(one(tmp_path, array("a", ["k"]))) == [
        ("failed", "its node did not boot; it has left no log")
    ]


def again(out: Path, first: Array, second: Array) -> Standing:
    """Of a job that was submitted twice."""
    pages = [page(out, [entry("k")], first, name="p1"), page(out, [entry("k")], second, name="p2")]
    (found,) = standings(out, pages)
    return found


def test_the_last_submission_counts(cluster: FakeCluster, tmp_path: Path) -> None:
    first, second = array("a", ["k"]), array("b", ["k"], number="8", submitted=AFTER)
    log(tmp_path, "7", "error: first", page="p1")
    fail(tmp_path, "k", "of the first", SUBMITTED)
    assert again(tmp_path, first, second).reason == "cancelled before it started"
    cluster.says("squeue", "b|8|N/A|PENDING|Priority\n")
    found = again(tmp_path, first, second)
    assert (found.state, found.array) == ("queued", "b")
    cluster.says("squeue", "")
    log(tmp_path, "8", "error: second", page="p2")
    assert again(tmp_path, first, second).reason.endswith("(error: second)")


def test_where_it_lives_counts_before_the_last(cluster: FakeCluster, tmp_path: Path) -> None:
    """As where the last submission was cancelled, or refused."""
    cluster.says("squeue", "a|7|N/A|RUNNING|None\n")
    for number in ("8", None):
        found = again(tmp_path, array("a", ["k"]), array("b", ["k"], number=number))
        assert (found.state, found.array) == ("running", "a")


def local(out: Path, began: str, host: str = socket.gethostname()) -> Submission:
    """Run by the process that runs these tests, if it ``began`` then."""
    held = array("a", ["k"], ["l"], number=None)
    return page(
        out, [entry("k"), entry("l")], held, cluster="local", process=os.getpid(),
        process_start=began, host=host,
    )  # fmt: skip


@pytest.mark.usefixtures("no_cluster")
def test_without_a_cluster_the_command_is_asked(tmp_path: Path) -> None:
    """What has a lease runs, what has none waits."""
    train(tmp_path, "k", 4, 1.0)
    (tmp_path / "k" / LEASE).touch()
    found = standings(tmp_path, [local(tmp_path, process_start(os.getpid()))])
    assert [(s.state, s.epochs) for s in found] == [("running", 4), ("queued", 0)]


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_a_command_that_is_over_has_left_what_is_missing(tmp_path: Path, host: str) -> None:
    """Its number may be that of another process by now, here or elsewhere."""
    train(tmp_path, "k", 4, 1.0)
    began = process_start(os.getpid()) if host == "elsewhere" else "12"
    assert told(standings(tmp_path, [local(tmp_path, began, host)])) == [
        ("missing", "stopped, 4 of 10 epochs done"),
        ("missing", "stopped, 0 of 10 epochs done"),
    ]


def test_levels_count_the_stages_before(cluster: FakeCluster, tmp_path: Path) -> None:
    entries: list[Entry] = [
        entry("s", is_run=False), entry("t", ["s"], is_run=False), entry("r", ["s", "t"]),
        entry("q", ["finished before"]),
    ]  # fmt: skip
    found = standings(tmp_path, [page(tmp_path, entries)])
    assert [standing.level for standing in found] == [0, 1, 2, 0]
