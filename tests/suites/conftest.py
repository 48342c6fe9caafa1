"""What tests of the suite runner share: the command as a user calls it, small settings, data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from itmc.domains.catalog import dataset
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from suites.data import main as data_main
from suites.run import main

REPOSITORY = Path(__file__).parents[2]
SMALL = (
    "--epochs", "2", "--set", "training.pretrain_epochs=1", "--set", "training.steps_per_epoch=4",
    "--tasks", "hand->print",
)  # fmt: skip
"""Settings that train for seconds; later options override them."""


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of prepared domains: one for the session, also where workers share it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store"


def prepared(store: Path) -> Path:
    """Folder of the digits' domains, which are in ``store`` afterwards."""
    prepare(dataset("digits"), ["hand", "print", "scene"], store / "digits", Silent())
    return store / "digits"


@pytest.fixture(scope="session", autouse=True)
def _environment(store: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITMC_STORE", str(store))
        yield


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in a process of its own, as a user calls it."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "suites.run", *map(str, arguments)],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Call:
    """The command in this process, which saves its imports."""

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def fake_office31(tmp_path: Path) -> Path:
    """Two domains in the layout of Office-31: 31 classes of two random JPEGs each."""
    random = np.random.default_rng(0)
    for domain in ("dslr", "webcam"):
        for name in dataset("office31").classes:
            folder = tmp_path / "office31" / domain / "images" / name
            folder.mkdir(parents=True)
            for index in (1, 2):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"frame_{index:04}.jpg")
    return tmp_path / "office31"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    monkeypatch.setenv("ITMC_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def data(home: Path, capfd: pytest.CaptureFixture[str]) -> Call:
    """``suites.data`` in this process, with a store of the test's own."""

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        code = data_main([str(argument) for argument in arguments])
        return Answer(code, *capfd.readouterr())

    return call
