"""The page that ``suites.zoo`` writes."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray

_HEADS = (
    "family", "backbone", "px", "MMACs", "removed", "M parameters", "ms", "time", "pruned in",
    "result",
)  # fmt: skip
_LIBRARIES = ("torch", "torchvision", "timm", "torch-pruning", "fvcore")


@dataclass
class Outcome:
    """What came out for one backbone. Pairs are before and after; what was not reached is empty."""

    family: str
    backbone: str
    size: int
    macs: tuple[int, int] | None = None
    parameters: tuple[int, int] | None = None
    milliseconds: tuple[float, float] | None = None
    ratio: float | None = None
    """Median, over pairs of forward passes, of the time after to the time before."""
    pruning_seconds: float | None = None
    """Tracing, importance on two batches, selection, surgery and its check."""
    whole: dict[str, str] = field(default_factory=dict)
    """Layers that keep all their channels, and why."""
    refusal: str = ""
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether it went through everything."""
        return not self.refusal and not self.error

    @property
    def result(self) -> str:
        """``pass``, or the reason."""
        if self.error:
            return f"FAIL: {self.error}"
        if self.refusal:
            return f"refused: {self.refusal}"
        if not self.whole:
            return "pass"
        reasons = " / ".join(sorted(set(self.whole.values())))
        return f"pass; layers left whole: {len(self.whole)} ({reasons})"

    def time_milliseconds(self, taken: NDArray[np.float64]) -> None:
        """Take in ``durations`` of the unpruned and the pruned network, ``(rounds, 2)``."""
        before, after = np.median(taken, axis=0)
        self.milliseconds = float(before), float(after)
        self.ratio = float(np.median(taken[:, 1] / taken[:, 0]))


def summary(outcomes: Sequence[Outcome]) -> str:
    """One sentence: how many pass, of how many families."""
    passed = [outcome for outcome in outcomes if outcome.passed]
    refused = sum(bool(outcome.refusal) for outcome in outcomes)
    failed = sum(bool(outcome.error) for outcome in outcomes)
    families = len({outcome.family for outcome in passed})
    return (
        f"{len(passed)} of {len(outcomes)} backbones pass, from {families} families; "
        f"{refused} refused, {failed} failed"
    )


def page(outcomes: Sequence[Outcome], formats: Sequence[str], command: str) -> str:
    """The whole page, in Markdown; ``command`` made it."""
    steps = ["importance", "surgery", "training", "saving", "loading", *formats]
    rows = [_HEADS, tuple("---" for _ in _HEADS), *map(_row, outcomes)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return f"""# The zoo: which backbones can be pruned

{summary(outcomes)}. Made by `{command}`.

Each backbone, at random weights, with a bottleneck and a head, went through {", ".join(steps)}; a
`pass` is through all of it. Pairs are before → after. MACs are fvcore's, for one image; *ms* is the
median of a forward pass of one image on this CPU ({platform.machine()},
{torch.get_num_threads()} thread(s), float32, PyTorch eager), *time* the median of the paired ratios
after / before (a network of few milliseconds spends most of them on overheads that pruning does not
touch); *pruned in* is seconds of tracing, importance on two batches of eight images, selection,
surgery and its check. Widths are not rounded here. Refusals are the command's own words.

{table}

{versions}.
"""


def _row(outcome: Outcome) -> tuple[str, ...]:
    macs = outcome.macs
    return (
        outcome.family,
        f"`{outcome.backbone}`",
        str(outcome.size),
        _pair(macs, 1e6),
        f"{100 * (1 - macs[1] / macs[0]):.1f} %" if macs else "",
        _pair(outcome.parameters, 1e6),
        _pair(outcome.milliseconds, 1),
        f"{outcome.ratio:.2f}" if outcome.ratio is not None else "",
        f"{outcome.pruning_seconds:.1f} s" if outcome.pruning_seconds is not None else "",
        outcome.result.replace("|", "\\|"),
    )


def _pair(values: tuple[float, float] | None, unit: float) -> str:
    return " → ".join(f"{value / unit:.3g}" for value in values) if values else ""
