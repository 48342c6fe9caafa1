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
from itmc.domains.images import Images
from itmc.domains.store import Domain
from itmc.errors import UsageError
from itmc.evaluation import validators
from itmc.networks.build import Network
from itmc.networks.compute import Compute
from itmc.parallel import gathered, world

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
        compute: Compute | None = None,
    ) -> None:
        """``crops``: 1 for the centre, 10 for the corners and it, mirrored too; ten where ``data``
        asks for them as well. Of ``target`` the rows ``tested`` are judged, all where it has none.

        Raises UsageError where only some of these rows have a label.
        """
        self._data, self._device, self._compute = data, device, compute or Compute()
        self._crops = max(crops, data.test_crops)
        self._source = (source.images, source.indices[:: max(1, len(source) // _DEV_SOURCE)])
        self._validation = (validation.images, validation.indices)
        self._validation_labels = validation.labels[validation.indices]
        tested = np.arange(len(target.images)) if target.tested is None else target.tested
        self._target = (target.images, tested)
        self._target_labels = _labels_of(target, tested)

    def __call__(self, network: Network, teacher: Network | None = None) -> dict[str, Any]:
        """``accuracy`` on the target (percent, overall and mean per class) and ``scores``.

        The accuracy of a target without labels is None. With a ``teacher``, ``guidance`` besides:
        see ``validators.guidance``.
        """
        features, logits = self._outputs(network, *self._target)
        return {
            "accuracy": self._accuracy(logits),
            **({} if teacher is None else {"guidance": self._guidance(logits, teacher)}),
            "scores": {
                "entropy": validators.negative_entropy(logits),
                "infomax": validators.infomax(logits),
                "snd": validators.soft_neighbourhood_density(logits),
                **self._source_scores(network, features),
            },
        }

    def _accuracy(self, logits: np.ndarray) -> dict[str, float] | None:
        if self._target_labels is None:
            return None
        return {
            "overall": validators.accuracy(logits, self._target_labels),
            "mean_class": validators.mean_class_accuracy(logits, self._target_labels),
        }

    def _guidance(self, logits: np.ndarray, teacher: Network) -> dict[str, float | None] | None:
        if self._target_labels is None:
            return None
        _, guiding = self._outputs(teacher, *self._target)
        return validators.guidance(logits, guiding, self._target_labels)

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
        self, network: Network, images: Images, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of ``rows``, in eval mode; the mode is put back afterwards.

        Of several crops: their mean features, and the logarithm of their mean probabilities.
        Several processes share the rows, and each has the outputs of all.
        """
        own = _share(rows)
        training = network.training
        network.eval()
        features, logits = [], []
        for start in range(0, len(own), _BATCH):
            some = images[own[start : start + _BATCH]]
            seen, said = [], []
            for batch in self._views(some):
                outputs = self._compute(network, batch.to(self._device))
                seen.append(outputs.features.float().cpu())
                said.append(outputs.logits.float().cpu())
            features.append(torch.stack(seen).mean(0))
            logits.append(_joined(said))
        network.train(training)
        all_features, all_logits = (
            gathered(torch.cat(parts).to(self._device)).cpu()[: len(rows)]
            for parts in (features, logits)
        )
        return all_features.numpy(), all_logits.double().numpy()

    def _views(self, images: np.ndarray) -> Iterator[Tensor]:
        stored = torch.from_numpy(images).to(self._device)
        if self._crops == 1:
            yield plain(stored, self._data)
        else:
            yield from ten_crops(stored, self._data)


def _labels_of(target: Domain, rows: np.ndarray) -> np.ndarray | None:
    """The labels of ``rows``; None where the target has none there, which is -1 in each."""
    labels: np.ndarray = target.labels[rows]
    without = int((labels < 0).sum())
    if without == len(labels):
        return None
    if without:
        raise UsageError(
            f"target {target.name!r} lacks the labels of {without} of {len(labels)} images to be "
            "tested on; label all of them, or none"
        )
    return labels


def _share(rows: np.ndarray) -> np.ndarray:
    """This process's share of ``rows``: as many for each, the first ones repeated at the end."""
    here = world()
    each = -(-len(rows) // here.size)
    return np.resize(rows, each * here.size)[here.rank * each : (here.rank + 1) * each]


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

    Of a target without labels there is none: last and oracle are None, and validators tell epoch
    and score.

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
    chosen: dict[str, Any] = {"last": None, "oracle": None}
    if history[-1]["accuracy"] is not None:
        best = max(candidates, key=lambda entry: entry["accuracy"]["overall"])
        chosen["last"] = dict(history[-1]["accuracy"])
        chosen["oracle"] = {"epoch": best["epoch"], **best["accuracy"]}
    for name in SELECTORS:
        scored = [entry for entry in candidates if name in entry["scores"]]
        if not scored:
            chosen[name] = None
            continue
        best = max(scored, key=lambda entry: entry["scores"][name])
        score = best["scores"][name]
        chosen[name] = {"epoch": best["epoch"], "score": score, **(best["accuracy"] or {})}
    return chosen
