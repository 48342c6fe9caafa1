"""The protocol ``paper``: what the papers' own code did, apart from ours."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import suites.config  # noqa: F401 - registers all methods
from itmc.domains.augment import DataConfig, plain, ten_crops
from itmc.domains.batches import Labelled
from itmc.domains.store import Domain
from itmc.evaluation import validators
from itmc.evaluation.evaluator import Evaluator
from itmc.networks.build import Network, NetworkConfig, build
from itmc.training.adapt import Adapt
from itmc.training.method import Role, Start, knobs_of, methods
from tests.suites.conftest import SMALL, Call

START = Start(*(Adapt.node(None, network=role, pretraining=True) for role in get_args(Role)))
COMMAND = ("digits", "--methods", "cdan,dan_student", "--compression", "0.5", *SMALL)


def records(out: Path, protocol: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in out.glob("*/record.json")]
    return {r["method"]["name"]: r for r in found if r["protocol"] == protocol}


def test_both_protocols_in_one_folder_are_two_tables(here: Call, tmp_path: Path) -> None:
    for protocol in ("paper", "strict"):
        answer = here(*COMMAND, "--protocol", protocol, "--out", tmp_path)
        assert answer.code == 0, answer.err
    paper, strict = (records(tmp_path, protocol) for protocol in ("paper", "strict"))
    assert set(paper) == set(strict) == {"cdan", "dan_student"}
    for record in paper.values():
        assert record["data"]["source_holdout"] == 0  # papers train on the whole source
        assert record["accuracy"]["source_validation"] is None
        assert record["accuracy"]["entropy"] is not None
    with (tmp_path / "summary" / "table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "hand->print"]
    assert len(rows) == 4
    for row in rows:
        best = row["protocol"] == "paper"
        assert row["selection"] == ("oracle" if best else "last")
        record = (paper if best else strict)[row["method"]]
        shown = record["accuracy"]["oracle" if best else "last"]["overall"]
        assert float(row["mean"]) == pytest.approx(shown, abs=0.005)
    captions = [line for line in answer.out.splitlines() if line.startswith("digits: ")]
    assert [("paper" in line, "strict" in line) for line in captions] == [
        (True, False), (False, True),
    ]  # fmt: skip


def test_the_headline_of_paper_is_not_that_of_strict(here: Call) -> None:
    answer = here("digits", "--protocol", "loose", "--dry-run")
    assert answer.code == 2 and "protocol = 'loose'" in answer.err


def test_the_whole_network_by_cdan_alone_is_tested_with_ten_crops() -> None:
    crops = {
        name: Adapt.paper_crops(Adapt.Knobs(discrepancy=name), before=1.0)
        for name in ("dan", "cdan", "cdan_e", "mdd")
    }
    assert crops == {"dan": 1, "cdan": 10, "cdan_e": 10, "mdd": 1}
    # All compressed methods are tested alike.
    for name, known in methods().items():
        if known.compressed:
            for knobs in ({}, {"discrepancy": "cdan"}):
                if known.Knobs.model_fields.keys() >= knobs.keys():
                    node = known.recipe(knobs_of(name, knobs), 0.5, START)
                    assert node.paper_crops() == 1


@pytest.mark.parametrize(("flip", "count"), [(True, 10), (False, 5)])
def test_crops_are_the_corners_and_the_centre(flip: bool, count: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    images = torch.from_numpy(drawn)
    config = DataConfig(image_size=8, flip=flip, test_crop=0.75, normalise="half")
    views = list(ten_crops(images, config))
    assert len(views) == count
    whole = DataConfig(image_size=8, flip=flip, test_crop=1.0, normalise="half")
    corners = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    for view, (top, left) in zip(views, corners, strict=False):
        cut = images[:, top : top + 6, left : left + 6]
        assert torch.equal(view, plain(cut, whole))
    assert torch.equal(views[4], plain(images, config))
    # The mirrored image's left corners are the right ones of the image.
    for mirrored, index in zip(views[5:], (1, 0, 3, 2, 4), strict=False):
        assert torch.allclose(views[index].flip(3), mirrored, atol=0.02)


def test_of_several_crops_the_mean_probabilities_count() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
    labels = np.arange(6, dtype=np.int64) % 3
    config = DataConfig(image_size=16, flip=True, test_crop=0.8, normalise="half")
    network = build(NetworkConfig(bottleneck=8, classes=3, image_size=16)).eval()
    domain = Domain("target", images, labels, digest="")
    empty = Labelled(images, labels, np.arange(0))
    evaluate = Evaluator(empty, empty, domain, config, torch.device("cpu"), crops=10)
    expected = mean_probabilities(network, images, config)
    verdict = evaluate(network)
    assert verdict["accuracy"]["overall"] == validators.accuracy(expected, labels)
    entropy = -(expected * np.log(expected)).sum(1).mean()
    assert verdict["scores"]["entropy"] == pytest.approx(-entropy, rel=1e-5)


def mean_probabilities(network: Network, images: np.ndarray, config: DataConfig) -> np.ndarray:
    with torch.inference_mode():
        views = [
            network(view).logits.double().softmax(1)
            for view in ten_crops(torch.from_numpy(images), config)
        ]
    return torch.stack(views).mean(0).numpy()
