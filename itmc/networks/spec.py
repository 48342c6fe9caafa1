"""A pruned network as data: the widths of its layers (JSON) and its weights (safetensors).

The two files are one thing. ``<name>.json`` holds the sha256 of ``<name>.safetensors`` and, in its
last line, of itself; a pair of which a byte was altered, lost or swapped is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse, save
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.errors import UsageError
from itmc.files import write_atomic
from itmc.networks.build import Network, NetworkConfig, build
from itmc.networks.families import settle
from itmc.networks.kinds import ATTENTION
from itmc.networks.layers import Gather

FORMAT = 2
_SEAL = ',\n "sha256": '
_REMEDY = "copy both files of the network again, or delete their folder and run the suite again"
Widths = dict[str, dict[str, int]]

# What surgery changes in a layer besides its tensors.
_WIDTH_ATTRIBUTES = (
    "in_channels",
    "out_channels",
    "groups",
    "in_features",
    "out_features",
    "num_features",
    "num_channels",
    "num_groups",
    "num_parameters",
    "num_heads",
    "attn_dim",
    "channels",
)
_WITH_WIDTHS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.PReLU,
    Gather,
)


class Description(Frozen):
    """What ``<name>.json`` holds, besides its own sha256."""

    format: int
    network: NetworkConfig
    widths: Widths
    safetensors_sha256: str


def widths_of(network: nn.Module) -> Widths:
    """The widths of every layer that has any, by the layer's name."""
    return {
        name: {a: value for a in _WIDTH_ATTRIBUTES if isinstance(value := getattr(m, a, None), int)}
        for name, m in network.named_modules()
        if isinstance(m, _WITH_WIDTHS) or m in ATTENTION
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
    settle(network)
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
    elif isinstance(layer, nn.GroupNorm):
        expected = (layer.num_channels,)
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
    """Write ``<name>.safetensors`` (weights), then ``<name>.json`` (architecture), atomically.

    A process killed between the two leaves weights that the JSON, if there is one, does not name:
    they are refused until the network is saved again.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    weights = save(tensors)
    description = {
        "format": FORMAT,
        "network": config.model_dump(),
        "widths": widths_of(network),
        "safetensors_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_atomic(folder / f"{name}.safetensors", weights)
    write_atomic(folder / f"{name}.json", sealed(description))


def load(path: str | Path) -> Network:
    """The network saved at ``path``, ready to use: in eval mode, on the CPU, in float32.

    ``path``: a run's directory, or one of the two files of a network (the other lies beside it).
    Nothing is unpickled or fetched.

        from itmc.networks import load
        network = load("runs/digits/<hash>")
        features, logits = network(images)  # (N, 3, S, S), normalised as in training

    Raises UsageError where a file is missing, was altered, or is not the other one's.
    """
    path = Path(path)
    if path.is_dir():
        return load_network(path)[0]
    if path.suffix not in (".json", ".safetensors"):
        raise UsageError(
            f"{str(path)!r} is no directory, nor the .json or .safetensors file of a network; give "
            "the directory of a run, or one of its two files"
        )
    return load_network(path.parent, path.stem)[0]


def load_network(folder: Path, name: str = "student") -> tuple[Network, NetworkConfig]:
    """The network saved as ``name`` in ``folder``, in eval mode, with its configuration.

    Raises UsageError where a file is missing, damaged or made for another architecture.
    """
    description = _read_description(folder / f"{name}.json")
    config = description.network
    path = folder / f"{name}.safetensors"
    state = _read_weights(path, description.safetensors_sha256)
    try:
        # The architecture only: the weights come from the file, never from a download.
        network = build(config.unpretrained())
        load_state(network, description.widths, state)
    except RuntimeError as error:
        raise UsageError(
            f"{path.name} does not fit {name}.json: {str(error).splitlines()[-1].strip()}"
        ) from error
    return network.to(memory_format=torch.channels_last).eval(), config


def sealed(description: dict[str, Any]) -> bytes:
    """The file of a description: its JSON, with the sha256 of all before it as the last value."""
    return _seal(json.dumps(description, indent=1).removesuffix("\n}").encode())


def _seal(body: bytes) -> bytes:
    """``body``, JSON without its end, with the value that guards it and its end."""
    return body + f'{_SEAL}"{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UsageError(
            f"{path.name} in {str(path.parent)!r} is damaged, or another network's: its sha256 is "
            f"not the one in {path.stem}.json; {_REMEDY}"
        )
    try:
        return parse(content)
    except SafetensorError as error:
        raise UsageError(
            f"{path.name} in {str(path.parent)!r} is no safetensors file: {error}"
        ) from error


def _read_description(path: Path) -> Description:
    where = f"{path.name} in {str(path.parent)!r}"
    content = _read(path)
    try:
        description = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is damaged: {error}; {_REMEDY}") from error
    if not isinstance(description, dict) or "format" not in description:
        raise UsageError(f"{where} describes no network; give the directory of a run")
    if description["format"] != FORMAT:
        raise UsageError(
            f"{where} is of format {str(description['format'])[:20]}, this version reads {FORMAT} "
            "only; delete its folder and run the suite again"
        )
    if content != _seal(content.rpartition(_SEAL.encode())[0]):
        raise UsageError(
            f"{where} was altered after it was written: its sha256 does not fit; {_REMEDY}"
        )
    del description["sha256"]
    try:
        return Description.model_validate(description)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where} is damaged: {key}: {first['msg']}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = "is missing" if missing else f"cannot be read ({error.strerror})"
        raise UsageError(
            f"{path.name} in {str(path.parent)!r} {what}; give the directory of a finished run, or "
            f"copy both files of the network ({path.stem}.json and {path.stem}.safetensors)"
        ) from error
