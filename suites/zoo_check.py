"""What the zoo does with one backbone, in a process of its own."""

from __future__ import annotations

import copy
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itmc.cost import durations
from itmc.errors import UsageError, first_line
from itmc.networks import Network, NetworkConfig, build
from itmc.networks.build import example
from itmc.networks.export import export_onnx, export_pt2
from itmc.networks.spec import load_network, save_network
from itmc.pruning import prune
from itmc.pruning.surgery import recalibrate
from itmc.seeding import seeded
from itmc.training.config import TrainingConfig
from itmc.training.optim import Optimiser
from suites.zoo_page import Outcome

EXPORTS = {"onnx": export_onnx, "pt2": export_pt2}
_CLASSES, _BOTTLENECK, _BATCH = 10, 64, 8
_SIZE = 64


def apart(function: Callable[..., Outcome], family: str, name: str, *arguments: Any) -> Outcome:
    """``function(family, name, *arguments)`` in a process of its own, which may die of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, family, name, *arguments))
    process.start()
    sender.close()
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        process.join()
        backbone, size = _parsed(name)
        return Outcome(family, backbone, size, error=_death(process.exitcode))
    process.join()
    return outcome


def _send(sender: Connection, function: Callable[..., Outcome], *arguments: Any) -> None:
    sender.send(function(*arguments))


def _death(code: int | None) -> str:
    return f"the process died of signal {-code}" if code and code < 0 else f"exit code {code}"


def _parsed(name: str) -> tuple[str, int]:
    backbone, _, size = name.partition("@")
    return backbone, int(size or _SIZE)


def examine(family: str, name: str, compression: float, formats: Sequence[str]) -> Outcome:
    """Take the backbone ``name`` (``NAME`` or ``NAME@SIZE``) through everything."""
    outcome = Outcome(family, *_parsed(name))
    try:
        _go_through(outcome, compression, formats)
    except UsageError as error:
        outcome.refusal = first_line(error)
    except Exception as error:  # a page of what works must also say what does not
        outcome.error = f"{type(error).__name__}: {first_line(error)}"
    return outcome


def _go_through(outcome: Outcome, compression: float, formats: Sequence[str]) -> None:
    config = NetworkConfig(
        backbone=outcome.backbone, classes=_CLASSES, image_size=outcome.size,
        bottleneck=_BOTTLENECK,
    )  # fmt: skip
    network = build(config)
    unpruned, images = copy.deepcopy(network), example(config)
    batch = torch.randn(_BATCH, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    with seeded("zoo"):  # for dropout
        start = time.perf_counter()
        losses = (_loss(network.train(), batch) for _ in range(2))
        # The bottleneck's outputs are features, which belong to no class but stay whole as well.
        made = prune(network, images, compression, "taylor", losses, keep=(network.bottleneck[0],))
        outcome.pruning_seconds = time.perf_counter() - start
        outcome.whole = made.whole
        outcome.macs = made.macs_before, made.macs_after
        outcome.parameters = _parameters(unpruned), _parameters(network)
        _train(network, batch)
        # At random weights and statistics some networks give outputs of a billion, in which
        # float32 has no digits left to compare.
        recalibrate(network.backbone, [batch] * 2)
    _ship(network, config, batch, formats)
    taken = durations([unpruned, network], images, 1)
    outcome.time_milliseconds(taken)


def _loss(network: Network, batch: Tensor) -> Tensor:
    return F.cross_entropy(network(batch).logits, torch.arange(len(batch)) % _CLASSES)


def _train(network: Network, batch: Tensor, steps: int = 2) -> None:
    optimiser = Optimiser(network, None, TrainingConfig.model_validate({}))
    network.train()
    for _ in range(steps):
        loss = _loss(network, batch)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss in training became {float(loss)}")
        torch.autograd.backward(loss)
        optimiser.step(0.0)


def _ship(network: Network, config: NetworkConfig, batch: Tensor, formats: Sequence[str]) -> None:
    """Save, load and export ``network``; what is loaded must compute the same, to the bit."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        save_network(network, config, folder, "student")
        loaded, _ = load_network(folder)
        with torch.inference_mode():
            if not torch.equal(network.eval()(batch).logits, loaded(batch).logits):
                raise RuntimeError("the loaded network computes something else than the saved one")
        for name in formats:
            EXPORTS[name](loaded, batch, folder / f"student.{name}")


def _parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
