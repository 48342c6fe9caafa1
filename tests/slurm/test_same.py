"""Without a cluster the same comes of a grid as of ``suites.run``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slurm import ledger
from suites.run import main as run
from tests.slurm.conftest import GRID
from tests.slurm.fake import FakeCluster
from tests.suites.conftest import SMALL, Call

BROKEN = (
    "digits", "--methods", "source_only,kd,dan_student", "--compression", "0.5",
    "--set", "kd.temperature=1e-39", "--device", "cpu", *SMALL,
)  # fmt: skip
"""Three runs, one of which fails: at this temperature its loss is no number."""


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """``record`` without what depends on the clock."""
    for network in ("student", "teacher"):
        (record["cost"].get(network) or {}).pop("latency_ms", None)
    for name in ("images_per_second", "data_share", "seconds", "peak_memory_bytes"):
        record["effort"].pop(name, None)
    record.pop("finished")
    return record


def records(out: Path) -> dict[str, dict[str, Any]]:
    """By run, what it has recorded."""
    return {
        path.parent.name: timeless(json.loads(path.read_bytes()))
        for path in out.glob("*/record.json")
    }


def failures(out: Path) -> dict[str, tuple[str, str]]:
    """By run, what has failed and why."""
    found = {path.parent.name: json.loads(path.read_bytes()) for path in out.glob("*/failure.json")}
    return {key: (value["title"], value["reason"]) for key, value in found.items()}


def weights(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("student.safetensors")
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``suites.run`` makes of BROKEN, one core a run."""
    out = tmp_path_factory.mktemp("reference") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("suites.options.cores", lambda: 2)
        assert run([*BROKEN, "--jobs", "2", "--out", str(out)]) == 1
    return out


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(
    "words", [("debug",), ("local", "--runs-per-job", "3", "--array-parallelism", "1")]
)
def test_the_same_comes_of_it_without_a_cluster(
    submit: Call, status: Call, reference: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """One run fails, and says so where suites.run does; the others, in the same job, finish."""
    out = tmp_path / "out"
    answer = submit(*BROKEN, "--cluster", *words, "--out", out)
    assert answer.code == 1
    assert re.search(
        r"^\[\d/6\] kd hand->print c=0\.5 seed 0: FAILED: NotFiniteError: ",
        answer.err,
        re.MULTILINE,
    )
    assert answer.err.count("FAILED") == 1
    assert len(re.findall(r"^\[\d/6\] .*: finished$", answer.err, re.MULTILINE)) == 5
    assert answer.err.splitlines()[-1] == "5 of 6 jobs finished"
    assert len(records(reference)) == 2
    assert records(out) == records(reference)
    assert weights(out) == weights(reference)
    assert failures(out) == failures(reference)
    assert len(failures(out)) == 1
    looked = status(out)
    assert looked.code == 1 and "nothing waits or runs" in looked.out
    assert re.search(
        r"^  kd hand->print c=0\.5 seed 0 \([0-9a-f]+\): NotFiniteError: ", looked.out, re.MULTILINE
    )
    if words[0] == "local":
        keys = [*records(out), *failures(out)]
        assert all((out / key / "log.txt").exists() for key in keys)  # each run has its own
    repaired = [word for word in BROKEN if "temperature" not in word]
    repaired.remove("--set")
    good = [word.replace("source_only,kd,", "source_only,") for word in repaired]
    again = submit(*good, "--cluster", words[0], "--out", out)
    assert again.code == 0 and again.err.splitlines()[-1] == "nothing to submit"
    assert len(ledger.read(out)) == 1


@pytest.mark.usefixtures("no_cluster")
def test_what_waits_here_is_in_the_ledger_from_the_beginning(
    submit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no other command takes the later levels while the first one runs."""
    out = tmp_path / "out"
    seen: list[int] = []

    def look(*_: object) -> None:
        seen.append(sum(len(array.elements) for array in ledger.read(out)[0].arrays))

    monkeypatch.setattr("slurm.local._here", look)
    answer = submit(*GRID, "--cluster", "debug", "--out", out)
    assert seen == [5]
    assert answer.code == 1 and answer.err.splitlines()[-1] == "0 of 5 jobs finished"


def test_a_dry_run_counts_from_what_was_measured(
    submit: Call, reference: Path, cluster: FakeCluster
) -> None:
    """Three stages are finished there, and two runs with other compression are still to do."""
    more = [word if word != "0.5" else "0.75" for word in BROKEN]
    answer = submit(*more, "--dry-run", "--cpus-per-task", "4", "--out", reference)
    assert answer.code == 0, answer.err
    assert "TFLOP/s a run, measured on 3 finished jobs" in answer.out
    cost = re.search(r"about (\S+) core-hours", answer.out)
    assert cost is not None and float(cost[1]) >= 2 * 4 * 15 / 3600  # two runs start on four cores
