"""Backbones by name (our own, torchvision's, timm's) and the pretrained weights they start from."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itmc.errors import UsageError, first_line
from itmc.networks.families import prunable
from itmc.networks.small import DigitsConvNet

IMAGENET_CLASSES = 1000
OWN = {"digits_convnet": DigitsConvNet}


def create_backbone(name: str, weights: str = "none", weights_file: str | None = None) -> nn.Module:
    """A classifier without its last layer: ``(N, 3, H, W)`` to pooled features ``(N, F)``.

    A bare name is looked up among our own, then in torchvision, then in timm; ``torchvision/NAME``
    and ``timm/NAME`` choose. A timm name may carry its weights' tag (``resnet50.tv_in1k``).
    ``weights``: ``none``, ``timm``'s or torchvision's full tag, or, with ``weights_file``, a file.
    """
    if weights_file is not None:
        backbone = _create(name)
        _load_file(backbone, Path(weights_file), name)
    elif weights == "none":
        backbone = _create(name)
    else:
        backbone = _create_pretrained(name, weights)
    return prunable(backbone)


def _create(name: str) -> nn.Module:
    library, model = resolve(name)
    if library == "own":
        return OWN[model]()
    if library == "torchvision":
        return without_classifier(_torchvision_model(model))
    import timm

    backbone: nn.Module = timm.create_model(model, pretrained=False, num_classes=0)
    return backbone


def resolve(name: str) -> tuple[str, str]:
    """``(library, model)`` of a backbone's name; library is own, torchvision or timm."""
    if name in OWN:
        return "own", name
    import timm
    from torchvision import models

    library, _, model = name.rpartition("/")
    if library not in ("", "timm", "torchvision"):
        raise UsageError(
            f"backbone {name!r}: unknown library {library!r}; allowed: timm/, torchvision/"
        )
    # Only torchvision's classifiers: its detectors and segmenters carry a slash-like prefix.
    classifiers = models.list_models(module=models)
    if library != "timm" and model in classifiers:
        return "torchvision", model
    if library != "torchvision" and _is_in_timm(model):
        return "timm", model
    known = {*OWN, *classifiers, *timm.list_models(), *timm.list_pretrained()}
    close = difflib.get_close_matches(model, sorted(known), n=3)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise UsageError(
        f"backbone {name!r} is in neither torchvision nor timm{hint} "
        f"(allowed: {', '.join(OWN)}, any torchvision or timm classifier)"
    )


def _is_in_timm(model: str) -> bool:
    import timm

    architecture, _, tag = model.partition(".")
    known: bool = timm.is_model(architecture)
    return known and (not tag or model in timm.list_pretrained(f"{architecture}.*"))


def without_classifier(model: nn.Module) -> nn.Module:
    """Replace the layer that gives the ImageNet classes by the identity; the rest stays."""
    for path, module in reversed(list(model.named_modules())):
        outputs = getattr(module, "out_features", getattr(module, "out_channels", None))
        if outputs == IMAGENET_CLASSES and isinstance(module, nn.Linear | nn.Conv2d):
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.Identity())
            return model
    raise UsageError(f"{type(model).__name__} has no layer with {IMAGENET_CLASSES} outputs")


def check_tag(name: str, weights: str) -> tuple[str, str]:
    """``(library, model)`` of the backbone ``name``, whose library lists the tag ``weights``.

    Nothing is fetched. Raises UsageError, naming the tags there are.
    """
    library, model = resolve(name)
    if library == "own":
        raise UsageError(f"backbone {name!r} has no pretrained weights; allowed: none, or a file")
    if library == "torchvision":
        allowed, hint = list(_torchvision_tags(model)), " (timm's tags go with --backbone timm/...)"
    else:
        import timm

        model, hint = model.partition(".")[0], ""
        allowed = timm.list_pretrained(f"{model}.*")
    if weights not in allowed:
        listed = ", ".join(allowed) or "none are listed for this model"
        raise UsageError(
            f"weights {weights!r} are unknown to {library}/{model}; allowed: none, a file, "
            f"{listed}{hint}"
        )
    return library, model


def _create_pretrained(name: str, weights: str) -> nn.Module:
    library, model = check_tag(name, weights)
    try:
        if library == "torchvision":
            network = _torchvision_model(model)
            tag = _torchvision_tags(model)[weights]
            # Never unpickled: weights_only is handed through to torch.load.
            network.load_state_dict(tag.get_state_dict(check_hash=True, weights_only=True))
            return without_classifier(network)
        import timm

        with _without_retry_warnings():
            backbone: nn.Module = timm.create_model(weights, pretrained=True, num_classes=0)
    except OSError as error:
        raise UsageError(
            f"weights {weights!r} of {name!r} could not be fetched ({first_line(error)}); give a "
            "file with --weights, or 'none'"
        ) from error
    return backbone


def _torchvision_model(model: str) -> nn.Module:
    """A torchvision model at random weights."""
    from torchvision import models

    # These two warn of a change of the default that they do not know otherwise.
    explicit = {"init_weights": True} if model in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(model, weights=None, **explicit)
    return network


def _torchvision_tags(model: str) -> dict[str, Any]:
    """The weights of a torchvision model by their own names; no alias such as DEFAULT."""
    from torchvision import models

    return {tag.name: tag for tag in models.get_model_weights(model)}


@contextmanager
def _without_retry_warnings() -> Iterator[None]:
    """The hub's client warns of each of many retries; one line at the end says as much."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _load_file(backbone: nn.Module, path: Path, name: str) -> None:
    state = read_state(path)
    own = backbone.state_dict()
    # Counters of batches seen do not matter for what a network computes; old files lack them.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(
            f"weights {path.name} do not fit backbone {name!r}: {len(missing)} of {len(own)} "
            f"tensors are missing, such as {missing[0]!r}"
        )
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    if wrong:
        raise UsageError(
            f"weights {path.name} do not fit backbone {name!r}: {wrong[0]!r} has shape "
            f"{tuple(state[wrong[0]].shape)}, expected {tuple(own[wrong[0]].shape)}"
        )
    left = sorted({k.split(".")[0] for k in state if k not in own})
    if set(left) - {"classifier", "fc", "head", "heads"}:
        raise UsageError(
            f"weights {path.name} do not fit backbone {name!r}: they hold parts that it lacks "
            f"({', '.join(left)})"
        )
    backbone.load_state_dict(state, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors or torch file; nothing in it is executed."""
    if not path.is_file():
        raise UsageError(f"weights file {str(path)!r} does not exist")
    try:
        state = _read_tensors(path)
    except Exception as error:  # reading a damaged file can raise nearly anything
        raise UsageError(
            f"weights file {path.name} does not load safely ({_reason(error)}); allowed are "
            "safetensors and torch files that hold tensors only"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"weights file {path.name} holds no plain dictionary of tensors")
    return state


def _read_tensors(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, torch as safe

        try:
            return safe.load_file(path)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols: what matters is the outcome
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    # Here torch advises to load what is not safe, in several lines with escape codes.
    if isinstance(error, OSError | ValueError):
        return first_line(error)
    return "it is damaged, or holds objects that would have to be unpickled"
