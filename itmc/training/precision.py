"""Which precision a device computes fast in, and by whose kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from itmc.errors import UsageError
from itmc.networks.compute import Compute, Precision
from itmc.networks.kernels import Kernels
from itmc.networks.native.build import NoKernelsError, library

Asked = Literal["auto", "fp32", "bf16"]
AskedKernels = Literal["auto", "native", "torch"]


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


def settled(
    asked: AskedKernels, compute: Compute, device: str, say: Callable[[str], None]
) -> Kernels:
    """The kernels that are meant: ``auto`` is native where there are such and they can be had.

    ``compute``: all else of how images pass. Compiles the kernels where that has not been done.
    Where auto does without for want of a compiler, ``say`` hears of it. UsageError where native
    ones are asked for and there are none.
    """
    if asked == "torch":
        return "torch"
    are_such = (compute.precision, device) == ("bf16", "cpu") and compute.channels_last
    if not are_such or compute.compile:
        if asked == "native":
            raise UsageError(
                "--kernels native: there are such for bf16 on the CPU only, channels last and "
                "without --compile"
            )
        return "torch"
    try:
        library()
    except NoKernelsError as error:
        if asked == "native":
            raise UsageError(f"--kernels native: {error}") from error
        say(f"kernels: torch's, which are slower: {error}")
        return "torch"
    return "native"
