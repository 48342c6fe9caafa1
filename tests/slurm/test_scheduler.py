"""What SLURM says, in all its forms; and what happens where it says nothing."""

from __future__ import annotations

import pytest

from itmc.errors import UsageError
from slurm import scheduler
from slurm.scheduler import Element, ask, largest_array
from tests.slurm.factory import array
from tests.slurm.fake import FakeCluster

FOUR = array("a", ["k0"], ["k1"], ["k2"], ["k3"], number="4")
ONE = array("b", ["k5"], number="5")
UNNUMBERED = array("c", ["k6"], ["k7"], number=None)


def test_squeue_tells_of_each_element(cluster: FakeCluster) -> None:
    cluster.says(
        "squeue",
        "a|4|0|RUNNING|None\na|4|1|PENDING|Resources\na|4|2|COMPLETED|None\na|4|3|PENDING|Job|x\n"
        "b|5|N/A|PENDING|Dependency\nc|6|1|RUNNING|None\nstranger|9|0|RUNNING|None\n",
    )
    assert ask([FOUR, ONE, UNNUMBERED]) == {
        ("a", 0): Element("RUNNING", "", "4"),
        ("a", 1): Element("PENDING", "Resources", "4"),
        ("a", 2): Element("COMPLETED", "", "4"),
        ("a", 3): Element("PENDING", "Job|x", "4"),
        ("b", 0): Element("PENDING", "Dependency", "5"),
        ("c", 1): Element("RUNNING", "", "6"),
    }
    (call,) = cluster.calls("squeue")
    assert "--name=a,b,c" in call and "--array" in call
    assert cluster.calls("sacct") == []  # all of what has a number is known


def test_a_range_that_squeue_does_not_part(cluster: FakeCluster) -> None:
    cluster.says("squeue", "a|4|[1-2,3%2]|PENDING|Priority\n")
    assert ask([FOUR]).keys() == {("a", 1), ("a", 2), ("a", 3)}


def test_sacct_tells_how_the_others_ended(cluster: FakeCluster) -> None:
    cluster.says("squeue", "a|4|3|RUNNING|None\n")
    cluster.says(
        "sacct",
        "4_0|CANCELLED by 0|0:0\n4_1|OUT_OF_MEMORY|0:125\n4_2|FAILED|3:0\n5|FAILED|1:0\n"
        "99_0|FAILED|1:0\n",
    )
    assert ask([FOUR, ONE, UNNUMBERED]) == {
        ("a", 0): Element("CANCELLED", "", "4"),
        ("a", 1): Element("OUT_OF_MEMORY", "signal 125", "4"),
        ("a", 2): Element("FAILED", "exit code 3", "4"),
        ("a", 3): Element("RUNNING", "", "4"),
        ("b", 0): Element("FAILED", "exit code 1", "5"),
    }
    (call,) = cluster.calls("sacct")
    assert "--jobs=4,5" in call


@pytest.mark.parametrize(
    "line", ["4_[0,1-3%2]|PENDING|0:0", "4_0|RUNNING|0:0", "4|REQUEUED|0:0", "4_0", "", "||"]
)
def test_what_sacct_says_of_the_living_is_late(cluster: FakeCluster, line: str) -> None:
    cluster.says("sacct", f"{line}\n")
    assert ask([FOUR]) == {}


def test_an_ended_range_of_sacct(cluster: FakeCluster) -> None:
    cluster.says("sacct", "4_[0-1,3%2]|CANCELLED by 1000|0:0\n")
    assert ask([FOUR]).keys() == {("a", 0), ("a", 1), ("a", 3)}


@pytest.mark.parametrize("ended", ["NODE_FAIL", "COMPLETED", "FAILED"])
def test_squeue_is_right_where_sacct_lags(cluster: FakeCluster, ended: str) -> None:
    """As of a job that was started again."""
    cluster.says("squeue", "a|4|0|PENDING|BeginTime\n")
    cluster.says("sacct", f"4_0|{ended}|1:0\n4_1|{ended}|1:0\n")
    found = ask([FOUR])
    assert found["a", 0].is_queued and not found["a", 0].is_over
    assert found["a", 1].is_over


def test_without_accounting(cluster: FakeCluster) -> None:
    cluster.says("squeue", "a|4|0|RUNNING|None\n")
    cluster.says("sacct", "", 1, "Slurm accounting storage is disabled\n")
    assert ask([FOUR]).keys() == {("a", 0)}
    cluster.lacks("sacct")
    assert ask([FOUR]).keys() == {("a", 0)}


def test_each_state_waits_runs_or_is_over() -> None:
    for state in ("PENDING", "REQUEUED", "SPECIAL_EXIT", "REQUEUE_HOLD"):
        assert Element(state).is_queued and not Element(state).is_over
    for state in ("RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING"):
        assert not Element(state).is_queued and not Element(state).is_over
    for state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"):
        assert not Element(state).is_queued and Element(state).is_over


def test_many_arrays_are_asked_about_in_several_calls(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line has its limits."""
    monkeypatch.setattr(scheduler, "_NAMES_AT_ONCE", 2)
    cluster.says("squeue", "a|4|0|RUNNING|None\nb|5|N/A|RUNNING|None\nc|6|0|RUNNING|None\n")
    found = ask([FOUR, ONE, UNNUMBERED])
    assert found.keys() == {("a", 0), ("b", 0), ("c", 0)}
    asked = [call.partition("--name=")[2] for call in cluster.calls("squeue")]
    assert asked == ["a,b", "c"]


def test_a_silent_squeue_ends_all(cluster: FakeCluster) -> None:
    said = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    cluster.says("squeue", "", 1, f"{said}\nmore\n")
    with pytest.raises(UsageError) as refused:
        ask([FOUR])
    assert str(refused.value) == f"squeue failed: {said}"
    cluster.says("squeue", "", 3)
    with pytest.raises(UsageError, match=r"^squeue failed: exit code 3$"):
        ask([FOUR])


@pytest.mark.usefixtures("no_cluster")
def test_a_machine_without_a_cluster() -> None:
    with pytest.raises(UsageError, match=r"there is no squeue here.*--cluster local"):
        ask([FOUR])
    with pytest.raises(UsageError, match=r"there is no scontrol here.*--cluster local"):
        largest_array()


def test_the_largest_array(cluster: FakeCluster) -> None:
    assert largest_array() == 1001
    cluster.says("scontrol", "MaxArraySize            = 0\nMaxArrayTasks = 7\n")
    assert largest_array() == 1  # 0: no arrays at all
    cluster.says("scontrol", "ClusterName = test\n")
    with pytest.raises(UsageError, match="names no MaxArraySize"):
        largest_array()
