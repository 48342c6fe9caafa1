"""A run loads and opens what it needs, and nothing else."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from itmc.networks import kinds
from itmc.networks.kinds import Kind
from suites.plan import keys_of, plan
from suites.worker import execute
from tests.suites.conftest import REPOSITORY
from tests.suites.tiny_runs import config, few_images, places, silent

SLOW = ("timm", "torchvision", "torch_pruning", "sklearn", "fvcore", "requests", "torch._dynamo")

RUN = """
import json, sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)
from suites.config import Places, RunConfig
from suites.worker import execute
from tests.suites.tiny_runs import few_images
run, places = RunConfig.model_validate_json(sys.argv[1]), Places.model_validate_json(sys.argv[2])
with few_images():
    execute(run, run.key, places, lambda *_: None, lambda *_: None)
print(json.dumps(sorted({str(Path(p).resolve()) for p in opened if isinstance(p, str)})))
"""


def python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=True,
    ).stdout  # fmt: skip


def test_a_worker_loads_nothing_that_only_some_runs_need() -> None:
    loaded = python("import sys, suites.worker; print(*sys.modules)").split()
    assert "torch" in loaded and not set(SLOW) & set(loaded)


NAMES = {name for kind in vars(kinds).values() if isinstance(kind, Kind) for name in kind.names}


@pytest.mark.parametrize("name", sorted(NAMES | {kinds.SHIFTED_WINDOWS}))
def test_the_libraries_have_the_classes_that_are_looked_for(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert kinds.name_of(getattr(importlib.import_module(module), attribute)) == name


def test_a_run_opens_its_own_domains_and_stages_only(tmp_path: Path, store: Path) -> None:
    run, other = config("dan_student", epochs=1), config("kd", epochs=1)
    where = places(tmp_path, store)
    with few_images():
        for job in plan([run, other]).jobs:
            if job.key != run.key:
                execute(job.run, job.key, where, silent, silent)
    opened = json.loads(
        python(RUN, run.model_dump_json(), where.model_dump_json()).splitlines()[-1]
    )
    data, out = where.data.resolve(), tmp_path.resolve()
    domains = {Path(p).relative_to(data).parts[0] for p in opened if p.startswith(f"{data}/")}
    assert domains == {run.source, run.target}
    inside = {Path(p).relative_to(out).parts for p in opened if p.startswith(f"{out}/")}
    folders = {parts[1] if parts[0] == "stages" else parts[0] for parts in inside}
    assert run.key in folders and folders <= keys_of(run)
