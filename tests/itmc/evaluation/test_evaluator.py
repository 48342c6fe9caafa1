"""What the evaluator says of targets without labels, of a test part, and with ten crops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Labelled
from itmc.domains.store import Domain
from itmc.errors import UsageError
from itmc.evaluation.evaluator import SELECTORS, Evaluator, select
from itmc.networks.build import Network, NetworkConfig, build

DATA = DataConfig(image_size=16, augment="none", flip=True, test_crop=0.8)
LABELS = np.arange(30) % 3
NONE = np.full(30, -1)


def network() -> Network:
    return build(NetworkConfig(bottleneck=8, classes=3, image_size=16))


def domain(labels: np.ndarray, rows: np.ndarray | None = None) -> Domain:
    """Thirty images with these labels, of which ``rows`` are to be tested on."""
    images = np.random.default_rng(1).integers(0, 256, (30, 20, 20, 3), dtype=np.uint8)
    return Domain("own", images, labels.astype(np.int64), digest="", tested=rows)


def evaluator(target: Domain, data: DataConfig = DATA, crops: int = 1) -> Evaluator:
    source = domain(LABELS)
    training, validation = (
        Labelled(source.images, source.labels, rows) for rows in np.split(np.arange(30), [20])
    )
    return Evaluator(training, validation, target, data, torch.device("cpu"), crops)


def test_a_target_without_labels_has_no_accuracy_and_the_same_scores() -> None:
    judged = network()
    with_labels, without = (evaluator(domain(labels))(judged) for labels in (LABELS, NONE))
    assert without["accuracy"] is None
    assert with_labels["accuracy"].keys() == {"overall", "mean_class"}
    assert without["scores"] == with_labels["scores"]
    assert without["scores"].keys() == set(SELECTORS)


def test_a_teacher_is_judged_beside_the_student_and_left_as_it_was() -> None:
    student, teacher = network(), build(NetworkConfig(bottleneck=8, classes=3, image_size=16), 5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    judge = evaluator(domain(LABELS))
    together = judge(student, teacher.train())
    guidance = together.pop("guidance")
    assert together == judge(student)
    assert guidance["teacher"] == judge(teacher)["accuracy"]["overall"]
    assert judge(student, student)["guidance"]["agrees_wrong"] == 100
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_of_a_target_without_labels_no_guidance_is_known() -> None:
    assert evaluator(domain(NONE))(network(), network())["guidance"] is None


def test_only_the_tested_rows_of_a_target_count() -> None:
    judged, rows = network(), np.array([3, 4, 8, 17, 18, 29])
    whole = domain(LABELS)
    part = Domain("own", whole.images[rows], whole.labels[rows], digest="")
    assert evaluator(domain(LABELS, rows))(judged) == evaluator(part)(judged)
    assert evaluator(domain(LABELS, rows))(judged) != evaluator(whole)(judged)


def test_labels_of_rows_that_are_not_tested_are_not_needed() -> None:
    labels = np.where(np.arange(30) < 10, LABELS, -1)
    judged = network()
    tested, rest = (evaluator(domain(labels, rows)) for rows in np.split(np.arange(30), [10]))
    assert tested(judged)["accuracy"] is not None
    assert rest(judged)["accuracy"] is None


def test_a_target_of_which_some_labels_are_missing_is_refused() -> None:
    labels = np.where(np.arange(30) < 10, LABELS, -1)
    with pytest.raises(UsageError, match="'own' lacks the labels of 20 of 30 images") as raised:
        evaluator(domain(labels))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("crops", "asked"), [(10, 1), (1, 10), (10, 10)])
def test_ten_crops_are_tested_where_either_asks_for_them(crops: int, asked: int) -> None:
    judged = network()
    ten = evaluator(domain(LABELS), crops=10)(judged)["scores"]["entropy"]
    data = DATA.model_copy(update={"test_crops": asked})
    assert evaluator(domain(LABELS), data, crops)(judged)["scores"]["entropy"] == ten
    assert evaluator(domain(LABELS))(judged)["scores"]["entropy"] != ten


def entry(epoch: int, accuracy: float | None, macs: int = 10, **scores: float) -> dict[str, Any]:
    """An epoch of a log, with this accuracy and these scores."""
    both = None if accuracy is None else {"overall": accuracy, "mean_class": accuracy - 1}
    return {"epoch": epoch, "macs": macs, "accuracy": both, "scores": scores}


def test_without_labels_validators_choose_and_nothing_else_does() -> None:
    history = [
        entry(0, None, entropy=-0.1, snd=5.0),  # not among the last three
        entry(1, None, entropy=-0.2, snd=1.0),
        entry(2, None, macs=99, entropy=0.0, snd=9.0),  # above the budget
        entry(3, None, entropy=-0.4, snd=3.0),
    ]
    assert select(history, budget=10, among=3) == {
        "last": None,
        "oracle": None,
        "entropy": {"epoch": 1, "score": -0.2},
        "snd": {"epoch": 3, "score": 3.0},
        "source_validation": None,
        "infomax": None,
        "dev": None,
    }


def test_with_labels_each_choice_tells_its_accuracy() -> None:
    history = [entry(0, 70.0, entropy=-0.1), entry(1, 90.0, entropy=-0.3), entry(2, 80.0)]
    chosen = select(history, budget=10, among=3)
    assert chosen["last"] == {"overall": 80.0, "mean_class": 79.0}
    assert chosen["oracle"] == {"epoch": 1, "overall": 90.0, "mean_class": 89.0}
    assert chosen["entropy"] == {"epoch": 0, "score": -0.1, "overall": 70.0, "mean_class": 69.0}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 5)), min_size=1, max_size=8))
def test_labels_change_no_choice_of_a_validator(epochs: list[tuple[float, float]]) -> None:
    chosen = [
        select(
            [
                entry(number, accuracy if labelled else None, snd=score)
                for number, (accuracy, score) in enumerate(epochs)
            ],
            budget=math.inf,
            among=len(epochs),
        )["snd"]
        for labelled in (True, False)
    ]
    assert chosen[1] == {key: chosen[0][key] for key in ("epoch", "score")}
