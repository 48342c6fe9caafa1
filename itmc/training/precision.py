"""Which precision a device computes fast in."""

from __future__ import annotations

from typing import Literal

import torch

from itmc.networks.compute import Precision

Asked = Literal["auto", "fp32", "bf16"]


def resolved(asked: Asked, device: str) -> Precision:
    """The precision that is meant: ``auto`` is bf16 where ``device`` has instructions for it.

    ``device``: ``cpu`` or ``cuda``. Those of this machine are asked; where it has no GPU, one of
    another machine is meant, and is taken to have them, as all have since 2020.
    """
    if asked != "auto":
        return asked
    return "bf16" if _is_fast(device) else "fp32"


def _is_fast(device: str) -> bool:
    if device == "cuda":
        # Ampere (8.0) is the first generation with products in bfloat16.
        return not torch.cuda.is_available() or torch.cuda.get_device_capability() >= (8, 0)
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
