"""What torch's bfloat16 kernels for the CPU do slowly, done otherwise: the same mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ACTIVATIONS = frozenset({F.relu, F.relu6, F.hardtanh, F.hardswish, F.silu, F.leaky_relu, F.elu})


class FasterInBfloat16(TorchFunctionMode):
    """Inside, forward passes of networks on the CPU call kernels that are not slow in bfloat16.

    - Activations and residual sums make a new tensor: working in place takes two to four times as
      long as that (torch 2.15), though it moves less memory.
    - The gradient of a strided depthwise convolution for its input is that of the same convolution
      at stride 1: oneDNN takes ten times as long for the former, a third of a step of MobileNetV2.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _ACTIVATIONS and given.get("inplace") and _are_half(args[0]):
            return func(*args, **given | {"inplace": False})
        if func is Tensor.add_ and not given and len(args) == 2 and _are_half(*args):  # a += b
            return torch.add(*args)
        if func is torch.conv2d and _is_strided_depthwise(*args, **given):
            return _convolved(*args, **given)
        return func(*args, **given)


def _are_half(*values: Any) -> bool:
    return all(isinstance(value, Tensor) and value.dtype == torch.bfloat16 for value in values)


def _is_strided_depthwise(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether that convolution has one input channel a group and, both ways, the same stride > 1.

    The arguments are those of ``torch.conv2d``; paddings by name are left to it.
    """
    strides = _pair(stride)
    return (
        groups > 1
        and weight.shape[1] == 1
        and strides[0] == strides[1] > 1
        and not isinstance(padding, str)
        and torch.is_grad_enabled()
    )


def _convolved(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    # As autocast does it, which does not reach inside.
    half = images.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
    convolved: Tensor = _StridedDepthwise.apply(
        *half, _pair(stride), _pair(padding), _pair(dilation), groups
    )
    return convolved


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _StridedDepthwise(torch.autograd.Function):
    """``torch.conv2d``, whose gradient for the input goes by stride 1."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.how = stride, padding, dilation, groups, None if bias is None else list(bias.shape)
        return torch.conv2d(images, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups, bias = ctx.how
        (gradient,) = gradients
        for_images, for_weight, for_bias = ctx.needs_input_grad[:3]
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, images, weight, bias, stride, padding, dilation, False, [0, 0], groups,
            [False, for_weight, for_bias],
        )  # fmt: skip
        of_images = None
        if for_images:
            # At stride 1 there are outputs between those that there are, and nothing depends on
            # them: their gradient is zero.
            spread = _spread(gradient, images, weight, stride, padding, dilation)
            of_images, _, _ = torch.ops.aten.convolution_backward(
                spread, images, weight, None, [1, 1], padding, dilation, False, [0, 0], groups,
                [True, False, False],
            )  # fmt: skip
        return of_images, of_weight, of_bias, None, None, None, None


def _spread(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
) -> Tensor:
    """``gradient`` with zeros between its elements, of the size that outputs have at stride 1."""
    sides = [
        side + 2 * pad - far * (kernel - 1)
        for side, pad, far, kernel in zip(
            images.shape[2:], padding, dilation, weight.shape[2:], strict=True
        )
    ]
    spread = torch.empty(
        (*gradient.shape[:2], *sides), dtype=gradient.dtype, device=gradient.device,
        memory_format=torch.channels_last,
    ).zero_()  # fmt: skip
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    return spread
