"""Clusters for the tests of this folder, and what keeps tests apart that share one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.slurm_cluster.cluster import JOB_VARIABLES, Cluster
from tests.slurm_cluster.config import Settings
from tests.slurm_cluster.programs import PACKAGES, missing_programs


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with accounting, started once for all tests of a process.

    Each worker of a parallel run has its own, with its own folder and ports. A test that uses it
    finds it empty, and the commands of its process find it too.
    """
    yield from _started(Settings())


@pytest.fixture(scope="session")
def cluster_without_accounting() -> Iterator[Cluster]:
    """The same without slurmdbd: `sacct` fails, as on clusters that do not keep books."""
    yield from _started(Settings(accounting="none"))


def _started(settings: Settings) -> Iterator[Cluster]:
    """A cluster of these settings; without SLURM the test is skipped, or fails.

    It fails where `ITMC_REQUIRE_SLURM` is 1.
    """
    if missing := missing_programs(settings):
        reason = f"no {' and no '.join(missing)}; to start SLURM, apt-get install {PACKAGES}"
        if os.environ.get("ITMC_REQUIRE_SLURM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with Cluster(settings) as started:
        yield started


@pytest.fixture(autouse=True)
def _on_the_cluster(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Point a test that uses a cluster to it, and leave none of its jobs behind."""
    used = [name for name in request.fixturenames if name in _CLUSTERS]
    if not used:
        yield
        return
    (name,) = used
    started: Cluster = request.getfixturevalue(name)
    for variable in [name for name in os.environ if name.startswith(JOB_VARIABLES)]:
        monkeypatch.delenv(variable)
    for variable in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(variable, started.environment[variable])
    yield
    started.clear()


_CLUSTERS = {"cluster", "cluster_without_accounting"}
