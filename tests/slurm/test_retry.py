"""``slurm.retry``: what has failed or is missing is submitted again, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm import ledger
from slurm.ledger import Submission
from tests.slurm.conftest import GRID
from tests.slurm.factory import fail, finish
from tests.slurm.fake import FakeCluster
from tests.slurm.test_submit import option
from tests.suites.conftest import Call

LATER = "2100-01-01T00:00:00+00:00"
STAGES = ("pretrain", "train on source", "adapt by mcc")


@pytest.fixture
def submitted(submit: Call, cluster: FakeCluster, tmp_path: Path) -> Path:
    """GRID, of which the first stage is finished and the cluster has nothing any more."""
    out = tmp_path / "out"
    assert submit(*GRID, "--partition", "long", "--time", "90", "--out", out).code == 0
    cluster.says("squeue", "")
    finish(out, key_of("pretrain", out), is_run=False)
    return out


def pages(out: Path) -> list[Submission]:
    return ledger.read(out)


def key_of(title: str, out: Path) -> str:
    """The key of the job whose title begins so."""
    found = {
        entry.key for page in pages(out) for entry in page.jobs if entry.title.startswith(title)
    }
    (key,) = found
    return key


def break_(out: Path, *titles: str) -> None:
    for title in titles:
        fail(out, key_of(title, out), "loss is no number", LATER, is_run=title not in STAGES)


def retried(out: Path, since: int = 1) -> list[str]:
    """What was submitted by all pages from ``since`` on, by the beginning of its title."""
    return [entry.title.split(",")[0].split(" ")[0] for p in pages(out)[since:] for entry in p.jobs]


def test_only_what_has_failed(submitted: Path, retry: Call, cluster: FakeCluster) -> None:
    break_(submitted, "train on source", "source_only")
    answer = retry(submitted, "--failed")
    assert answer.code == 0, answer.err
    assert retried(submitted) == ["train", "source_only"]
    first, second = cluster.scripts[3:]
    assert option(first, "dependency") is None
    assert option(second, "dependency") == "afterany:104"


def test_only_what_is_missing(submitted: Path, retry: Call, cluster: FakeCluster) -> None:
    break_(submitted, "train on source", "source_only")
    assert retry(submitted, "--missing").code == 0
    assert retried(submitted) == ["adapt", "kd"]


@pytest.mark.parametrize("words", [(), ("--failed", "--missing")])
def test_both(submitted: Path, retry: Call, cluster: FakeCluster, words: tuple[str, ...]) -> None:
    break_(submitted, "train on source", "source_only")
    assert retry(submitted, *words).code == 0
    assert retried(submitted) == ["train", "source_only", "adapt", "kd"]
    assert len(cluster.scripts) == 5


def test_stages_that_are_needed_come_along(
    submitted: Path, retry: Call, cluster: FakeCluster
) -> None:
    break_(submitted, "adapt by mcc", "train on source", "source_only")
    assert retry(submitted, "--missing").code == 0
    assert retried(submitted) == ["adapt", "kd"]


def test_what_waits_or_runs_is_left_alone(
    submitted: Path, retry: Call, cluster: FakeCluster
) -> None:
    """A stage that is in the queue again is waited for."""
    assert retry(submitted).code == 0
    answer = retry(submitted)
    assert (answer.code, answer.out) == (0, "nothing is failed or missing\n")
    queue = cluster.queue.splitlines(keepends=True)
    cluster.says("squeue", "".join(queue[:2]))  # the stages; their runs were cancelled
    assert retry(submitted).code == 0
    assert retried(submitted, since=2) == ["source_only", "kd"]
    assert option(cluster.scripts[-1], "dependency") == "afterany:104"


def test_nothing_to_retry(submitted: Path, retry: Call, cluster: FakeCluster) -> None:
    answer = retry(submitted, "--failed")
    assert (answer.code, answer.out) == (0, "nothing is failed\n")
    assert len(pages(submitted)) == 1


def test_where_nothing_was_submitted(retry: Call, tmp_path: Path) -> None:
    answer = retry(tmp_path)
    assert answer.code == 2
    assert answer.err.startswith("slurm.retry: nothing was submitted for ")


def test_the_settings_stay_unless_options_change_them(
    submitted: Path, retry: Call, cluster: FakeCluster
) -> None:
    assert retry(submitted, "--mem", "32GB", "--time", "3:00:00").code == 0
    script = cluster.scripts[-1]
    assert option(script, "partition") == "long"
    assert (option(script, "mem"), option(script, "time")) == ("32GB", "180")
    assert option(script, "gpus-per-node") is None
    cluster.says("squeue", "")
    assert retry(submitted).code == 0
    assert option(cluster.scripts[-1], "mem") == "32GB"


def test_each_page_keeps_its_own_settings(
    submitted: Path, submit: Call, retry: Call, cluster: FakeCluster
) -> None:
    """And not those of the last."""
    more = [word.replace("source_only,kd", "dann") for word in GRID]
    assert submit(*more, "--partition", "short", "--time", "30", "--out", submitted).code == 0
    cluster.says("squeue", "")
    before = len(cluster.scripts)
    assert retry(submitted, "--mem", "8GB").code == 0
    asked = {
        (option(script, "partition"), option(script, "time"), option(script, "mem"))
        for script in cluster.scripts[before:]
    }
    assert asked == {("long", "90", "8GB"), ("short", "30", "8GB")}
    assert {(p.settings.partition, p.settings.time) for p in pages(submitted)[2:]} == {
        ("long", 90), ("short", 30),
    }  # fmt: skip


def test_device_and_threads_follow_from_the_settings(
    submitted: Path, retry: Call, cluster: FakeCluster
) -> None:
    """The runs were planned for one core; they are the same on other machines."""
    assert retry(submitted, "--gpus-per-node", "1", "--cpus-per-task", "6").code == 0
    assert option(cluster.scripts[-1], "gpus-per-node") == "1"
    places = pages(submitted)[-1].places
    assert (places["device"], places["threads"]) == ("cuda", 6)
    cluster.says("squeue", "")
    words = ("--gpus-per-node", "0", "--runs-per-job", "2", "--cpus-per-task", "4")
    assert retry(submitted, *words).code == 0
    assert option(cluster.scripts[-1], "gpus-per-node") is None
    places = pages(submitted)[-1].places
    assert (places["device"], places["threads"]) == ("cpu", 2)


def test_a_dry_run_submits_nothing(submitted: Path, retry: Call, cluster: FakeCluster) -> None:
    answer = retry(submitted, "--dry-run")
    assert answer.code == 0 and answer.out.count("level ") == 2
    assert len(cluster.scripts) == 3 and len(pages(submitted)) == 1


def test_what_was_planned_by_other_code_is_refused(
    submitted: Path, retry: Call, cluster: FakeCluster
) -> None:
    (page,) = pages(submitted)
    text = page.model_dump_json().replace(key_of("kd", submitted), "0123456789abcdef")
    ledger.write(Submission.model_validate_json(text))
    answer = retry(submitted)
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("slurm.retry: kd hand->print c=0.5 seed 0: the code has changed")
    assert "submit it anew: python -m slurm.submit digits" in line
    assert len(cluster.scripts) == 3


def test_a_stage_of_a_later_submission_comes_before_what_needs_it(
    submit: Call, retry: Call, cluster: FakeCluster, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for method in ("source_only", "kd"):
        words = [word if word != "source_only,kd" else method for word in GRID]
        assert submit(*words, "--out", out).code == 0
        cluster.says("squeue", "")
    assert retry(out).code == 0
    assert sorted(retried(out, since=2)) == ["adapt", "kd", "pretrain", "source_only", "train"]
    first, *others = cluster.scripts[6:]
    assert option(first, "dependency") is None
    assert all(option(script, "dependency") for script in others)
    jobs = {key: array.job for p in pages(out)[2:] for array in p.arrays
            for keys in array.elements for key in keys}  # fmt: skip
    for entry in (entry for p in pages(out)[2:] for entry in p.jobs):
        assert all(int(jobs[need] or 0) < int(jobs[entry.key] or 0) for need in entry.needs)
