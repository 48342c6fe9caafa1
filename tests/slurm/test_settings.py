"""What a job asks for: ways to write it, what overrides what, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from itmc.errors import UsageError
from slurm.settings import (
    ClusterSettings,
    add_cluster_options,
    cluster_names,
    minutes,
    settings_of,
)

NUMBER = st.integers(0, 200)


def settings(*words: str, base: dict[str, Any] | None = None) -> ClusterSettings:
    parser = argparse.ArgumentParser()
    add_cluster_options(parser)
    return settings_of(parser.parse_args(words), base)


def refusal(*words: str) -> str:
    with pytest.raises(UsageError) as refused:
        settings(*words)
    said = str(refused.value)
    assert "\n" not in said
    return said


def yaml(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@given(days=NUMBER, hours=NUMBER, mins=NUMBER, seconds=NUMBER)
def test_every_way_to_write_a_time(days: int, hours: int, mins: int, seconds: int) -> None:
    """As sbatch's manual lists them; seconds that begin a minute count as one."""
    in_seconds = {
        f"{mins}": mins * 60,
        f"{mins}:{seconds}": mins * 60 + seconds,
        f"{hours}:{mins}:{seconds}": hours * 3600 + mins * 60 + seconds,
        f"{days}-{hours}": days * 86400 + hours * 3600,
        f"{days}-{hours}:{mins}": days * 86400 + hours * 3600 + mins * 60,
        f"{days}-{hours}:{mins:02}:{seconds:02}": ((days * 24 + hours) * 60 + mins) * 60 + seconds,
    }
    for text, total in in_seconds.items():
        assert minutes(text) == -(-total // 60), text


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1:2:3:4", "1-", "-1:00", "1.5", "2 h", "1-2-3", "8:", ":30"]
)
def test_what_is_no_time(text: str) -> None:
    said = refusal(f"--time={text}")
    assert said.startswith(f"--time {text!r}: ") and "HH:MM:SS" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--time", "0"), "--time 0"),
        (("--time", "0:30"), "a --time of 1 min is over before"),
        (("--nodes", "0"), "--nodes '0'"),
        (("--nodes", "two"), "--nodes 'two'"),
        (("--gpus-per-node", "-1"), "--gpus-per-node '-1'"),
        (("--cpus-per-task", "1.5"), "--cpus-per-task '1.5'"),
        (("--runs-per-job", "0"), "--runs-per-job '0'"),
        (("--array-parallelism", "0"), "--array-parallelism '0'"),
        (("--mem", "lots"), "--mem 'lots'"),
        (("--mem", "1.5GB"), "--mem '1.5GB'"),
        (("--mem", "16B"), "--mem '16B'"),
        (("--runs-per-job", "2", "--nodes", "2"), "runs_per_job 2"),
        (("--runs-per-job", "2", "--gpus-per-node", "2"), "gpus_per_node is 2"),
        (("--cluster-file", "none_such"), "allowed: cpu, gpu, or a YAML file"),
        (("--cluster-file", "none_such.yaml"), "there is no such file"),
    ],
)
def test_a_bad_option_is_named(words: tuple[str, ...], named: str) -> None:
    assert named in refusal(*(f"{a}={b}" for a, b in zip(words[::2], words[1::2], strict=True)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("partitoin: gpu", "unknown cluster setting 'partitoin'; allowed: partition, account"),
        ("nodes: 0", "cluster setting nodes 0"),
        ("time: true", "cluster setting time True"),
        ("time: 8:00:00", "write the time in quotes"),
        ("partition: cpu\ntime:  30:00\n", "write the time in quotes"),
        ("sbatch: {exclude: [node7]}", "cluster setting sbatch"),
        ("sbatch: 5", "cluster setting sbatch 5"),
        ("signal_seconds: 1", "cluster setting signal_seconds 1"),
        ("tflops: 0", "cluster setting tflops 0"),
        ("1: 2", "cluster setting 1 1: Keys should be strings"),
        ("- partition", "holds no mapping"),
        ("", "holds no mapping"),
        ("{", "no valid YAML"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, named: str) -> None:
    assert named in refusal("--cluster-file", yaml(tmp_path, text))


def test_options_before_the_file_before_the_defaults(tmp_path: Path) -> None:
    file = yaml(tmp_path, "partition: long\ntime: '2:00:00'\nsetup: module load cuda\nmem: 500")
    found = settings("--cluster-file", file, "--time", "1-12", "--mem", "16GB")
    assert (found.partition, found.time, found.mem) == ("long", 36 * 60, "16GB")
    assert found.setup == ["module load cuda"]
    assert found.nodes == 1 and found.account is None
    assert settings("--cluster-file", file).mem == "500"
    assert settings("--cluster-file", file, "--setup", "a", "--setup", "b").setup == ["a", "b"]


def test_the_file_stands_in_for_the_settings_before() -> None:
    base = {"partition": "old", "account": "me"}
    assert settings(base=base).partition == "old"
    assert settings("--partition", "new", base=base).account == "me"
    assert settings("--cluster-file", "cpu", base=base).account is None


def test_a_packed_job_has_a_core_for_each_run() -> None:
    assert settings("--runs-per-job", "4").cpus == 4
    assert settings("--runs-per-job", "4", "--cpus-per-task", "2").cpus == 2
    assert settings("--gpus-per-node", "0").tasks_per_node == 1
    assert settings("--gpus-per-node", "4", "--nodes", "2").processes == 8


def test_the_pace_that_is_assumed() -> None:
    """Of a GPU or of a core, unless the file names one."""
    assert settings().tflops is None
    assert settings("--gpus-per-node", "1").assumed_tflops == 5
    assert settings("--gpus-per-node", "0").assumed_tflops == 0.03
    assert settings("--gpus-per-node", "1", base={"tflops": 7}).assumed_tflops == 7


def test_the_files_that_come_with_the_project() -> None:
    assert cluster_names() == ["cpu", "gpu"]
    cpu, gpu = (settings("--cluster-file", name) for name in cluster_names())
    assert (cpu.gpus_per_node, cpu.time, cpu.runs_per_job) == (0, 24 * 60, 8)
    assert (gpu.gpus_per_node, gpu.time, gpu.partition) == (1, 8 * 60, "gpu")
