"""``slurm.status``: what it shows, what it answers programs, how long all of it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm import ledger, status as module
from slurm.estimate import STARTUP_SECONDS, duration
from tests.slurm.factory import AFTER, array, entry, fail, finish, page, train
from tests.slurm.fake import FakeCluster
from tests.suites.conftest import REPOSITORY, Call

KEYS = ("done", "running", "queued", "failed", "missing")
KEYS_OF_20 = [(f"k{n}",) for n in range(20)]


@pytest.fixture
def mixed(cluster: FakeCluster, tmp_path: Path) -> Path:
    """One of each state, after a stage that is done."""
    out = tmp_path / "out"
    entries = [entry("stage", is_run=False), *(entry(key, ["stage"]) for key in KEYS)]
    held = array("a", *((key,) for key in KEYS))
    ledger.write(page(out, entries, array("s", ["stage"], number="6"), held))
    cluster.says("squeue", "a|7|1|RUNNING|None\na|7|2|PENDING|QOSMaxGRESPerUser\n")
    finish(out, "stage", is_run=False)
    train(out, "stage", epochs=10, seconds=20.0, is_run=False)
    finish(out, "done")
    train(out, "done", epochs=10, seconds=20.0)
    train(out, "running", epochs=5, seconds=20.0)
    fail(out, "failed", "loss is no number", AFTER)
    return out


def counts(text: str) -> dict[str, list[str]]:
    """The rows of the table by their first word."""
    rows = [line.split() for line in text.partition("\nETA")[0].splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_what_it_shows(status: Call, mixed: Path) -> None:
    answer = status(mixed)
    assert answer.code == 1 and answer.err == ""
    rows = counts(answer.out)
    assert rows["level"] == ["jobs", "done", "running", "queued", "failed", "missing"]
    assert (rows["0"], rows["1"]) == (["1", "1"], ["5", "1", "1", "1", "1", "1"])
    assert rows["all"] == ["6", "2", "1", "1", "1", "1"]
    assert "  title of failed (failed, job 7_3): loss is no number\n" in answer.out
    assert "  title of missing (missing, job 7_4): cancelled before it started\n" in answer.out
    to_go = "epoch 5 of 10, 2 min to go\n"  # 5 x 20 s
    assert f"  title of running (running, job 7_1): {to_go}" in answer.out
    assert "1 queued: QOSMaxGRESPerUser" in answer.out


def test_how_long_all_of_it_takes(status: Call, mixed: Path) -> None:
    """500 s were needed for 2.5e12 operations; half of one job and all of another are left."""
    left = 0.5e12 * 500 / 2.5e12 + STARTUP_SECONDS + 1e12 * 500 / 2.5e12
    assert left == 315
    assert f"ETA: {duration(left)}, with 1 at once as now" in status(mixed).out
    assert duration(left) == "5 min"


def test_two_at_once_take_half_as_long(status: Call, cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    entries = [entry(key) for key in ("k", "l", "m")]
    ledger.write(page(out, entries, array("a", ["k"], ["l"], ["m"])))
    cluster.says("squeue", "a|7|0|RUNNING|None\na|7|1|RUNNING|None\na|7|2|PENDING|None\n")
    train(out, "k", 4, 60.0)
    train(out, "l", 4, 60.0)
    answer = status(out)  # (0.6 + 0.6 + 1) * 600 s and a start, by two
    assert "ETA: 11 min, with 2 at once as now" in answer.out
    assert answer.code == 0


def test_no_job_ends_sooner_than_it_can(status: Call, cluster: FakeCluster, tmp_path: Path) -> None:
    """One of two has nearly finished: the other takes its time alone."""
    out = tmp_path / "out"
    ledger.write(page(out, [entry("k"), entry("l")], array("a", ["k", "l"])))
    cluster.says("squeue", "a|7|N/A|RUNNING|None\n")
    train(out, "k", 9, 60.0)
    train(out, "l", 1, 60.0)
    assert "ETA: 9 min, with 2 at once as now" in status(out).out


def test_nothing_is_promised_before_an_epoch(
    status: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ledger.write(page(out, [entry("k")], array("a", ["k"])))
    for state in ("PENDING", "RUNNING"):
        cluster.says("squeue", f"a|7|N/A|{state}|Priority\n")
        answer = status(out)
        assert answer.code == 0
        assert "ETA: not known before something runs and has finished an epoch" in answer.out
        assert "queued: " not in answer.out  # Priority is nothing to be told


def test_all_is_done(status: Call, cluster: FakeCluster, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ledger.write(page(out, [entry("k")], array("a", ["k"])))
    finish(out, "k")
    cluster.lacks("squeue")  # nothing is left to be asked
    answer = status(out)
    assert answer.code == 0 and "nothing waits or runs" in answer.out


def test_long_lists_are_cut_unless_asked_for(
    status: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ledger.write(page(out, [entry(f"k{n}") for n in range(20)], array("a", *KEYS_OF_20)))
    for n in range(20):
        fail(out, f"k{n}", f"reason {n}", AFTER)
    answer = status(out)
    assert answer.out.count(": reason ") == 15 and "and 5 more; --all" in answer.out
    answer = status(out, "--all")
    assert answer.out.count(": reason ") == 20 and "more" not in answer.out


def test_what_has_the_same_reason_is_summed(
    status: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    """Root causes come before what failed for want of them."""
    out = tmp_path / "out"
    keys = ("k", "l", "m", "n")
    held = array("a", *((key,) for key in keys))
    ledger.write(page(out, [*(entry(key) for key in keys), entry("o"), entry("p")], held))
    for key in keys[:3]:
        fail(out, key, "needs a failed stage: NaN", AFTER)
    fail(out, "n", "NaN", AFTER)
    wanted = "3 jobs, such as title of k (k, job 7_0): needs a failed stage: NaN"
    lines = status(out).out.splitlines()
    assert lines[lines.index("FAILED:") + 1 :] == [
        "  title of n (n, job 7_3): NaN", f"  {wanted}", "MISSING:",
        "  2 jobs, such as title of o (o): was not submitted",
    ]  # fmt: skip
    lines = status(out, "--all").out.splitlines()
    assert lines[lines.index("FAILED:") + 1 :] == [
        *(f"  title of {key} ({key}, job 7_{n}): needs a failed stage: NaN"
          for n, key in enumerate(keys[:3])),
        "  title of n (n, job 7_3): NaN", "MISSING:",
        "  title of o (o): was not submitted", "  title of p (p): was not submitted",
    ]  # fmt: skip


def test_for_programs(status: Call, mixed: Path) -> None:
    answer = status(mixed, "--json")
    assert answer.code == 1
    found = {one["key"]: one for one in json.loads(answer.out)}
    assert {key: found[key]["state"] for key in KEYS} == {key: key for key in KEYS}
    assert found["failed"]["reason"] == "loss is no number"
    assert found["stage"] == {
        "key": "stage", "title": "title of stage", "is_run": False, "level": 0, "state": "done",
        "reason": "", "epochs_done": 10, "epochs": 10, "job": "6", "array": None,
        "folder": str(mixed / "stages" / "stage"),
    }  # fmt: skip
    running = found["running"]
    assert (running["epochs_done"], running["epochs"], running["array"]) == (5, 10, "a")
    assert (running["job"], running["folder"]) == ("7_1", str(mixed / "running"))


@pytest.mark.parametrize(("last", "code"), [("finish", 0), ("fail", 1)])
def test_watching_ends_with_the_last(
    status: Call, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    last: str, code: int,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    ledger.write(page(out, [entry("k")], array("a", ["k"])))
    cluster.says("squeue", "a|7|N/A|PENDING|Priority\n")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        cluster.says("squeue", "a|7|N/A|RUNNING|None\n" if len(looks) == 1 else "")
        if len(looks) == 2:
            finish(out, "k") if last == "finish" else fail(out, "k", "NaN", AFTER)

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep))
    answer = status(out, "--watch", "3")
    assert answer.code == code and looks == [3, 3]
    frames = answer.out.split("level  jobs")[1:]  # one below the other: this is no terminal
    assert len(frames) == 3 and ["nothing waits or runs" in one for one in frames] == [
        False, False, True,
    ]  # fmt: skip
    assert "\x1b" not in answer.out


def test_ctrl_c_ends_watching(
    status: Call, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.write(page(tmp_path, [entry("k")], array("a", ["k"])))
    cluster.says("squeue", "a|7|N/A|PENDING|Priority\n")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=interrupt))
    answer = status(tmp_path, "--watch")
    assert answer.code == 130 and answer.err == "stopped\n"


def test_wrong_usage_is_one_line(status: Call, cluster: FakeCluster, mixed: Path) -> None:
    answer = status(mixed.parent)
    assert answer.code == 2
    assert answer.err.startswith("slurm.status: nothing was submitted for ")
    answer = status(mixed, "--watch", "0")
    assert answer.code == 2 and "'0' is not allowed" in answer.err
    answer = status(mixed, "--json", "--watch")
    assert answer.code == 2 and answer.err.startswith("slurm.status: --json is for one look")
    cluster.says("squeue", "", 1, "slurm_load_jobs error\n")
    answer = status(mixed)
    assert (answer.code, answer.err) == (
        2, "slurm.status: squeue failed: slurm_load_jobs error\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (89 * 60, "89 min"), (90 * 60, "1 h 30 min"),
     (47 * 3600, "47 h 00 min"), (50 * 3600, "2 d 2 h")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize("name", ["slurm.status", "slurm.retry", "slurm.submit"])
def test_commands_load_torch_when_they_need_it(name: str) -> None:
    """What only looks never does, and Ctrl-C is caught in the seconds that it takes."""
    code = f"import {name}, sys; assert 'torch' not in sys.modules, 'torch is loaded'"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_looking_never_loads_torch(cluster: FakeCluster, mixed: Path) -> None:
    code = (
        "import sys; from slurm.status import main; code = main([sys.argv[1], '--json']); "
        "assert 'torch' not in sys.modules, 'torch is loaded'; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, mixed], cwd=REPOSITORY, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and json.loads(done.stdout), done.stderr
