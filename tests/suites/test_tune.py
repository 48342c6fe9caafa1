"""``python -m suites.tune``: equal effort, no target label, and a choice that can be run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from itmc.errors import UsageError
from suites import tune
from suites.config import load_suite
from tests.suites.conftest import Answer

SMALL = {
    "extends": "digits",
    "training": {"epochs": 1, "pretrain_epochs": 1, "steps_per_epoch": 3},
    "tasks": ["hand->scene"],
}
TUNING = {
    "tasks": ["hand->print"],
    "compression": [0.5],
    "seeds": [3],
    "criterion": "entropy",
    "trials": 2,
    "grids": {"kd": {"alpha": [0.5, 0.9]}, "dan": {"weight": [0.0, 5.0]}},
}


def write(folder: Path, **changes: Any) -> Path:
    """A suite file with these changes of its section on tuning."""
    # `tuning` as a whole, not merged into that of digits: so its grids are the ones above alone.
    content = yaml.safe_load(Path(load.__file__ or "").with_name("digits.yaml").read_text())
    content |= {key: value for key, value in SMALL.items() if key not in ("extends", "training")}
    content["training"] |= SMALL["training"]
    content["tuning"] = TUNING | changes
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


import suites as load  # noqa: E402


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = tune.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run
