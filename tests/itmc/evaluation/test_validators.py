"""Validators against loops and known cases, and an evaluator that leaves no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Labelled
from itmc.domains.store import Domain
from itmc.evaluation import validators
from itmc.evaluation.evaluator import Evaluator
from itmc.networks.build import NetworkConfig, build

Array = np.ndarray


def logits(count: int = 12, classes: int = 4, seed: int = 0, scale: float = 2.0) -> Array:
    return scale * np.random.default_rng(seed).normal(size=(count, classes))


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(z) for z in row]
    return [power / sum(powers) for power in powers]


def looped_entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def test_accuracy_counts_rows_and_mean_class_accuracy_classes() -> None:
    predicted = np.eye(3)[[0, 0, 0, 1, 2, 2]]
    labels = np.array([0, 0, 0, 0, 2, 1])
    assert validators.accuracy(predicted, labels) == pytest.approx(100 * 4 / 6)
    per_class = [3 / 4, 0 / 1, 1 / 1]
    assert validators.mean_class_accuracy(predicted, labels) == pytest.approx(
        100 * sum(per_class) / 3
    )


def test_mean_class_accuracy_ignores_classes_that_do_not_occur() -> None:
    assert validators.mean_class_accuracy(np.eye(5)[[1, 1]], np.array([1, 2])) == 50


def test_guidance_counts_what_is_taught_and_what_of_it_is_taken_over() -> None:
    labels = np.array([0, 1, 2, 2, 0])
    teacher, student = np.eye(3)[[0, 1, 2, 0, 1]], np.eye(3)[[0, 2, 2, 0, 0]]
    found = validators.guidance(student, teacher, labels)
    assert found["teacher"] == 60
    assert found["agrees_right"] == pytest.approx(100 * 2 / 3)  # rows 0 and 2, not 1
    assert found["agrees_wrong"] == 50  # row 3, not 4
    assert validators.guidance(student, np.eye(3)[labels], labels)["agrees_wrong"] is None
    assert validators.guidance(student, np.eye(3)[labels - 1], labels)["agrees_right"] is None


def test_entropy_and_infomax_are_the_loops() -> None:
    rows = [softmax(row) for row in logits().tolist()]
    mean_entropy = sum(looped_entropy(row) for row in rows) / len(rows)
    mean_row = [sum(row[c] for row in rows) / len(rows) for c in range(4)]
    assert validators.negative_entropy(logits()) == pytest.approx(-mean_entropy, rel=1e-10)
    assert validators.infomax(logits()) == pytest.approx(
        looped_entropy(mean_row) - mean_entropy, rel=1e-9
    )


def test_entropy_prefers_certainty_and_infomax_balance_too() -> None:
    unsure, all_one, balanced = (
        np.zeros((8, 4)),
        50 * np.eye(4)[[0] * 8],
        50 * np.eye(4)[[*range(4)] * 2],
    )
    assert validators.negative_entropy(unsure) == pytest.approx(-math.log(4))
    assert validators.negative_entropy(all_one) == pytest.approx(0, abs=1e-9)
    assert validators.infomax(unsure) == pytest.approx(0, abs=1e-9)
    assert validators.infomax(all_one) == pytest.approx(0, abs=1e-9)
    assert validators.infomax(balanced) == pytest.approx(math.log(4), abs=1e-9)


def looped_snd(rows: list[list[float]]) -> float:
    units = []
    for row in rows:
        probabilities = softmax(row)
        length = math.sqrt(sum(p * p for p in probabilities))
        units.append([p / length for p in probabilities])
    total = 0.0
    for i, unit in enumerate(units):
        similar = [
            sum(a * b for a, b in zip(unit, other, strict=True)) / 0.05
            for j, other in enumerate(units)
            if j != i
        ]
        total += looped_entropy(softmax(similar))
    return total / len(units)


def test_snd_is_the_loop() -> None:
    found = validators.soft_neighbourhood_density(logits())
    assert found == pytest.approx(looped_snd(logits().tolist()), rel=1e-4)


def test_snd_is_highest_where_all_are_neighbours() -> None:
    alike = np.tile(logits(1), (9, 1))
    assert validators.soft_neighbourhood_density(alike) == pytest.approx(math.log(8), rel=1e-5)
    clusters = 50 * np.eye(3)[[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    assert validators.soft_neighbourhood_density(clusters) == pytest.approx(math.log(2), abs=1e-3)


def test_snd_of_a_large_set_looks_at_evenly_spaced_rows() -> None:
    many = logits(2500)
    assert validators.soft_neighbourhood_density(many) == pytest.approx(
        validators.soft_neighbourhood_density(many[::3]), rel=1e-6
    )


@given(st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    labels = np.arange(12) % 4
    for score in (validators.negative_entropy, validators.infomax):
        assert score(logits()[order]) == pytest.approx(score(logits()), rel=1e-10)
    assert validators.soft_neighbourhood_density(logits()[order]) == pytest.approx(
        validators.soft_neighbourhood_density(logits()), rel=1e-5
    )
    for judge in (validators.accuracy, validators.mean_class_accuracy):
        assert judge(logits()[order], labels[order]) == judge(logits(), labels)


def cross_entropies(rows: Array, labels: Array) -> list[float]:
    return [
        -math.log(softmax(row)[label])
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True)
    ]


def features(count: int, seed: int, shift: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal((shift, 0, 0), size=(count, 3))


def test_dev_of_equal_domains_is_the_plain_mean_risk() -> None:
    labels = np.arange(200) % 4
    rows = logits(200)
    plain = sum(cross_entropies(rows, labels)) / 200
    same = features(300, 1)
    exact = validators.deep_embedded_validation(same, same, features(200, 3), rows, labels)
    assert exact == pytest.approx(-plain, rel=1e-6)
    close = validators.deep_embedded_validation(
        features(900, 1), features(900, 2), features(200, 3), rows, labels
    )
    assert close == pytest.approx(-plain, rel=0.1)


def test_dev_is_the_weighted_risk_with_its_control_variate() -> None:
    from sklearn.linear_model import LogisticRegression

    source, target, validation = features(80, 1), features(50, 2, shift=1), features(40, 3)
    rows, labels = logits(40), np.arange(40) % 4
    joint = np.concatenate([source, target])
    scaled = [(x - joint.mean(0)) / joint.std(0) for x in (joint, validation)]
    classifier = LogisticRegression(tol=1e-10, max_iter=1000).fit(scaled[0], [0] * 80 + [1] * 50)
    chances = classifier.predict_proba(scaled[1])
    weights = [80 / 50 * p_target / p_source for p_source, p_target in chances.tolist()]
    losses = cross_entropies(rows, labels)
    weighted = [w * loss for w, loss in zip(weights, losses, strict=True)]
    mean_w, mean_l = sum(weights) / 40, sum(weighted) / 40
    covariance = sum((a - mean_l) * (b - mean_w) for a, b in zip(weighted, weights, strict=True))
    eta = -covariance / sum((w - mean_w) ** 2 for w in weights)
    found = validators.deep_embedded_validation(source, target, validation, rows, labels)
    assert found == pytest.approx(-(mean_l + eta * mean_w - eta), rel=1e-3)


def test_dev_counts_what_looks_like_the_target() -> None:
    # Right where the source is, wrong where the target is, or the other way round.
    source, target = features(300, 1, shift=-1), features(300, 2, shift=1)
    validation = features(400, 3, shift=-0.5)
    labels = np.zeros(400, dtype=np.int64)
    at_target = validation[:, 0] > 0.2
    right_there, wrong_there = (
        np.where((at_target == there)[:, None], [[4.0, 0.0]], [[0.0, 4.0]])
        for there in (True, False)
    )
    scores = [
        validators.deep_embedded_validation(source, target, validation, rows, labels)
        for rows in (right_there, wrong_there)
    ]
    assert scores[0] > scores[1]
    plain = [-sum(cross_entropies(rows, labels)) / 400 for rows in (right_there, wrong_there)]
    assert plain[0] < plain[1]  # the plain source risk prefers the other one


def test_dev_survives_a_dead_feature() -> None:
    dead = [np.c_[features(50, seed), np.zeros(50)] for seed in (1, 2, 3)]
    found = validators.deep_embedded_validation(*dead, logits(50), np.arange(50) % 4)
    assert math.isfinite(found)


DATA = DataConfig(image_size=16, augment="none", flip=False, test_crop=1.0)


def domain(count: int, seed: int) -> Domain:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return Domain("d", images, np.arange(count) % 4, "digest")


def evaluator(holdout: int = 20) -> Evaluator:
    source = domain(60, 0)
    parts = np.split(np.arange(60), [60 - holdout])
    training, validation = (Labelled(source.images, source.labels, part) for part in parts)
    return Evaluator(training, validation, domain(40, 1), DATA, torch.device("cpu"))


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_leaves_mode_and_statistics_as_they_were(training: bool) -> None:
    network = build(NetworkConfig(bottleneck=8, classes=4, image_size=16)).train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = evaluator()(network)
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert evaluator()(network) == first
    # Trainable afterwards: inference mode has not leaked into the weights.
    network.train()(torch.randn(2, 3, 16, 16)).logits.sum().backward()


def test_an_evaluation_judges_in_eval_mode_on_all_of_the_target() -> None:
    network = build(NetworkConfig(bottleneck=8, classes=4, image_size=16))
    verdict = evaluator()(network)
    target = domain(40, 1)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = torch.from_numpy((target.images / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.no_grad():
        rows = network.eval()(inputs.float()).logits.numpy()
    assert verdict["accuracy"]["overall"] == validators.accuracy(rows, target.labels)
    assert verdict["scores"]["entropy"] == pytest.approx(
        validators.negative_entropy(rows), rel=1e-4
    )
    assert verdict["scores"].keys() == {"entropy", "infomax", "snd", "source_validation", "dev"}


def test_without_a_holdout_there_are_no_source_scores() -> None:
    network = build(NetworkConfig(bottleneck=8, classes=4, image_size=16))
    assert evaluator(holdout=0)(network)["scores"].keys() == {"entropy", "infomax", "snd"}
