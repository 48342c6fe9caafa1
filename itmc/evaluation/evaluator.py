"""The only place where target labels live: it judges a network and tells nobody who trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itmc.domains.augment import DataConfig, plain, ten_crops
from itmc.domains.batches import Labelled
from itmc.domains.store import Domain
from itmc.evaluation import validators
from itmc.networks.build import Network

# Source training images that DEV's domain classifier sees.
_DEV_SOURCE = 500
_BATCH = 256
_CHOSEN_AMONG = 0.4
SELECTORS = ("source_validation", "entropy", "infomax", "snd", "dev")


class Evaluator:
    """Accuracy on the target and label-free scores, from one pass over each set."""

    def __init__(
        self,
        source: Labelled,
        validation: Labelled,
        target: Domain,
        data: DataConfig,
        device: torch.device,
        crops: int = 1,
    ) -> None:
        """``crops``: 1 for the centre, 10 for the corners and it, mirrored too."""
        self._data, self._device = data, device
        self._crops = crops
        self._source = (source.images, source.indices[:: max(1, len(source) // _DEV_SOURCE)])
        self._validation = (validation.images, validation.indices)
        self._validation_labels = validation.labels[validation.indices]
        self._target = (target.images, np.arange(len(target.images)))
        self._target_labels = target.labels

    def __call__(self, network: Network) -> dict[str, Any]:
        """``accuracy`` on the target (percent, overall and mean per class) and ``scores``."""
        features, logits = self._outputs(network, *self._target)
        labels = self._target_labels
        return {
            "accuracy": {
                "overall": validators.accuracy(logits, labels),
                "mean_class": validators.mean_class_accuracy(logits, labels),
            },
            "scores": {
                "entropy": validators.negative_entropy(logits),
                "infomax": validators.infomax(logits),
                "snd": validators.soft_neighbourhood_density(logits),
                **self._source_scores(network, features),
            },
        }

    def _source_scores(self, network: Network, target_features: np.ndarray) -> dict[str, float]:
        if len(self._validation_labels) < 2:
            return {}  # source_holdout 0: nothing to validate on
        features, logits = self._outputs(network, *self._validation)
        source_features, _ = self._outputs(network, *self._source)
        return {
            "source_validation": validators.accuracy(logits, self._validation_labels),
            "dev": validators.deep_embedded_validation(
                source_features, target_features, features, logits, self._validation_labels
            ),
        }

    @torch.inference_mode()
    def _outputs(
        self, network: Network, images: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of ``rows``, in eval mode; the mode is put back afterwards.

        Of several crops: their mean features, and the logarithm of their mean probabilities.
        """
        training = network.training
        network.eval()
        features, logits = [], []
        for start in range(0, len(rows), _BATCH):
            some = images[rows[start : start + _BATCH]]
            seen, said = [], []
            for batch in self._views(some):
                outputs = network(batch.to(self._device))
                seen.append(outputs.features.float().cpu())
                said.append(outputs.logits.float().cpu())
            features.append(torch.stack(seen).mean(0))
            logits.append(_joined(said))
        network.train(training)
        return torch.cat(features).numpy(), torch.cat(logits).double().numpy()

    def _views(self, images: np.ndarray) -> Iterator[Tensor]:
        if self._crops == 1:
            yield plain(images, self._data)
        else:
            yield from ten_crops(images, self._data)


def _joined(logits: list[Tensor]) -> Tensor:
    """Of one view its logits; of several the logarithm of the mean of their probabilities."""
    if len(logits) == 1:
        return logits[0]
    return torch.logsumexp(torch.stack(logits).log_softmax(2), dim=0) - math.log(len(logits))


def candidates(epochs: int) -> int:
    """How many epochs a choice is made among, of a suite of so many: the last 40 per cent.

    As many for each method: the best of more is better by chance alone.
    """
    return max(1, round(_CHOSEN_AMONG * epochs))


def select(history: Sequence[dict[str, Any]], budget: float, among: int) -> dict[str, Any]:
    """Accuracy by way of choosing the epoch: the last, by each validator, and the oracle.

    The last ``among`` epochs compete whose student is within ``budget`` MACs. The oracle, the best
    epoch by target label, is what most papers report; it is named so, and never a headline of the
    protocol ``strict``. Raises RuntimeError where the budget is not met.
    """
    candidates = [entry for entry in history[-among:] if entry["macs"] <= budget]
    if not candidates:
        raise RuntimeError(
            f"the student has {history[-1]['macs']} MACs at the end, more than its budget of "
            f"{round(budget)}"
        )
    chosen: dict[str, Any] = {"last": dict(history[-1]["accuracy"])}
    best = max(candidates, key=lambda entry: entry["accuracy"]["overall"])
    chosen["oracle"] = {"epoch": best["epoch"], **best["accuracy"]}
    for name in SELECTORS:
        scored = [entry for entry in candidates if name in entry["scores"]]
        if not scored:
            chosen[name] = None
            continue
        best = max(scored, key=lambda entry: entry["scores"][name])
        score = best["scores"][name]
        chosen[name] = {"epoch": best["epoch"], "score": score, **best["accuracy"]}
    return chosen
