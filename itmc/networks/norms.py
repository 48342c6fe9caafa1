"""BatchNorm over the global batch, where several processes pass a part of it each.

The layers stay what they are, so that surgery, importance and saved networks know nothing of it:
inside ``synchronised`` the function that they all call takes its statistics from all processes.
Layers that normalise by batch in a way of their own (timm's EvoNorm B) do not call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

from itmc.losses.precision import at_least_float32
from itmc.parallel import summed, world


def synchronised() -> AbstractContextManager[Any]:
    """Open around forward passes: BatchNorm in train mode is then that of the global batch.

    All processes must make the same passes. Where there is one process, nothing changes.
    """
    return _Synchronised() if world().size > 1 else nullcontext()


class _Synchronised(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        function = _batch_norm if func is F.batch_norm else func
        return function(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` with statistics of all processes; the parameters are torch's."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if input.device.type == "cuda":  # what nn.SyncBatchNorm calls, which the CPU has not
        normalised: Tensor = SyncBatchNorm.apply(
            input, weight, bias, running_mean, running_var, eps, momentum,
            dist.group.WORLD, world().size,
        )  # fmt: skip
        return normalised
    others = [dim for dim in range(input.dim()) if dim != 1]
    shape = [1, -1] + [1] * (input.dim() - 2)
    count = input.numel() // input.shape[1] * world().size
    values = at_least_float32(input)
    mean = summed(values.sum(others)) / count
    centred = values - mean.view(shape)
    variance = summed(centred.square().sum(others)) / count
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean, momentum)
        if running_var is not None:
            running_var.lerp_(variance * count / (count - 1), momentum)
    scale = torch.rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    outputs = centred * scale.view(shape)
    outputs = outputs if bias is None else outputs + bias.view(shape)
    return outputs.to(input.dtype)
