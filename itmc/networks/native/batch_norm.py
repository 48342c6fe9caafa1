"""BatchNorm in train mode with its activation: ``batch_norm.cpp`` for torch."""

from __future__ import annotations

import math
from ctypes import c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itmc.networks.native.build import library


@dataclass
class Clamp:
    """What the activation keeps outputs within: ReLU 0 and infinity, ReLU6 0 and 6."""

    lowest: float = -math.inf
    highest: float = math.inf


class BatchNorm:
    """BatchNorm of some images, whose statistics are taken, and whose outputs are to be written.

    Until ``write`` the tensor ``outputs`` is whole, for autograd too, but for its numbers.
    """

    def __init__(
        self,
        images: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        weight: Tensor | None,
        bias: Tensor | None,
        momentum: float,
        eps: float,
    ) -> None:
        """Statistics of ``images``, ``(N, C, H, W)``; the running mean and variance move too."""
        self._clamp = Clamp()
        self._images, self._line = images, torch.empty(4, images.shape[1])
        library().statistics(
            _at(images), *_sizes(images), _at(weight), _at(bias), *map(_at, running),
            c_float(momentum), c_float(eps), _at(self._line), _threads(),
        )  # fmt: skip
        outputs: Tensor = _Unwritten.apply(images, weight, bias, self._line, self._clamp)
        self.outputs = outputs

    def write(self, clamp: Clamp) -> None:
        """Write the outputs, within ``clamp``; the gradients will be of that too."""
        self._clamp.lowest, self._clamp.highest = clamp.lowest, clamp.highest
        library().normalise(
            _at(self._images), _at(self.outputs), *_sizes(self._images), _at(self._line),
            *_bounds(clamp), _threads(),
        )  # fmt: skip


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> BatchNorm | None:
    """``F.batch_norm``, with its parameters; None where the kernel does not do what is asked.

    It does the train mode of images in bf16 on the CPU, channels last, more than one pixel of each
    channel, with all else in float32.
    """
    vectors = (running_mean, running_var, weight, bias)
    if (
        training
        and (input.dtype, input.device.type) == (torch.bfloat16, "cpu")
        and input.dim() == 4
        and input.is_contiguous(memory_format=torch.channels_last)
        and input.numel() > input.shape[1]
        and all(v is None or (v.dtype == torch.float32 and v.is_contiguous()) for v in vectors)
    ):
        return BatchNorm(input, (running_mean, running_var), weight, bias, momentum, eps)
    return None


class _Unwritten(torch.autograd.Function):
    """Outputs without their numbers."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        line: Tensor,
        clamp: Clamp,
    ) -> Tensor:
        ctx.save_for_backward(images, line)
        ctx.clamp = clamp
        return torch.empty_like(images)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, line = ctx.saved_tensors
        for_images, for_weight, for_bias, *_ = ctx.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = torch.empty_like(images) if for_images else None
        of_weight, of_bias = torch.empty(2, images.shape[1]).unbind()
        library().gradients(
            _at(images), _at(gradient), _at(of_images), *_sizes(images), _at(line),
            *_bounds(ctx.clamp), _at(of_weight), _at(of_bias), _threads(),
        )  # fmt: skip
        return (
            of_images,
            of_weight if for_weight else None,
            of_bias if for_bias else None,
            None,
            None,
        )


def _at(tensor: Tensor | None) -> c_void_p:
    return c_void_p(None if tensor is None else tensor.data_ptr())


def _sizes(images: Tensor) -> tuple[c_int64, c_int64]:
    """Numbers of pixels and channels."""
    channels = images.shape[1]
    return c_int64(images.numel() // channels), c_int64(channels)


def _bounds(clamp: Clamp) -> tuple[c_float, c_float]:
    return c_float(clamp.lowest), c_float(clamp.highest)


def _threads() -> c_int:
    return c_int(torch.get_num_threads())
