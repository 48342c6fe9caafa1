"""What torch's bfloat16 kernels for the CPU do slowly, done otherwise: the same mathematics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from itmc.networks.native.batch_norm import BatchNorm, Clamp, batch_norm
from itmc.parallel import world

Kernels = Literal["torch", "native"]

_FEWEST_CHANNELS = 64  # in and out; with fewer the convolution is as fast or faster
_ACTIVATIONS = frozenset({F.relu, F.relu6, F.hardtanh, F.hardswish, F.silu, F.leaky_relu, F.elu})


class FasterInBfloat16(TorchFunctionMode):
    """Inside, forward passes of networks on the CPU call kernels that are not slow in bfloat16.

    - Activations and residual sums make a new tensor: working in place takes two to four times as
      long as that (torch 2.15), though it moves less memory.
    - The gradient of a strided depthwise convolution for its input is that of the same convolution
      at stride 1: oneDNN takes ten times as long for the former, a third of a step of MobileNetV2.
    - A convolution of single pixels is a product of matrices, 5 % of a step of ResNet-50 faster.
    - BatchNorm in train mode is a kernel of our own, if ``kernels`` are native and one process
      trains: it and the activation after it pass half as often over memory as torch's two.

    What that BatchNorm puts out is written late: when the next function of torch is called, before
    anything can read it. Where that function is the activation, in place, both are one pass.
    (Scripts of TorchScript would not be noticed. No backbone has any.)
    """

    def __init__(self, kernels: Kernels = "torch") -> None:
        super().__init__()
        self._is_native = kernels == "native" and world().size == 1
        self._unwritten: BatchNorm | None = None

    def __exit__(self, *raised: Any) -> None:
        self._write(None)
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        before = self._unwritten
        if before is not None:
            clamp = _clamp_of(func, given) if args and args[0] is before.outputs else None
            self._write(clamp)
            if clamp is not None:
                return before.outputs
        if func is F.batch_norm and self._is_native:
            self._unwritten = batch_norm(*args, **given)
            if self._unwritten is not None:
                return self._unwritten.outputs
        if func in _ACTIVATIONS and given.get("inplace") and _are_half(args[0]):
            return func(*args, **given | {"inplace": False})
        if func is Tensor.add_ and not given and len(args) == 2 and _are_maps(*args):  # a += b
            return torch.add(*args)
        if func is torch.conv2d:
            return _convolved(_Convolution.called_with(*args, **given))
        return func(*args, **given)

    def _write(self, clamp: Clamp | None) -> None:
        unwritten, self._unwritten = self._unwritten, None
        if unwritten is not None:
            unwritten.write(clamp or Clamp())


def _clamp_of(func: Callable[..., Any], given: Mapping[str, Any]) -> Clamp | None:
    """What a call keeps its first argument within, in place; None where it is no such call."""
    if not given.get("inplace"):
        return None
    if func is F.hardtanh:
        return Clamp(given["min_val"], given["max_val"])
    return {F.relu: Clamp(0.0), F.relu6: Clamp(0.0, 6.0)}.get(func)


def _are_half(*values: Any) -> bool:
    return all(isinstance(value, Tensor) and value.dtype == torch.bfloat16 for value in values)


def _are_maps(*values: Any) -> bool:
    """Whether they are feature maps, whose sums networks go on with; others may be meant in place,
    as where positions are added to a sequence in a function of its own."""
    return _are_half(*values) and all(value.dim() == 4 for value in values)


class _Convolution(NamedTuple):
    """The arguments of ``torch.conv2d``, a number for each direction."""

    images: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: list[int]
    padding: list[int] | str
    dilation: list[int]
    groups: int

    @classmethod
    def called_with(
        cls,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> _Convolution:
        """Those of a call."""
        padding = padding if isinstance(padding, str) else _pair(padding)
        return cls(input, weight, bias, _pair(stride), padding, _pair(dilation), groups)

    @property
    def is_strided_depthwise(self) -> bool:
        """Whether it has one input channel a group and, both ways, the same stride above 1."""
        across, down = self.stride
        is_depthwise = self.groups > 1 and self.weight.shape[1] == 1
        return is_depthwise and across == down > 1 and not isinstance(self.padding, str)

    @property
    def is_product(self) -> bool:
        """Whether it multiplies each pixel's channels by one matrix, large enough to matter."""
        return (
            (self.weight.shape[2:], self.stride, self.groups) == ((1, 1), [1, 1], 1)
            and self.padding == [0, 0]
            and min(self.weight.shape[:2]) >= _FEWEST_CHANNELS
            and self.images.is_contiguous(memory_format=torch.channels_last)
        )


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _convolved(call: _Convolution) -> Tensor:
    if call.is_product:
        pixels = call.images.permute(0, 2, 3, 1)
        return F.linear(pixels, call.weight.flatten(1), call.bias).permute(0, 3, 1, 2)
    if not (call.is_strided_depthwise and torch.is_grad_enabled()):
        arguments: Any = call
        return torch.conv2d(*arguments)
    # As autocast does it, which does not reach inside.
    half = (None if t is None else t.bfloat16() for t in (call.images, call.weight, call.bias))
    convolved: Tensor = _StridedDepthwise.apply(*half, *call[3:])
    return convolved


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
