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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from itmc.networks.modes import in_eval_mode

_ATTENTION = "scaled_dot_product_attention"
_COUNTED = frozenset({"conv", "linear", "addmm", "matmul", "bmm", "baddbmm", "einsum", _ATTENTION})
_WARM_UP, _FEWEST_ROUNDS, _MOST_ROUNDS = 3, 3, 50


def count_macs(network: nn.Module, images: Tensor) -> int:
    """MACs of one forward pass over ``images``, ``(N, 3, H, W)``; divide by N for one image."""
    operators = _analyse(network, images).by_operator()
    return int(sum(count for name, count in operators.items() if name in _COUNTED))


def layer_macs(network: nn.Module, images: Tensor) -> dict[str, int]:
    """MACs that each module spends itself, its children's not counted, by name (none: left out).

    Nearly all belong to layers; an attention has its two matrix products of its own.
    """
    by_module = _analyse(network, images).by_module_and_operator()
    counts = {
        name: int(sum(count for operator, count in counts.items() if operator in _COUNTED))
        for name, counts in by_module.items()
    }
    own = dict(counts)
    for name, count in counts.items():
        if name:
            own[name.rpartition(".")[0]] -= count
    return {name: count for name, count in own.items() if count}


def measure(networks: Mapping[str, nn.Module], images: Tensor) -> dict[str, dict[str, Any]]:
    """All costs of each of ``networks`` for one image; ``images`` is an example, ``(1, 3, S, S)``.

    MACs, parameters and activations (elements that convolutions and matrix products put out) are
    counts, ``bytes`` is the size of the saved weights. Latencies are milliseconds at batch sizes 1
    and 32, in the networks' precision, with ``threads`` threads where on a CPU.
    """
    costs = {name: _counts(network, images) for name, network in networks.items()}
    for batch in (1, 32):
        taken = durations(tuple(networks.values()), images, batch)
        for column, cost in zip(taken.T, costs.values(), strict=True):
            cost["latency_ms"][f"batch_{batch}"] = _percentiles(column)
    return costs


def durations(
    networks: Sequence[nn.Module], images: Tensor, batch: int, seconds: float = 0.5
) -> NDArray[np.float64]:
    """Milliseconds of forward passes over ``batch`` images, ``(rounds, networks)``.

    The networks take turns after a warm-up, so that a row is a pair (or more) measured under the
    same conditions. It goes on for ``seconds`` a network, but for 3 to 50 rounds.
    """
    batched = images.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    clock = _seconds_on_gpu if images.device.type == "cuda" else _seconds_on_cpu
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(_quiet(network))
        stack.enter_context(torch.inference_mode())
        for network in networks:
            for _ in range(_WARM_UP):
                network(batched)
        rows: list[list[float]] = []
        deadline = time.perf_counter() + seconds * len(networks)
        while len(rows) < _MOST_ROUNDS and (
            time.perf_counter() < deadline or len(rows) < _FEWEST_ROUNDS
        ):
            rows.append([1e3 * clock(network, batched) for network in networks])
    return np.array(rows)


def _counts(network: nn.Module, images: Tensor) -> dict[str, Any]:
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
        "latency_ms": {"threads": torch.get_num_threads()},
    }


def _percentiles(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 4), "p95": round(float(p95), 4)}


def _seconds_on_cpu(network: nn.Module, images: Tensor) -> float:
    start = time.perf_counter()
    network(images)
    return time.perf_counter() - start


def _seconds_on_gpu(network: nn.Module, images: Tensor) -> float:
    """By the device's own clock: the host only queues the work, and does not wait in between."""
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    network(images)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


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


@contextmanager
def _quiet(network: nn.Module) -> Iterator[None]:
    """Eval mode inside (modes restored after), without the warnings of fvcore and its tracer."""
    logger = logging.getLogger("fvcore")
    level = logger.level
    with in_eval_mode(network), warnings.catch_warnings(action="ignore"):
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
