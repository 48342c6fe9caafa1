"""Build a classifier: a backbone by name, a bottleneck and a head (the usual network of UDA)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.errors import UsageError, first_line
from itmc.networks.backbones import create_backbone
from itmc.seeding import seeded


class NetworkConfig(Frozen):
    """What determines an unpruned network, apart from the seed of its new layers."""

    backbone: str = "digits_convnet"
    """``digits_convnet``, or a name of torchvision or timm (``timm/...`` forces the library)."""
    weights: str = "none"
    """``none``, the full tag of pretrained weights, or the name of the file that holds them."""
    weights_sha256: str | None = None
    """Digest of that file; ``None`` where the weights come by tag or not at all."""
    bottleneck: int = Field(256, ge=1)
    """Width of the feature layer on which domains are aligned."""
    classes: int = Field(ge=2)
    image_size: int = Field(ge=8)

    def unpretrained(self) -> NetworkConfig:
        """The same architecture, at random weights."""
        return self.model_copy(update={"weights": "none", "weights_sha256": None})

    @property
    def pretrained(self) -> bool:
        """Whether the backbone starts from weights trained elsewhere."""
        return self.weights != "none"


class Outputs(NamedTuple):
    """What a forward pass gives: bottleneck features ``(N, B)`` and logits ``(N, classes)``."""

    features: Tensor
    logits: Tensor


class Network(nn.Module):
    """Backbone, bottleneck (linear, BatchNorm, ReLU) and linear head."""

    def __init__(self, backbone: nn.Module, width: int, bottleneck: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.bottleneck = nn.Sequential(
            nn.Linear(width, bottleneck), nn.BatchNorm1d(bottleneck), nn.ReLU()
        )
        self.head = nn.Linear(bottleneck, classes)

    def forward(
        self, images: Tensor, backbone: Callable[[Tensor], Tensor] | None = None
    ) -> Outputs:
        """``images``: float, ``(N, 3, H, W)``.

        ``backbone``: what is called in the place of the own one: it in another precision, say.
        """
        pooled = (backbone or self.backbone)(images)
        features = self.bottleneck(pooled.to(self.head.weight.dtype))
        return Outputs(features, self.head(features))

    def new_layers(self) -> tuple[nn.Module, ...]:
        """The layers that no pretrained weights cover, which learn at a higher rate."""
        return self.bottleneck, self.head


def build(config: NetworkConfig, seed: int = 0, weights_file: str | None = None) -> Network:
    """The unpruned network of ``config``, in channels-last layout.

    New layers are initialised from ``seed`` alone, so all methods of one seed start alike.
    ``weights_file`` is where the file named by ``config.weights`` lies.

    Raises UsageError for an unknown backbone, one that gives no pooled features at this image
    size, or weights that do not fit.
    """
    with seeded("network", config.backbone, seed):
        backbone = create_backbone(config.backbone, config.weights, weights_file)
        width = _feature_width(backbone, config)
        network = Network(backbone, width, config.bottleneck, config.classes)
    try:
        return network.to(memory_format=torch.channels_last)
    except RuntimeError as error:  # weights of five dimensions have no such layout
        raise UsageError(
            f"backbone {config.backbone!r} has layers that are not for images "
            f"({first_line(error)}); choose another --backbone"
        ) from error


def example(config: NetworkConfig, device: torch.device | str = "cpu") -> Tensor:
    """One black image of the network's input size, ``(1, 3, S, S)``, to trace with."""
    return torch.zeros(1, 3, config.image_size, config.image_size, device=device)


def _feature_width(backbone: nn.Module, config: NetworkConfig) -> int:
    two = example(config).repeat(2, 1, 1, 1)
    try:
        with torch.no_grad():
            # In train mode too, on a copy that may lose its statistics: some networks then give
            # auxiliary outputs, or take no images as small as these.
            features = copy.deepcopy(backbone).train()(two)
            features = backbone.eval()(two) if isinstance(features, Tensor) else features
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"backbone {config.backbone!r} does not take {config.image_size}x{config.image_size} "
            f"images ({first_line(error)}); choose another --image-size"
        ) from error
    finally:
        backbone.train()
    if not isinstance(features, Tensor) or features.dim() != 2:
        raise UsageError(
            f"backbone {config.backbone!r} gives no single pooled feature vector; allowed are "
            "image classifiers of timm and torchvision without auxiliary outputs"
        )
    return features.shape[1]
