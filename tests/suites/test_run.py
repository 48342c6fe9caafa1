"""The whole suite through its command: finished, taken up again, failed, stopped and killed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from results import diff, table as results_table
from tests.suites.conftest import REPOSITORY, SMALL, Call

Cli = Callable[..., subprocess.CompletedProcess[str]]
GRID = ("digits", "--methods", "dan_student,itmc", "--compression", "0.5,0.75", *SMALL)


@dataclass(frozen=True)
class Finished:
    """A grid that was run once, and what it said."""

    out: Path
    process: subprocess.CompletedProcess[str]

    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.out.glob("*/record.json"))


@pytest.fixture(scope="module")
def grid(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two methods on two compressions; tests read it and leave it as it is."""
    out = tmp_path_factory.mktemp("grid") / "out"
    return Finished(out, cli(*GRID, "--out", out))


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))]


def failures(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/failure.json"))]


def table(out: Path) -> list[dict[str, str]]:
    with (out / "summary" / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_grid_finishes_and_shows_its_results(grid: Finished) -> None:
    assert grid.process.returncode == 0, grid.process.stderr
    assert len(grid.runs()) == 4
    assert "DAN student" in grid.process.stdout and "ITMC" in grid.process.stdout
    shown = [Path(line) for line in grid.process.stdout.splitlines() if line.startswith("/")]
    assert {path.name for path in shown} >= {
        "table.md", "table.csv", "table.tex", "accuracy_vs_compression.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 0 for path in shown)


def test_off_a_terminal_it_says_a_plain_line_a_run(grid: Finished) -> None:
    assert "\x1b" not in grid.process.stderr + grid.process.stdout
    assert "\r" not in grid.process.stderr
    lines = [line for line in grid.process.stderr.splitlines() if re.match(r"\[\d/4\] ", line)]
    assert [line[:5] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert sum("itmc hand->print c=0.75 seed 0: " in line for line in lines) == 1


def test_a_record_has_every_field_of_the_design(grid: Finished) -> None:
    counts = {"macs": int, "parameters": int, "activations": int, "bytes": int}
    timing = {"p50": float, "p95": float}
    latency = {"threads": int, "batch_1": timing, "batch_32": timing}
    accuracy = {"overall": float, "mean_class": float}
    chosen = {"epoch": int, **accuracy}
    validators = ("source_validation", "entropy", "infomax", "snd", "dev")
    expected = {
        "schema": int, "run": str, "suite": str, "protocol": str, "seed": int, "finished": str,
        "dataset": {"name": str, "digest": str, "classes": list, "stored_size": int,
                    "gaps": dict},
        "task": {"source": str, "target": str, "name": str},
        "method": {"name": str, "group": str, "label": str, "citation": str, "knobs": dict},
        "network": {"backbone": str, "weights": str, "bottleneck": int},
        "training": {"epochs": int, "lr": float, "batch_size": int},
        "compression": {"asked": float, "reached": float, "left_whole": dict},
        "accuracy": {
            "last": accuracy, "oracle": chosen,
            **{name: {**chosen, "score": float} for name in validators},
        },
        "scores": dict.fromkeys(validators, float),
        "cost": {role: {**counts, "latency_ms": latency} for role in ("student", "teacher")},
        "effort": {
            "images_per_second": float, "data_share": float, "peak_memory_bytes": int,
            "images": int, "forward_images": int, "backward_images": int, "forward_macs": int,
            "backward_macs": int,
            "seconds": dict.fromkeys(("data", "train", "prune", "evaluate"), float),
        },
        "environment": {
            "git_commit": str, "device": str, "machine": str, "precision": str,
            "versions": dict.fromkeys(("python", "torch", "timm", "numpy"), str),
        },
    }  # fmt: skip
    for record in records(grid.out):
        assert list(lacking(record, expected)) == []


def lacking(value: Any, expected: Any, where: str = "record") -> Iterator[str]:
    """The places where ``value`` lacks what ``expected`` describes."""
    if not isinstance(expected, dict):
        if not isinstance(value, expected):
            yield f"{where} is {value!r}"
        return
    for key, inner in expected.items():
        if not isinstance(value, dict) or key not in value:
            yield f"{where}.{key} is missing"
        else:
            yield from lacking(value[key], inner, f"{where}.{key}")


def test_records_are_sane_and_within_the_budget(grid: Finished) -> None:
    asked = set()
    for run, record in zip(grid.runs(), records(grid.out), strict=True):
        asked.add((record["method"]["name"], record["compression"]["asked"]))
        assert abs(record["compression"]["reached"] - record["compression"]["asked"]) <= 0.01
        for chosen in record["accuracy"].values():
            assert 0 <= chosen["overall"] <= 100 and 0 <= chosen["mean_class"] <= 100
        assert record["run"] == run.name
        assert record["cost"]["student"]["macs"] < record["cost"]["teacher"]["macs"]
        assert record["cost"]["student"]["bytes"] < record["cost"]["teacher"]["bytes"]
        lines = (run / "progress.jsonl").read_text().splitlines()
        own = {"dan_student": 4, "itmc": 3}[record["method"]["name"]]  # ITMC's first is its lead
        assert record["training"]["epochs"] == 2 and len(lines) == own
        last = json.loads(lines[-1])["accuracy"]
        assert last == record["accuracy"]["last"]
        assert record["accuracy"]["oracle"]["overall"] >= last["overall"]
        present = {path.name for path in run.iterdir()}
        assert {"config.yaml", "student.json", "student.safetensors"} <= present
        assert not {"checkpoint.pt", "failure.json"} & present
    assert asked == {(m, c) for m in ("dan_student", "itmc") for c in (0.5, 0.75)}


def state_of(out: Path) -> dict[str, tuple[int, bytes]]:
    files = [p for p in out.rglob("*") if p.is_file() and "summary" not in p.parts]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_the_same_command_again_trains_nothing(grid: Finished, here: Call) -> None:
    before = state_of(grid.out)
    answer = here(*GRID, "--out", grid.out)
    assert answer.code == 0
    assert state_of(grid.out) == before
    assert "(4 finished already)" in answer.err
    assert "[1/4]" not in answer.err
    assert "ITMC" in answer.out


def test_its_leaderboard_gives_its_table_and_tells_what_runs_otherwise(
    grid: Finished, here: Call, tmp_path: Path
) -> None:
    board = grid.out / "summary" / "leaderboard.csv"
    shown = tmp_path / "table.md"
    assert results_table.main([str(board), "--format", "markdown", "--out", str(shown)]) == 0
    assert shown.read_bytes() == (grid.out / "summary" / "table.md").read_bytes()
    part = ("digits", "--methods", "dan_student", "--compression", "0.5", *SMALL)
    for name, change, code in (("again", (), 0), ("other", ("--set", "dan_student.weight=9"), 1)):
        out = tmp_path / name
        assert here(*part, *change, "--out", out).code == 0
        assert diff.main([str(board), str(out), "--part", "--fail-on", "any"]) == code


def test_two_seeds_give_one_row_of_two(grid: Finished, here: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(grid.out, out)
    options = ("--methods", "dan_student", "--compression", "0.5", "--seeds", "0,1")
    answer = here(*GRID, *options, "--out", out)
    assert answer.code == 0, answer.err
    assert "(1 finished already)" in answer.err
    rows = [r for r in table(out) if r["method"] == "dan_student" and r["compression"] == "0.5"]
    assert {row["n"] for row in rows} == {"2"}
    assert len({row["task"] for row in rows}) == len(rows)
    seeds = {r["seed"]: r for r in records(out) if r["method"]["name"] == "dan_student"}
    accuracies = [seeds[seed]["accuracy"]["last"]["overall"] for seed in (0, 1)]
    assert accuracies[0] != accuracies[1]


def test_a_dry_run_lists_all_and_runs_nothing(here: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    methods = ("--methods", "dan,kd,itmc", "--compression", "0.5")
    by_dan = ("--set", "kd.teacher=dan", "--set", "itmc.discrepancy=dan")
    answer = here("digits", *methods, *by_dan, *SMALL, "--out", out, "--dry-run")
    assert answer.code == 0
    assert not out.exists()
    lines = [line.strip() for line in answer.out.splitlines()]
    # All three start from one pretraining, and the network adapted by DAN is shared too; that of
    # ITMC's lead is adapted less far.
    assert "3 shared stages:" in lines and "3 runs:" in lines
    assert sum("pretrain, hand->print seed 0:" in line for line in lines) == 1
    shared = [line for line in lines if "adapt by dan, hand->print seed 0:" in line]
    assert sorted(line.rpartition(", ")[2] for line in shared) == ["for 1 runs", "for 2 runs"]
    assert all(re.search(r": [\d.]+ GFLOPs, for \d runs$", line) for line in shared)
    assert lines[-1].startswith("to do: 6 of 6 jobs, ")


def test_a_dry_run_knows_what_is_finished(grid: Finished, here: Call) -> None:
    answer = here(*GRID, "--out", grid.out, "--dry-run")
    assert answer.out.count(", finished") == 6  # four runs, the pretraining and ITMC's teacher
    assert "to do: 0 of" in answer.out


def test_a_run_that_fails_stops_no_other(here: Call, tmp_path: Path) -> None:
    """At this temperature all logits are infinite, so that KD is no number in its first step."""
    out = tmp_path / "out"
    command = ("digits", "--methods", "source_only,kd", "--compression", "0.5", *SMALL)
    answer = here(*command, "--set", "kd.temperature=1e-39", "--out", out)
    assert answer.code == 1
    (failure,) = failures(out)
    assert failure["title"] == "kd hand->print c=0.5 seed 0"
    assert "'kd_source'" in failure["reason"] and "step 0" in failure["reason"]
    assert "NotFiniteError" in failure["traceback"]
    last = answer.err.splitlines()[-1]
    assert last.startswith("FAILED kd hand->print c=0.5 seed 0: ") and "kd_source" in last
    assert "Traceback" not in answer.err
    assert [r["method"]["name"] for r in records(out)] == ["source_only"]
    assert "Source only" in answer.out
    # What failed stands in the table, as missing.
    assert {row["method"]: row["n"] for row in table(out)} == {"source_only": "1", "kd": "0"}
    assert "1 are missing: 1 failed" in answer.out
    assert not list(out.glob("*/record.json.*"))


def test_what_needs_a_failed_stage_fails_and_is_taken_up_after_the_repair(
    grid: Finished, here: Call, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(grid.out, out)
    (pretrained,) = (
        path for path in (out / "stages").iterdir()
        if "discrepancy" not in (path / "progress.jsonl").read_text()
    )  # fmt: skip
    weights = pretrained / "student.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    command = ("digits", "--methods", "source_only", *SMALL, "--out", out)
    answer = here(*command)
    assert answer.code == 1
    (failure,) = failures(out)
    assert "student.safetensors" in failure["reason"] and pretrained.name in failure["reason"]
    assert answer.err.splitlines()[-1].startswith("FAILED source_only hand->print seed 0: ")
    shutil.rmtree(pretrained)
    answer = here(*command)
    assert answer.code == 0, answer.err
    assert failures(out) == []
    assert len(records(out)) == 5


# Long enough to be stopped in the middle, short enough to be finished afterwards.
LONG = (
    "digits", "--methods", "source_only", "--tasks", "hand->print", "--epochs", "1",
    "--set", "training.pretrain_epochs=4", "--set", "training.steps_per_epoch=40",
)  # fmt: skip


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command; returns once it is in the middle of its first stage, or as told."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, wait: bool = True) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "suites.run", *LONG, *arguments, "--out", str(tmp_path / "out")],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        if wait:
            until(lambda: any(epochs_logged(tmp_path / "out")) or process.poll() is not None)
            assert process.poll() is None, process.communicate()
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def epochs_logged(out: Path) -> list[int]:
    return [len(p.read_text().splitlines()) for p in out.glob("stages/*/progress.jsonl")]


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come true in time"
        time.sleep(0.05)


def session_of(leader: int) -> list[int]:
    """The processes of a session that are alive."""
    alive = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(status[3]) == leader and status[0] not in "ZX":
            alive.append(int(folder.name))
    return alive


def workers_of(leader: int) -> list[int]:
    """The processes that train: children of the fork server, which is the command's child."""

    def parent(of: int) -> int:
        return int(Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()[1])

    others = [pid for pid in session_of(leader) if pid != leader]
    return [p for p in others if parent(p) != leader and parent(parent(p)) == leader]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_ctrl_c_while_the_workers_start_leaves_no_traceback(
    training: Callable[..., subprocess.Popen[str]],
) -> None:
    process = training(wait=False)
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any(line == "1 runs, 2 shared stages\n" for line in said)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "stopped; the same command takes up where it stopped\n"
    until(lambda: session_of(process.pid) == [], seconds=30)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_ctrl_c_stops_all_and_the_same_command_finishes(
    training: Callable[..., subprocess.Popen[str]], here: Call, tmp_path: Path
) -> None:
    process = training()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command takes up where it stopped" in err.splitlines()[-1]
    assert "Traceback" not in err
    until(lambda: session_of(process.pid) == [], seconds=30)
    out = tmp_path / "out"
    (done,) = epochs_logged(out)
    assert 1 <= done < 4
    assert failures(out) == records(out) == []
    answer = here(*LONG, "--out", out)
    assert answer.code == 0, answer.err
    assert len(records(out)) == 1
    assert list(out.glob("**/checkpoint.pt")) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_a_killed_worker_fails_alone_and_is_taken_up(
    training: Callable[..., subprocess.Popen[str]], here: Call, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = training("--seeds", "0,1", "--jobs", "2")
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    (failure,) = failures(out)
    assert "killed by SIGKILL" in failure["reason"]
    last = err.splitlines()[-1]
    assert last.startswith(f"FAILED {failure['title']}: ") and "killed by SIGKILL" in last
    assert "Traceback" not in err
    (finished,) = records(out)
    assert f"seed {1 - finished['seed']}" in failure["title"]
    answer = here(*LONG, "--seeds", "0,1", "--out", out)
    assert answer.code == 0, answer.err
    assert "(1 finished already)" in answer.err
    assert sorted(record["seed"] for record in records(out)) == [0, 1]
    assert failures(out) == []
