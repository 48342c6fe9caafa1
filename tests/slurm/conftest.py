"""What tests of the commands for clusters share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itmc.domains.progress import Silent
from slurm import retry, status, submit
from suites.options import Machine
from suites.planning import Planned, planned
from tests.slurm.fake import FakeCluster
from tests.suites.conftest import SMALL, Answer, Call

GRID = (
    "digits", "--methods", "source_only,kd", "--compression", "0.5", "--device", "cpu", *SMALL,
)  # fmt: skip
"""Two runs and three stages on three levels."""


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One store of prepared domains for the session, also where workers share it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITMC_STORE", str(shared / "store"))
        yield


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster on the path, and none besides it."""
    made = FakeCluster(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{made.programs}:{_without_slurm(tmp_path)}")
    return made


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the commands of a cluster."""
    monkeypatch.setenv("PATH", str(_without_slurm(tmp_path)))


def _without_slurm(folder: Path) -> Path:
    """The programs that tests need, and not those of a SLURM that is installed here."""
    found = folder / "programs"
    found.mkdir()
    for name in ("bash", "cat", "cp", "git", "sed", "seq"):
        places = (Path(place) / name for place in os.environ["PATH"].split(os.pathsep))
        (found / name).symlink_to(next(place for place in places if place.exists()))
    return found


@pytest.fixture
def asked(tmp_path: Path) -> Planned:
    """GRID, planned for ``tmp_path / "out"``."""
    options = submit._parser().parse_args([*GRID, "--out", str(tmp_path / "out")])
    return planned(options, Silent(), Machine("cpu", 1))


def _command(main: Callable[[list[str]], int], capfd: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture(name="submit")
def _submit(capfd: pytest.CaptureFixture[str]) -> Call:
    """``slurm.submit`` in this process."""
    return _command(submit.main, capfd)


@pytest.fixture(name="status")
def _status(capfd: pytest.CaptureFixture[str]) -> Call:
    """``slurm.status`` in this process."""
    return _command(status.main, capfd)


@pytest.fixture(name="retry")
def _retry(capfd: pytest.CaptureFixture[str]) -> Call:
    """``slurm.retry`` in this process."""
    return _command(retry.main, capfd)
