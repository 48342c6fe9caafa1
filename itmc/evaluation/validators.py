"""Accuracies, and label-free validators: scores on the target that need no target label.

Each validator is oriented so that higher is better; they choose an epoch, never train.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

# Rows that SND compares pairwise at the most, so that its cost stays bounded.
_SND_ROWS = 1000
_SND_TEMPERATURE = 0.05
# Rows of each side that DEV's domain classifier learns from at the most.
_DEV_ROWS = 1000

Array = np.ndarray


def accuracy(logits: Array, labels: Array) -> float:
    """Percentage of rows whose largest logit is the label; ``(N, C)`` and ``(N,)``."""
    return float(100 * (logits.argmax(1) == labels).mean())


def mean_class_accuracy(logits: Array, labels: Array) -> float:
    """Mean of the accuracies of the classes that occur, in percent."""
    correct = logits.argmax(1) == labels
    return float(100 * np.mean([correct[labels == c].mean() for c in np.unique(labels)]))


def guidance(logits: Array, teacher: Array, labels: Array) -> dict[str, float | None]:
    """What a teacher teaches, and what of it a student has taken over; all in percent.

    ``teacher``: its accuracy. ``agrees_right`` and ``agrees_wrong``: of the rows where its class is
    right, and where it is wrong, those that the student puts into the same class; None where there
    is no such row.
    """
    right = teacher.argmax(1) == labels
    agrees = logits.argmax(1) == teacher.argmax(1)
    return {
        "teacher": accuracy(teacher, labels),
        "agrees_right": float(100 * agrees[right].mean()) if right.any() else None,
        "agrees_wrong": float(100 * agrees[~right].mean()) if not right.all() else None,
    }


def negative_entropy(logits: Array) -> float:
    """Minus the mean entropy (nats) of the target predictions (Morerio et al., ICLR 2018)."""
    return -float(_entropy(logits).mean())


def infomax(logits: Array) -> float:
    """Mutual information: entropy of the mean prediction minus mean entropy (Shi and Sha 2012).

    Unlike plain entropy it punishes predicting one class for all.
    """
    mean = softmax(logits, axis=1).mean(0)
    return float(-(mean * np.log(mean.clip(1e-12))).sum() - _entropy(logits).mean())


def soft_neighbourhood_density(logits: Array) -> float:
    """SND (Saito et al., ICCV 2021, eq. 4): mean entropy of the soft neighbours of each image.

    Similarities of the predicted probabilities (cosine), without the image itself, softened by
    temperature 0.05. Of larger sets, at most 1,000 evenly spaced images are compared.
    """
    probabilities = softmax(_spread(logits, _SND_ROWS), axis=1).astype(np.float32)
    rows = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    similarity = (rows @ rows.T / _SND_TEMPERATURE)[~np.eye(len(rows), dtype=bool)]
    return float(_entropy(similarity.reshape(len(rows), -1)).mean())


def deep_embedded_validation(
    source_features: Array,
    target_features: Array,
    validation_features: Array,
    validation_logits: Array,
    validation_labels: Array,
) -> float:
    """Minus the DEV risk (You et al., ICML 2019, eqs. 10-12) with the cross-entropy as loss.

    A domain classifier on features gives density ratios for the source validation set; the
    weighted loss is corrected by a control variate. Features are ``(N, F)``.
    """
    from sklearn.linear_model import LogisticRegression  # takes as long to load as torch

    source, target = _spread(source_features, _DEV_ROWS), _spread(target_features, _DEV_ROWS)
    features = np.concatenate([source, target])
    mean, deviation = features.mean(0), features.std(0).clip(1e-6)
    is_target = np.r_[np.zeros(len(source)), np.ones(len(target))]
    # Newton's method: a few steps where there are many more rows than features.
    classifier = LogisticRegression(solver="newton-cholesky")
    classifier.fit((features - mean) / deviation, is_target)
    odds = np.exp(
        classifier.decision_function((validation_features - mean) / deviation).clip(-30, 30)
    )
    weights = len(source) / len(target) * odds
    log_probabilities = log_softmax(validation_logits, axis=1)
    losses = -log_probabilities[np.arange(len(validation_labels)), validation_labels]
    weighted = weights * losses
    variance = weights.var(ddof=1)
    eta = -np.cov(weighted, weights, ddof=1)[0, 1] / variance if variance > 0 else 0.0
    return -float(weighted.mean() + eta * weights.mean() - eta)


def _spread(rows: Array, most: int) -> Array:
    """At most ``most`` rows, evenly spaced: data is often stored class by class."""
    return rows[:: -(-len(rows) // most)]


def _entropy(logits: Array) -> Array:
    """Entropy (nats) of each row's softmax."""
    log_probabilities = logits - logsumexp(logits, axis=1, keepdims=True)
    entropy: Array = -(np.exp(log_probabilities) * log_probabilities).sum(1)
    return entropy
