"""torchvision's attentions in timm's terms, whose heads need not span their width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.models.swin_transformer import WindowAttention, window_partition, window_reverse
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.models.swin_transformer import ShiftedWindowAttention


class SelfAttention(Attention):
    """``nn.MultiheadAttention`` of a sequence with itself, whose heads need not span its width."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Take over the weights and the dropout of ``attention`` (``batch_first``)."""
        super().__init__(
            attention.embed_dim, attention.num_heads, qkv_bias=True, attn_drop=attention.dropout
        )
        self.qkv.weight, self.qkv.bias = attention.in_proj_weight, attention.in_proj_bias
        self.proj = attention.out_proj

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        return super().forward(query), None


class ShiftedWindows(WindowAttention):
    """Attention within windows, shifted in every second block (Liu et al. 2021, sec. 3.2)."""

    def __init__(self, attention: ShiftedWindowAttention) -> None:
        """Take over the weights, the windows and the dropout of ``attention``."""
        super().__init__(
            attention.proj.in_features, attention.num_heads,
            window_size=tuple(attention.window_size),
            attn_drop=attention.attention_dropout, proj_drop=attention.dropout,
        )  # fmt: skip
        self.shift = tuple(attention.shift_size)
        self.qkv, self.proj = attention.qkv, attention.proj
        self.relative_position_bias_table = attention.relative_position_bias_table

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """``images``: ``(N, H, W, C)``; so is the output. The mask is made here."""
        height, width = images.shape[1:3]
        tall, wide = self.window_size
        padded = F.pad(images, (0, 0, 0, -width % wide, 0, -height % tall))
        rows, columns = padded.shape[1:3]
        # One window that covers a side has nowhere to be shifted to.
        down, right = self.shift[0] * (rows > tall), self.shift[1] * (columns > wide)
        rolled = padded.roll((-down, -right), (1, 2))
        tokens = window_partition(rolled, self.window_size).flatten(1, 2)
        apart = self._apart(rolled, down, right) if down or right else None
        attended = super().forward(tokens, apart)
        windows = attended.reshape(-1, tall, wide, attended.shape[-1])
        joined: Tensor = window_reverse(windows, self.window_size, rows, columns)
        return joined.roll((down, right), (1, 2))[:, :height, :width].contiguous()

    def _apart(self, images: Tensor, down: int, right: int) -> Tensor:
        """-100 between tokens that the shift brought together from opposite edges, else 0."""
        row, column = (torch.arange(size, device=images.device) for size in images.shape[1:3])
        bands = (row >= len(row) - down).long() * 2 + (column >= len(column) - right).long()[
            :, None
        ]
        regions = bands.T[None, :, :, None].to(images.dtype)
        windows: Tensor = window_partition(regions, self.window_size).flatten(1)
        differ = windows[:, None] != windows[:, :, None]
        return differ.to(images.dtype) * -100.0
