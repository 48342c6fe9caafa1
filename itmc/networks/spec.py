"""A pruned network as data: the widths of its layers (JSON) and its weights (safetensors)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.errors import UsageError
from itmc.files import write_atomic
from itmc.networks.build import Network, NetworkConfig, build

FORMAT = 1
Widths = dict[str, dict[str, int]]

# What surgery changes in a layer besides its tensors.
_WIDTH_ATTRIBUTES = (
    "in_channels",
    "out_channels",
    "groups",
    "in_features",
    "out_features",
    "num_features",
)


class Description(Frozen):
    """What ``<name>.json`` holds."""

    format: int
    network: NetworkConfig
    widths: Widths


def widths_of(network: nn.Module) -> Widths:
    """The widths of every layer that has any, by the layer's name."""
    return {
        name: {a: value for a in _WIDTH_ATTRIBUTES if isinstance(value := getattr(m, a, None), int)}
        for name, m in network.named_modules()
        if any(True for _ in m.parameters(recurse=False))
    }


def reshape(network: nn.Module, widths: Widths, shapes: dict[str, tuple[int, ...]]) -> None:
    """Give ``network`` (unpruned) the ``widths`` and tensor ``shapes`` of a pruned one, in place.

    The new tensors are zero, to be filled from a state dict. Raises UsageError where the two do
    not describe the same architecture.
    """
    modules = dict(network.named_modules())
    if unknown := sorted(set(widths) - set(modules)):
        raise UsageError(f"the description names a layer that the network lacks: {unknown[0]!r}")
    for name, values in widths.items():
        for attribute, value in values.items():
            if attribute not in _WIDTH_ATTRIBUTES or not hasattr(modules[name], attribute):
                raise UsageError(f"the layer {name!r} has no width {attribute!r}")
            setattr(modules[name], attribute, value)
    saved = network.state_dict().keys()  # some buffers are derived, and never saved
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name not in saved:
            continue
        if name not in shapes:
            raise UsageError(f"the weights lack the tensor {name!r}")
        shape = shapes[name]
        if tuple(tensor.shape) == shape:
            continue
        if len(shape) != tensor.dim() or any(
            new > old or new < 1 for new, old in zip(shape, tensor.shape, strict=True)
        ):
            raise UsageError(
                f"the tensor {name!r} has shape {shape}, at most {tuple(tensor.shape)} is possible"
            )
        parent, _, attribute = name.rpartition(".")
        owner = modules[parent]
        empty = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
        if isinstance(tensor, nn.Parameter):
            setattr(owner, attribute, nn.Parameter(empty, requires_grad=tensor.requires_grad))
        else:
            owner.register_buffer(attribute, empty)
        if isinstance(owner, nn.LayerNorm):
            owner.normalized_shape = shape
    for name in widths:
        _check_widths(name, modules[name])


def _check_widths(name: str, layer: nn.Module) -> None:
    """Raise UsageError where the widths of ``layer`` are not those of its tensors."""
    expected: tuple[int, ...] = ()
    if isinstance(layer, nn.Conv2d):
        expected = layer.out_channels, layer.in_channels // layer.groups if layer.groups else 0
    elif isinstance(layer, nn.Linear):
        expected = layer.out_features, layer.in_features
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        expected = (layer.num_features,)
    weight = getattr(layer, "weight", None)
    if expected and isinstance(weight, Tensor) and tuple(weight.shape[:2]) != expected:
        raise UsageError(
            f"the description gives the layer {name!r} the widths {expected}, its weights have "
            f"{tuple(weight.shape[:2])}"
        )


def load_state(network: nn.Module, widths: Widths, state: dict[str, Tensor]) -> None:
    """Make ``network`` (unpruned) the pruned network of ``widths`` and ``state``, in place."""
    reshape(network, widths, {k: tuple(v.shape) for k, v in state.items()})
    complete = network.state_dict()  # with the versions of its modules, which files do not keep
    complete.update(state)
    network.load_state_dict(complete)


def save_network(network: Network, config: NetworkConfig, folder: Path, name: str) -> None:
    """Write ``<name>.json`` (architecture) and ``<name>.safetensors`` (weights) atomically."""
    description = {
        "format": FORMAT,
        "network": config.model_dump(),
        "widths": widths_of(network),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    write_atomic(folder / f"{name}.safetensors", save(tensors))
    write_atomic(folder / f"{name}.json", json.dumps(description, indent=1).encode() + b"\n")


def load_network(folder: Path, name: str = "student") -> tuple[Network, NetworkConfig]:
    """The network saved as ``name`` in ``folder``, in eval mode, with its configuration.

    Raises UsageError where a file is missing, damaged or made for another architecture.
    """
    description = _read_description(folder / f"{name}.json")
    config = description.network
    # The architecture only: the weights come from the file, never from a download.
    network = build(config.unpretrained())
    path = folder / f"{name}.safetensors"
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path.name} in {str(folder)!r} is missing or damaged: {error}"
        ) from error
    try:
        load_state(network, description.widths, state)
    except RuntimeError as error:
        raise UsageError(
            f"{path.name} does not fit {name}.json: {str(error).splitlines()[-1].strip()}"
        ) from error
    return network.to(memory_format=torch.channels_last).eval(), config


def _read_description(path: Path) -> Description:
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path.name} in {str(path.parent)!r} is missing or damaged: {error}"
        ) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UsageError(
            f"{path.name} in {str(path.parent)!r} is no network of format {FORMAT}, the only known"
        )
    try:
        return Description.model_validate(description)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{path.name} in {str(path.parent)!r} is damaged: {where}: {first['msg']}"
        ) from error
