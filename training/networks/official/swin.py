"""The window-attention stage of ResShift's U-Net, after Swin (Liu et al. 2021, arXiv 2103.14030), on NCHW arrays.

The mask of the shifted blocks is not Swin's: the published weights were trained with another one, see `row_mask`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restonnx.training.networks.official.unet import GroupNorm

MASKED = -100.0


class WindowAttention(nn.Module):
    """Attention among the pixels of a window, with a learned bias by relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """windows: (N, rows, columns, pixels, width); mask: (rows, 1, 1, pixels, pixels), added to the scores."""
        *outer, pixels, width = windows.shape
        qkv = self.qkv(windows).reshape(*outer, pixels, 3, self.heads, width // self.heads)
        q, k, v = (qkv.select(-3, i).transpose(-2, -3) for i in range(3))  # (N, rows, columns, heads, pixels, channels)
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-1, -2)
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.reshape(-1))
        scores = scores + bias.reshape(pixels, pixels, self.heads).permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask
        mixed = scores.softmax(dim=-1) @ v
        return self.proj(mixed.transpose(-2, -3).reshape(*outer, pixels, width))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """x + attention within (shifted) windows, then x + mlp, each after its normalisation."""

    def __init__(self, width: int, side: int, window: int, heads: int, mlp_ratio: float, shifted: bool) -> None:
        super().__init__()
        # Decided by the nominal side, whatever the size of the image at hand.
        self.window = min(side, window)
        self.shift = window // 2 if shifted and side > window else 0
        self.norm1 = GroupNorm(width)
        self.attn = WindowAttention(width, self.window, heads)
        self.norm2 = GroupNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        if self.shift:
            # A constant with a value even where the network is built on the meta device.
            self.split = window_mask(self.window, self.shift, device="cpu")
            # Of the nominal side, for the state dict alone; `forward` goes by the actual one.
            self.register_buffer("attn_mask", nominal_mask(side, self.window, self.shift))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        n, width, height, breadth = x.shape
        w, s = self.window, self.shift
        rows, columns = height // w, breadth // w
        if s:
            x = rolled(x, s)
        windows = x.reshape(n, width, rows, w, columns, w).permute(0, 2, 4, 3, 5, 1)
        windows = windows.reshape(n, rows, columns, w * w, width)
        windows = self.attn(windows, row_mask(rows, self.split.to(x)) if s else None)
        x = windows.reshape(n, rows, columns, w, w, width).permute(0, 5, 1, 3, 2, 4).reshape(n, width, height, breadth)
        return rolled(x, -s) if s else x


class Projection(nn.Module):
    """A 1x1 convolution into or out of the stage's width, and its normalisation where `patch_norm` is set."""

    def __init__(self, channels: int, out_channels: int, norm: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, out_channels, 1)
        self.norm = GroupNorm(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class SwinStage(nn.Module):
    """`depth` Swin blocks, every second one shifted, between two projections; no residual around them.

    side: the nominal side of its input.  Height and width are multiples of `multiple`.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        depth: int,
        heads: int,
        side: int,
        window: int,
        mlp_ratio: float,
        patch_norm: bool,
    ) -> None:
        super().__init__()
        self.multiple = min(side, window)
        self.patch_embed = Projection(channels, width, patch_norm)
        self.blocks = nn.ModuleList(
            SwinBlock(width, side, window, heads, mlp_ratio, shifted=i % 2 == 1) for i in range(depth)
        )
        self.patch_unembed = Projection(width, channels, patch_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return self.patch_unembed(x)


def relative_position_index(window: int) -> Tensor:
    """(w^2, w^2) int64: the row of the bias table for every pair of query and key, row by row inside the window."""
    place = torch.arange(window * window)
    row, column = place // window, place % window
    down = row[:, None] - row[None, :] + window - 1
    right = column[:, None] - column[None, :] + window - 1
    return down * (2 * window - 1) + right


def window_mask(window: int, shift: int, device: str | None = None) -> Tensor:
    """(w^2, w^2): -100 between pixels left and right of column w - s of the window, 0 else."""
    right = (torch.arange(window * window, device=device) % window) >= window - shift
    return (right[:, None] != right[None, :]).float() * MASKED


def row_mask(rows: int, split: Tensor) -> Tensor:
    """(rows, 1, 1, w^2, w^2): what is added to the scores of a shifted block; split: `window_mask`.

    The published networks mask the windows of the last row alone, all columns alike, and there they split a window by
    its columns, although it is its rows that come from opposite edges of the image.  Swin's own mask gives other
    results with these weights.
    """
    last = (torch.arange(rows, device=split.device) == rows - 1).to(split.dtype)
    return last.reshape(-1, 1, 1, 1, 1) * split


def nominal_mask(side: int, window: int, shift: int) -> Tensor:
    """(windows, w^2, w^2): `row_mask` for a square image, window by window."""
    rows = side // window
    mask = row_mask(rows, window_mask(window, shift))
    return mask.expand(rows, rows, 1, *mask.shape[-2:]).reshape(rows * rows, *mask.shape[-2:])


def rolled(x: Tensor, by: int) -> Tensor:
    """The image moved up and left around its edges; two concatenations, which trace better than torch.roll."""
    x = torch.cat([x[:, :, by:], x[:, :, :by]], dim=2)
    return torch.cat([x[..., by:], x[..., :by]], dim=3)
