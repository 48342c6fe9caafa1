"""The precision that steps are done in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from itmc.training.stage import Stage

Precision = Literal["fp32", "bf16"]
_FLAGS = ("avx512_bf16", "amx_bf16")


def resolved(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """``asked``; for ``auto`` bf16 where ``device`` multiplies matrices in it."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return "fp32"
    return "bf16" if set(_FLAGS) & set(flags) else "fp32"


def prepared(stage: Stage, precision: Precision, device: torch.device) -> None:
    """Have ``stage`` compute its losses in ``precision``."""
    if precision == "bf16":
        autocast = torch.autocast(device.type, torch.bfloat16)
        stage.losses = autocast(stage.losses)  # type: ignore[method-assign]
