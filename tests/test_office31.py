"""Real images and weights: Office-31 and ImageNet's MobileNetV2, where they are at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from itmc.domains.augment import DataConfig, plain
from itmc.domains.catalog import dataset
from itmc.domains.prepare import prepare
from itmc.domains.progress import Silent
from itmc.domains.store import Domain
from itmc.networks.backbones import create_backbone
from tests.shared import SHARED, at_hand

REPOSITORY = Path(__file__).parents[1]
IMAGES = SHARED / "data" / "office31"
WEIGHTS = SHARED / "weights" / "mobilenetv2_tv_bncalib_imagenet_backbone.pth"
COUNTS = {"dslr": 498, "webcam": 795}

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module", autouse=True)
def _shared() -> None:
    for path in (IMAGES, WEIGHTS):
        at_hand(str(path))
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared images: one folder for the session, also where workers share it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "office31-store"


@pytest.fixture(scope="module")
def domains(store: Path) -> dict[str, Domain]:
    spec = dataset("office31")
    return prepare(spec, list(COUNTS), store / "office31", Silent(), IMAGES)


def test_the_copy_is_the_official_one(domains: dict[str, Domain]) -> None:
    for name, count in COUNTS.items():
        assert dataset("office31").domains[name].count == len(domains[name].images) == count
        assert set(domains[name].labels.tolist()) == set(range(31))
        assert domains[name].images.shape[1:] == (256, 256, 3)


def features(domain: Domain, per_class: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Frozen ImageNet features of some images of each class, of unit length."""
    backbone = create_backbone("mobilenet_v2", weights_file=str(WEIGHTS)).eval()
    members = [np.flatnonzero(domain.labels == label) for label in range(31)]
    # Spread over the class: neighbours in the list are views of one object.
    rows = np.concatenate([m[np.linspace(0, len(m) - 1, per_class).astype(int)] for m in members])
    config = DataConfig(image_size=112)
    with torch.inference_mode():
        pooled = [
            backbone(plain(torch.from_numpy(domain.images[rows[start : start + 64]]), config))
            for start in range(0, len(rows), 64)
        ]
    return F.normalize(torch.cat(pooled)).numpy(), domain.labels[rows]


def test_frozen_features_carry_from_webcam_to_dslr(domains: dict[str, Domain]) -> None:
    """Decoding, channel order, normalisation and weights are right together, or it is not so."""
    known, labels = features(domains["webcam"], per_class=8)
    asked, truth = features(domains["dslr"], per_class=8)
    nearest = labels[(asked @ known.T).argmax(1)]
    assert 100 * (nearest == truth).mean() > 92


def test_a_real_run_from_webcam_to_dslr(store: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "suites.run", "office31", "--data-root", IMAGES,
            "--backbone", "mobilenet_v2", "--weights", WEIGHTS, "--tasks", "W->D",
            "--methods", "source_only,itmc", "--compression", "0.5", "--seeds", "0",
            "--epochs", "1", "--set", "training.steps_per_epoch=2", "--image-size", "64",
            "--set", "itmc.bn_batches=2", "--out", tmp_path / "out",
        ],
        cwd=REPOSITORY, env=os.environ | {"ITMC_STORE": str(store)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr  # the counts are the official ones
    records = [json.loads(path.read_text()) for path in tmp_path.glob("out/*/record.json")]
    assert {record["method"]["name"] for record in records} == {"source_only", "itmc"}
    for record in records:
        assert record["network"]["weights"] == WEIGHTS.name
        assert len(record["network"]["weights_sha256"]) == 64
        assert abs(record["compression"]["reached"] - record["compression"]["asked"]) <= 0.01
        assert record["task"]["name"] == "webcam->dslr"
        assert record["dataset"]["images"] == {"webcam": 795, "dslr": 498}
