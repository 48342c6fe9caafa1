"""What a network costs: MACs, parameters, activations, bytes and latency.

The unit of compute is the MAC (one multiply-add), counted by fvcore over convolutions, linear
layers and matrix products; fvcore's "flop" is one such multiply-add.
"""

from __future__ import annotations

import io
import logging
import math
import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_ATTENTION = "scaled_dot_product_attention"
_COUNTED = frozenset({"conv", "linear", "addmm", "matmul", "bmm", "baddbmm", "einsum", _ATTENTION})
_LATENCY_SECONDS = 0.5
_LATENCY_REPEATS = 50


def count_macs(network: nn.Module, images: Tensor) -> int:
    """MACs of one forward pass over ``images``, ``(N, 3, H, W)``; divide by N for one image."""
    operators = _analyse(network, images).by_operator()
    return int(sum(count for name, count in operators.items() if name in _COUNTED))


def layer_macs(network: nn.Module, images: Tensor) -> dict[str, int]:
    """MACs of each layer (a module without children), by name."""
    by_layer = _analyse(network, images).by_module_and_operator()
    leaves = {name for name, module in network.named_modules() if not list(module.children())}
    return {
        name: int(sum(count for operator, count in counts.items() if operator in _COUNTED))
        for name, counts in by_layer.items()
        if name in leaves
    }


def measure(network: nn.Module, images: Tensor) -> dict[str, Any]:
    """All costs of ``network`` for one image; ``images`` is an example, ``(1, 3, S, S)``.

    MACs, parameters and activations (elements that convolutions and matrix products put out) are
    counts, ``bytes`` is the size of the saved weights, latencies are milliseconds.
    """
    with _quiet(network):
        from fvcore.nn import ActivationCountAnalysis

        activations = ActivationCountAnalysis(network, images).unsupported_ops_warnings(False)
        activation_count = int(activations.total())
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return {
        "macs": count_macs(network, images),
        "parameters": sum(p.numel() for p in network.parameters()),
        "activations": activation_count,
        "bytes": buffer.tell(),
        "latency_ms": {f"batch_{n}": latency(network, images, n) for n in (1, 32)},
    }


def latency(network: nn.Module, images: Tensor, batch: int) -> dict[str, float]:
    """Milliseconds of a forward pass over ``batch`` images: p50 and p95 after a warm-up."""
    batched = images.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    durations: list[float] = []
    with _quiet(network), torch.inference_mode():
        for _ in range(3):
            network(batched)
        deadline = time.perf_counter() + _LATENCY_SECONDS
        while len(durations) < _LATENCY_REPEATS and (
            time.perf_counter() < deadline or len(durations) < 3
        ):
            _wait_for(images.device)
            start = time.perf_counter()
            network(batched)
            _wait_for(images.device)
            durations.append(1e3 * (time.perf_counter() - start))
    p50, p95 = np.percentile(durations, [50, 95])
    return {"p50": round(float(p50), 4), "p95": round(float(p95), 4)}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _analyse(network: nn.Module, images: Tensor) -> Any:
    with _quiet(network):
        from fvcore.nn import FlopCountAnalysis  # its import warns of torch.jit, and takes time

        analysis = FlopCountAnalysis(network, images).unsupported_ops_warnings(False)
        analysis.set_op_handle(f"aten::{_ATTENTION}", _attention_macs)
        analysis.uncalled_modules_warnings(False).total()  # traces now, in eval mode
    return analysis


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """The two matrix products of fused attention, which fvcore does not know."""
    query, key, value = (list(i.type().sizes()) for i in inputs[:3])
    # (..., L, E) times (..., E, S), and (..., L, S) times (..., S, V)
    return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


class _quiet:  # noqa: N801 - a context manager, used like a function
    """Eval mode inside (modes restored after), without the warnings of fvcore and its tracer."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def __enter__(self) -> None:
        self._modes = [(module, module.training) for module in self._network.modules()]
        self._network.eval()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.getLogger("fvcore").level
        logging.getLogger("fvcore").setLevel(logging.ERROR)

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("fvcore").setLevel(self._level)
        self._warnings.__exit__(None, None, None)
        for module, training in self._modes:
            module.training = training
