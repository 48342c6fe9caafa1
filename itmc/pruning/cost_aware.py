"""Importance per cost: what a unit's removal saves, in MACs or in measured microseconds.

    score per cost = importance * (mean saving over all units) / (saving of the unit)

A unit twice as dear as another that is as important gets half its score, and goes before it. The
common factor keeps scores in their usual range; it cannot change a ranking, and nothing is
normalised by layer again, which would undo the division. A saving below a thousandth of the mean
counts as that much, so that layers whose narrowing saves nothing go last.

Microseconds are medians over repetitions, of one image on the device and with the threads of the
run. They are never quite the same again, so what is pruned by them is not repeatable to the bit.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from itmc.networks.modes import in_eval_mode
from itmc.pruning.groups import Group
from itmc.pruning.importance import Scores
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits

CostAware = Literal["none", "macs", "latency"]
Savings = dict[str, Tensor]
"""What the removal of a unit saves, by group: ``(width,)``, or one number for all units, ``()``."""
Timer = Callable[[nn.Module, Tensor], float]
"""Microseconds of a forward pass of a layer."""

_FLOOR = 1e-3
_WARM_UP = 3
_REPEATS = 100
_SECONDS = 0.1  # for a layer, should it be slow
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def savings(
    kind: CostAware,
    network: nn.Module,
    images: Tensor,
    groups: tuple[Group, ...],
    round_to: int = 1,
) -> Savings:
    """What removing a unit of ``network``, as it is now, saves in ``kind``.

    ``images``: one example, ``(1, 3, S, S)``.
    """
    if kind == "latency":
        return microseconds_saved(network, images, groups, round_to)
    return macs_saved(network, images, groups)


def per_saving(scores: Scores, saved: Savings) -> Scores:
    """``scores`` divided by what units save, relative to the mean saving of all units."""
    by_unit = {
        name: saved[name].to(values.device).expand(len(values)) for name, values in scores.items()
    }
    mean = float(torch.cat([part.double().cpu() for part in by_unit.values()]).clamp_min(0).mean())
    if mean <= 0:  # nothing to tell units apart by
        return scores
    return {
        name: values * (mean / by_unit[name].clamp_min(_FLOOR * mean)).to(values.dtype)
        for name, values in scores.items()
    }


def macs_saved(network: nn.Module, images: Tensor, groups: tuple[Group, ...]) -> Savings:
    """MACs of one image that the removal of each unit, alone, saves: ``(width,)`` by group."""
    model = MacModel(network, images, groups)
    return {
        group.name: torch.tensor(
            [model.total - model.after(group.name, [unit]) for unit in range(group.width)],
            dtype=torch.float64,
        )
        for group in groups
    }


def median_microseconds(layer: nn.Module, inputs: Tensor) -> float:
    """Median time of a forward pass after a warm-up, with the threads that torch is set to."""
    durations: list[float] = []
    with torch.inference_mode():
        for _ in range(_WARM_UP):
            layer(inputs)
        deadline = time.perf_counter() + _SECONDS
        while len(durations) < _REPEATS and (
            time.perf_counter() < deadline or len(durations) < _WARM_UP
        ):
            _wait_for(inputs.device)
            start = time.perf_counter()
            layer(inputs)
            _wait_for(inputs.device)
            durations.append(1e6 * (time.perf_counter() - start))
    return statistics.median(durations)


def microseconds_saved(
    network: nn.Module,
    images: Tensor,
    groups: tuple[Group, ...],
    round_to: int = 1,
    timer: Timer = median_microseconds,
) -> Savings:
    """Microseconds that the removal of a unit saves: one number, ``()``, by group.

    The convolutions and linear layers of a group are timed by themselves on inputs of the shape
    that they see, as they are and without a quarter of the group's units (or ``round_to`` channels,
    if that is more); the difference is divided by the number of units. Equal layers on equal
    shapes are timed once. It may be negative: times are noisy, and narrower is not always faster.
    """
    shapes = _input_shapes(network, images)
    known: dict[tuple[str, torch.Size], float] = {}

    def timed(layer: nn.Module, shape: torch.Size) -> float:
        key = repr(layer), shape
        if key not in known:
            weight = next(layer.parameters())
            inputs = torch.ones(shape, dtype=weight.dtype, device=weight.device)
            if inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            known[key] = timer(layer, inputs)
        return known[key]

    found: Savings = {}
    for group in groups:
        step = Limits(round_to=round_to).step(group)
        count = min(group.width - 1, max(step, -(-group.width // 4)))
        saved = 0.0
        for name, (outputs, inputs) in _removed(group, count).items():
            for shape in shapes.get(name, ()):
                layer = network.get_submodule(name)
                narrow, narrow_shape = _narrowed(layer, shape, outputs, inputs)
                saved += timed(layer, shape) - timed(narrow, narrow_shape)
        found[group.name] = torch.tensor(saved / max(1, count), dtype=torch.float64)
    return found


def _input_shapes(network: nn.Module, images: Tensor) -> dict[str, list[torch.Size]]:
    """Shapes of what each convolution and linear layer reads in a forward pass, one a call."""
    shapes: dict[str, list[torch.Size]] = {}

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            shapes.setdefault(name, []).append(inputs[0].shape)

        return note

    handles = [
        layer.register_forward_pre_hook(hook_of(name))
        for name, layer in network.named_modules()
        if isinstance(layer, _LAYERS)
    ]
    try:
        with torch.no_grad(), in_eval_mode(network):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _removed(group: Group, count: int) -> dict[str, tuple[int, int]]:
    """How many outputs and inputs each layer loses with ``count`` units, taken evenly spaced."""
    units = torch.arange(count) * group.width // max(1, count)
    lost: Counter[tuple[str, bool]] = Counter()
    for member in group.members:
        gone = torch.isin(member.roots.cpu(), units)
        lost[member.layer, member.is_output] += int(gone.sum())
    names = dict.fromkeys(member.layer for member in group.members)
    return {name: (lost[name, True], lost[name, False]) for name in names}


def _narrowed(
    layer: nn.Module, shape: torch.Size, outputs: int, inputs: int
) -> tuple[nn.Module, torch.Size]:
    """A copy of ``layer`` that lacks so many outputs and inputs, and the shape that it reads."""
    narrow: Any = copy.deepcopy(layer)
    sizes = list(shape)
    if isinstance(layer, nn.Linear):
        narrow.out_features -= outputs
        narrow.in_features -= inputs
        sizes[-1] = narrow.in_features
        sides = [narrow.out_features, narrow.in_features]
        width = narrow.out_features
    else:
        narrow.out_channels -= outputs
        narrow.in_channels -= inputs
        if narrow.groups > 1:  # groups of channels go as a whole, their inputs with them
            of_group = narrow.in_channels // narrow.groups
            narrow.groups = narrow.groups * narrow.out_channels // (narrow.out_channels + outputs)
            narrow.in_channels = narrow.groups * of_group
        sizes[1] = narrow.in_channels
        sides = [narrow.out_channels, narrow.in_channels // narrow.groups]
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            sides = [narrow.in_channels, narrow.out_channels // narrow.groups]
        width = narrow.out_channels
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(narrow, name, _part(parameter, sides if name == "weight" else [width]))
    return narrow, torch.Size(sizes)


def _part(parameter: Tensor, sides: list[int]) -> nn.Parameter:
    """The first so many entries of the first dimensions, in the layout that training uses."""
    for dimension, size in enumerate(sides):
        parameter = parameter.narrow(dimension, 0, size)
    layout = torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
    return nn.Parameter(parameter.detach().clone(memory_format=layout), requires_grad=False)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
