"""The doors for all passes in training: by domain, and over the images of all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from itmc.domains.batches import Batch
from itmc.networks.build import Network, Outputs
from itmc.parallel import gathered
from itmc.training.stage import Context


def both_domains(network: Network, batch: Batch, context: Context) -> tuple[Outputs, Outputs]:
    """Outputs of ``network`` on source and target, in one pass or (``bn: split``) in two.

    Like ``outputs``, of the images of all processes.
    """
    if context.training.bn == "split":
        return outputs(network, batch.source, context), outputs(network, batch.target, context)
    joint = context.compute(network, torch.cat([batch.source, batch.target]))
    count = len(batch.source)
    return (
        _gathered(Outputs(joint.features[:count], joint.logits[:count])),
        _gathered(Outputs(joint.features[count:], joint.logits[count:])),
    )


def outputs(network: Network, images: Tensor, context: Context) -> Outputs:
    """What ``network`` gives for ``images``, of one domain.

    Where several processes train together, for the images of all of them, in the batch's order.
    """
    return _gathered(context.compute(network, images))


def _gathered(own: Outputs) -> Outputs:
    return Outputs(gathered(own.features), gathered(own.logits))
