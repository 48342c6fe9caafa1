"""``python -m suites.bench latency``: how much faster a pruned network is, measured.

The pruned network and the unpruned one run in turns, in one process: a row's ratio is the median
over pairs of forward passes, which a machine that is busier at times disturbs least.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from itmc.cost import durations
from itmc.files import write_atomic
from itmc.networks import Network, NetworkConfig, build
from itmc.networks.build import example
from itmc.networks.export import check_packages, export_onnx
from itmc.pruning import prune
from itmc.pruning.cost_aware import CostAware
from suites.bench.arguments import among, integers, numbers
from suites.bench.machine import processor
from suites.command import DONE, at_least
from suites.outputs import check_file

RUNTIMES = ("torch", "onnxruntime")
_CRITERIA = ("uniform", "l1", "l2", "fpgm", "bn_scale", "random")
_CLASSES = 31
_HEADS = (
    "criterion", "per", "widths ×", "c", "MACs left", "runtime", "batch", "unpruned ms",
    "pruned ms", "time", "middle half", "pairs",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to prune."""

    criterion: str
    cost_aware: CostAware
    round_to: int
    compression: float


@dataclass(frozen=True)
class Measured:
    """One way, in one runtime at one batch size; ``taken``: milliseconds, ``(pairs, 2)``."""

    way: Way
    macs_left: float
    runtime: str
    batch: int
    taken: NDArray[np.float64]

    @property
    def ratios(self) -> NDArray[np.float64]:
        """The pruned network's time by the unpruned one's, a pair each."""
        ratios: NDArray[np.float64] = self.taken[:, 1] / self.taken[:, 0]
        return ratios


class OnnxRuntime(nn.Module):
    """``network`` as onnxruntime runs it, with as many threads as torch."""

    def __init__(self, network: Network, images: Tensor) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as folder:
            made = export_onnx(network, images, Path(folder) / "network.onnx")
            self._session = onnxruntime.InferenceSession(
                made.path, options, providers=["CPUExecutionProvider"]
            )

    def forward(self, images: Tensor) -> Any:
        return self._session.run(None, {"images": images.contiguous().numpy()})


def run(options: argparse.Namespace, command: str) -> int:
    """The command; returns the exit code."""
    check_file("--out", options.out)
    if "onnxruntime" in options.runtimes:
        check_packages()
    torch.set_num_threads(options.threads)
    config = NetworkConfig.model_validate(
        {"backbone": options.backbone, "classes": _CLASSES, "image_size": options.image_size}
    )
    ways = [
        Way(*values)
        for values in itertools.product(
            options.criteria, options.cost_aware, options.round_to, options.compressions
        )
    ]
    rows = []
    for measured in measure(config, ways, options.runtimes, options.batches, options.seconds):
        rows.append(measured)
        print(" ".join(_row(measured)), file=sys.stderr)
    text = page(config, rows, options.threads, command)
    print(text)
    if options.out is not None:
        write_atomic(options.out, text.encode())
    return DONE


def measure(
    config: NetworkConfig,
    ways: Sequence[Way],
    runtimes: Sequence[str],
    batches: Sequence[int],
    seconds: float,
) -> Iterator[Measured]:
    """Prune the network of ``config`` in each of ``ways`` and time it against the unpruned one."""
    images, unpruned = example(config), build(config).eval()
    prepared = {runtime: _prepared(unpruned, images, runtime) for runtime in runtimes}
    # All of them first: what cannot be that small is refused before anything is timed.
    pruned = [_pruned(unpruned, images, way) for way in ways]
    for way, (network, macs_left) in zip(ways, pruned, strict=True):
        for runtime in runtimes:
            pair = prepared[runtime], _prepared(network, images, runtime)
            for batch in batches:
                taken = durations(pair, images, batch, seconds)
                yield Measured(way, macs_left, runtime, batch, taken)


def _pruned(unpruned: Network, images: Tensor, way: Way) -> tuple[Network, float]:
    """A copy of ``unpruned``, pruned, and the share of MACs that it is left with."""
    network = copy.deepcopy(unpruned)
    made = prune(
        network, images, way.compression, way.criterion, keep=(network.bottleneck[0],),
        round_to=way.round_to, cost_aware=way.cost_aware,
    )  # fmt: skip
    return network, 1 - made.compression


def _prepared(network: Network, images: Tensor, runtime: str) -> nn.Module:
    return network if runtime == "torch" else OnnxRuntime(network, images)


def page(config: NetworkConfig, rows: Sequence[Measured], threads: int, command: str) -> str:
    """What was measured, in Markdown."""
    lines = [_HEADS, tuple("---" for _ in _HEADS), *map(_row, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    runtimes = dict.fromkeys(row.runtime for row in rows)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in runtimes)
    return f"""# Latency of {config.backbone}, pruned, against the unpruned network

Made by `{command}`. Random weights, {config.image_size} px, float32, {threads} thread(s) of a
{platform.machine()} CPU ({processor()}), {versions}. The two networks run in turns; *time* is the
median over the pairs of the ratio pruned / unpruned, *middle half* its quartiles; *per*: importance
divided by what a channel's removal saves; *widths ×*: widths are multiples of this.

{table}
"""


def _row(row: Measured) -> tuple[str, ...]:
    low, middle, high = np.percentile(row.ratios, [25, 50, 75])
    unpruned, pruned = np.median(row.taken, axis=0)
    return (
        row.way.criterion,
        row.way.cost_aware,
        str(row.way.round_to),
        f"{row.way.compression:g}",
        f"{row.macs_left:.3f}",
        row.runtime,
        str(row.batch),
        f"{unpruned:.3g}",
        f"{pruned:.3g}",
        f"{middle:.3f}",
        f"{low:.3f}-{high:.3f}",
        str(len(row.ratios)),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command may be asked for."""
    parser.add_argument("--backbone", default="resnet50", help="default: %(default)s")
    parser.add_argument("--image-size", type=at_least(8), default=224, help="default: %(default)s")
    parser.add_argument(
        "--compressions", type=numbers, default=[0.5, 0.75], help="default: 0.5,0.75"
    )
    parser.add_argument(
        "--criteria", type=among(_CRITERIA), default=["l2"], help="of weights; default: l2"
    )
    parser.add_argument(
        "--cost-aware", type=among(get_args(CostAware)), default=["none"], help="default: none"
    )
    parser.add_argument("--round-to", type=integers, default=[16], help="default: 16")
    parser.add_argument(
        "--runtimes", type=among(RUNTIMES), default=list(RUNTIMES), help="default: all"
    )
    parser.add_argument("--batches", type=integers, default=[1, 32], help="default: 1,32")
    parser.add_argument(
        "--threads",
        type=at_least(1),
        default=os.cpu_count(),
        help="default: all cores (%(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of measuring a network and row; %(default)s"
    )
    parser.add_argument("--out", type=Path, help="write the page here too")
