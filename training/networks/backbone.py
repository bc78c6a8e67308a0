"""The backbone: a heavy encoder of the degraded image, run once, and a light head that every step of the sampler runs.

Plain 3x3 convolutions, ReLU, nearest upsampling, no normalisation: such a graph stays in ONNX Runtime's blocked layout
from end to end, and a tile's result does not depend on pixels beyond the receptive field.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UnshuffledConv(nn.Conv2d):
    """3x3 convolution of the image unshuffled by 2, (N, C, H, W) -> (N, width, H/2, W/2).

    Computed as the 6x6 convolution of stride 2 that it equals, which spares the graph a transposition of the image.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(4 * channels, width, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, F.pixel_shuffle(self.weight, 2), self.bias, stride=2, padding=2)


class Residual(nn.Module):
    """x + conv(relu(conv(x) + bias of step t)); without steps the bias is the convolution's own."""

    def __init__(self, width: int, steps: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.step_bias = nn.Parameter(torch.zeros(steps, width)) if steps else None
        with torch.no_grad():  # near the identity at first, since nothing normalises
            self.conv2.weight.mul_(0.1)
            self.conv2.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor, t: Any = None) -> Tensor:
        hidden = self.conv1(x)
        if self.step_bias is not None:
            hidden = hidden + _row(self.step_bias, t).to(hidden.dtype)  # bf16 stays bf16
        return x + self.conv2(F.relu(hidden))


class Encoder(nn.Module):
    """U-Net over the degraded image: (N, C, H, W), H and W multiples of 2^len(widths) -> (N, widths[0], H/2, W/2)."""

    def __init__(self, channels: int, widths: tuple[int, ...], down: tuple[int, ...], up: tuple[int, ...]) -> None:
        super().__init__()
        self.conv_in = UnshuffledConv(channels, widths[0])
        self.down_blocks = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, down, strict=True))
        self.down_convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, stride=2) for a, b in pairwise(widths))
        # Narrowed before the upsampling, at a quarter of the cost of doing it after.
        self.up_convs = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.up_blocks = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, up, strict=False))

    def forward(self, degraded: Tensor) -> Tensor:
        x = self.conv_in(degraded)
        skips = []
        for blocks, conv in zip(self.down_blocks, self.down_convs, strict=False):
            x = blocks(x)
            skips.append(x)
            x = conv(x)
        x = self.down_blocks[-1](x)
        for conv, blocks in zip(reversed(self.up_convs), reversed(self.up_blocks), strict=True):
            x = F.interpolate(conv(x), scale_factor=2.0, mode="nearest") + skips.pop()
            x = blocks(x)
        return x


class Head(nn.Module):
    """What a step costs: (x_t, features, t) -> the correction of the clean estimate, (N, C, H, W)."""

    def __init__(self, channels: int, width: int, blocks: int, steps: int) -> None:
        super().__init__()
        self.conv_in = UnshuffledConv(channels, width)
        self.step_bias = nn.Parameter(torch.zeros(steps, width))
        self.blocks = nn.ModuleList(Residual(width, steps) for _ in range(blocks))
        self.conv_out = nn.Conv2d(width, 4 * channels, 3, padding=1)
        with torch.no_grad():
            self.conv_out.weight.mul_(0.1)
            self.conv_out.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x_t: Tensor, features: Tensor, t: Any) -> Tensor:
        x = self.conv_in(x_t)
        x = x + _row(self.step_bias, t).to(x.dtype) + features
        for block in self.blocks:
            x = block(x, t)
        return F.pixel_shuffle(self.conv_out(F.relu(x)), 2)


class Backbone(nn.Module):
    """Clean image from (x_t, t) given the degraded one:  y + carry_t (x_t - y) + head(x_t, encoder(y), t).

    carry lets a late step start from the chain's own estimate instead of from the degraded image.
    t is an int or a LongTensor (N,), in 0..steps-1.
    """

    def __init__(
        self,
        channels: int = 3,
        steps: int = 4,
        widths: tuple[int, ...] = (32, 64, 128),
        down: tuple[int, ...] = (1, 1, 3),
        up: tuple[int, ...] = (1, 1),
        head_blocks: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, tuple(widths), tuple(down), tuple(up))
        self.head = Head(channels, widths[0], head_blocks, steps)
        self.carry = nn.Parameter(torch.zeros(steps, 1))
        self.channels = channels
        self.multiple = 2 ** len(widths)

    def encode(self, degraded: Tensor) -> Tensor:
        """Everything that depends on the degraded image alone; once per chain."""
        features: Tensor = self.encoder(degraded)
        return features

    def step(self, x_t: Tensor, degraded: Tensor, features: Tensor, t: Any) -> Tensor:
        correction: Tensor = self.head(x_t, features, t)
        return degraded + _row(self.carry, t) * (x_t - degraded) + correction

    def forward(self, x_t: Tensor, degraded: Tensor, t: Any) -> Tensor:
        return self.step(x_t, degraded, self.encode(degraded), t)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(count)))


def _row(table: Tensor, t: Any) -> Tensor:
    """Row t of a (steps, width) table, shaped to be added to (N, width, H, W)."""
    row = table[t]
    return row.view(-1, row.shape[-1], 1, 1)
