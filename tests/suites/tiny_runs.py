"""A run small enough to be computed many times, on the digits' first images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from itmc.domains.augment import DataConfig
from itmc.domains.store import Domain, open_domain
from itmc.networks.build import NetworkConfig
from itmc.training.config import TrainingConfig
from itmc.training.control import Control
from itmc.training.method import knobs_of, method as method_of
from suites import worker
from suites.config import Places, RunConfig
from tests.suites.conftest import prepared

EPOCHS, STEPS = 5, 4


@contextmanager
def few_images() -> Iterator[None]:
    """Inside, jobs have the first images of each domain, so that evaluating takes no time."""

    def few(place: Path) -> Domain:
        whole = open_domain(place)
        return Domain(whole.name, whole.images[:200], whole.labels[:200], digest=whole.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "open_domain", few)
        yield


def config(method: str, epochs: int = EPOCHS) -> RunConfig:
    """A run with pruning events after each of the first epochs."""
    return RunConfig(
        suite="tiny", protocol="strict", dataset="digits",
        digests={"hand": "hand", "print": "print"}, images={"hand": 200, "print": 200},
        classes=tuple("0123456789"), stored_size=32,
        source="hand", target="print", task_index=0, method=method,
        knobs=knobs_of(method, {}).model_dump(mode="json"),
        compression=0.75 if method_of(method).compressed else 0.0, seed=0,
        network=NetworkConfig(bottleneck=16, classes=10, image_size=16),
        data=DataConfig(image_size=16, augment="shift", flip=True, test_crop=1.0),
        training=TrainingConfig(
            epochs=epochs, pretrain_epochs=1, steps_per_epoch=STEPS, batch_size=16, lr=0.05,
            new_layer_lr=1.0, precision="fp32",
        ),
    )  # fmt: skip


def places(out: Path, store: Path) -> Places:
    return Places(out=out, data=prepared(store), threads=1)


def silent(*_: object) -> None:
    """No report."""


def ever_saving() -> Control:
    """Has a checkpoint written at the end of each epoch, whatever it costs."""
    return Control(share=1e9)


def assert_same_result(first: Path, second: Path) -> None:
    """The weights of two folders to the bit, and what is recorded but for times and places."""
    for name in ("student.safetensors", "student.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    one, other = (
        [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
        for folder in (first, second)
    )
    for entry in (*one, *other):
        del entry["seconds"]
    assert one == other
    if (first / "record.json").exists():  # else it is a shared stage
        records = [json.loads((f / "record.json").read_text()) for f in (first, second)]
        for part in ("accuracy", "scores", "compression", "history"):
            assert records[0][part] == records[1][part]
