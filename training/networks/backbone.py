"""The backbone: a heavy encoder of the degraded image, run once, and a light head that every step of the sampler runs.

Plain 3x3 convolutions, leaky ReLU, nearest upsampling, no normalisation: such a graph stays in ONNX Runtime's blocked
layout from end to end, and a tile's result does not depend on pixels beyond the receptive field.

For super-resolution the encoder sees the small image as it is, at a fraction of the large one's cost, and the chain
begins with the image enlarged by `Enlarged`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restonnx.diffusion.resizing import enlarging_taps

SLOPE = 0.1
"""Of the leaky ReLUs below 0."""
WIDE = 9
"""Pixels of the coarsest level over which noise is summed: with four levels 144 of the image."""
Guide = Literal["reference", "mask"]
"""What a network may see besides: another image of the place, (N, C, H, W), or where the image is as it should be,
(N, 1, H, W): 1 there and 0 where it is to be restored."""


class UnshuffledConv(nn.Conv2d):
    """3x3 convolution of the image unshuffled by 2, (N, C, H, W) -> (N, width, H/2, W/2).

    Computed as the 6x6 convolution of stride 2 that it equals, which spares the graph a transposition of the image.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(4 * channels, width, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, F.pixel_shuffle(self.weight, 2), self.bias, stride=2, padding=2)


class Residual(nn.Module):
    """x + conv(leaky(conv(x) + bias of step t)); without steps the bias is the convolution's own.

    slope: of the leaky ReLU below 0. With 0, a plain ReLU, units die: nothing normalises x, and a unit that a jump of
    the loss has pushed below 0 everywhere gets no gradient any more.
    """

    def __init__(self, width: int, steps: int = 0, slope: float = SLOPE) -> None:
        super().__init__()
        self.slope = slope
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
        return x + self.conv2(F.leaky_relu(hidden, self.slope) if self.slope else F.relu(hidden))


class Enlarged(nn.Module):
    """The image `scale` times larger, (N, C, H, W) -> (N, C, H * scale, W * scale): bicubic as MATLAB's imresize, the
    border repeated. One convolution, for which runtimes are fast, and no weights."""

    kernels: Tensor

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        taps = torch.from_numpy(enlarging_taps(scale)).float()
        self.reach = taps.shape[1] // 2
        kernels = torch.einsum("py,qx->pqyx", taps, taps).flatten(0, 1)[:, None]
        self.register_buffer("kernels", kernels.repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if self.scale == 1:
            return image
        padded = F.pad(image, (self.reach,) * 4, mode="replicate")
        kernels = self.kernels.to(image.dtype)
        return F.pixel_shuffle(F.conv2d(padded, kernels, groups=self.channels), self.scale)


class Encoder(nn.Module):
    """U-Net over the degraded image, once it is at half the result's size.

    scale 1: (N, C, H, W), H and W multiples of 2^len(widths) -> (N, widths[0], H/2, W/2).
    scale 2 or 4: H and W multiples of 2^(len(widths)-1) -> (N, head_width, H * scale/2, W * scale/2).
    guide: what is seen besides, of the result's size; for scales 1 and 2.
    noisy: whether every level is given noise, (N, C, H, W) of unit variance, in sums of squares of pixels, and the last
    one that of `WIDE` by `WIDE` of its own pixels besides; for scale 1.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        down: tuple[int, ...],
        up: tuple[int, ...],
        *,
        scale: int = 1,
        guide: Guide | None = None,
        noisy: bool = False,
        head_width: int | None = None,
        slope: float = SLOPE,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4) or (guide and scale == 4):
            raise ValueError(f"scale must be 1, 2 or 4, and with a {guide or 'guide'} 1 or 2, not {scale}")
        self.scale = scale
        self.conv_in = (
            UnshuffledConv(channels, widths[0]) if scale == 1 else nn.Conv2d(channels, widths[0], 3, padding=1)
        )
        self.conv_reference = UnshuffledConv(channels, widths[0]) if guide == "reference" else None
        self.conv_mask = UnshuffledConv(1, widths[0]) if guide == "mask" else None
        self.down_blocks = nn.ModuleList(_blocks(w, n, slope) for w, n in zip(widths, down, strict=True))
        self.down_convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, stride=2) for a, b in pairwise(widths))
        # Narrowed before the upsampling, at a quarter of the cost of doing it after.
        self.up_convs = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.up_blocks = nn.ModuleList(_blocks(w, n, slope) for w, n in zip(widths, up, strict=False))
        self.conv_out = nn.Conv2d(widths[0], head_width or widths[0], 3, padding=1) if scale > 1 else None
        given = [channels] * (len(widths) - 1) + [2 * channels]
        noise_convs = [nn.Conv2d(c, w, 3, padding=1, bias=False) for c, w in zip(given, widths, strict=True) if noisy]
        for conv in noise_convs:  # nothing at first, so that a network without noise can be gone on from
            nn.init.zeros_(conv.weight)
        self.noise_convs = nn.ModuleList(noise_convs)

    def forward(self, degraded: Tensor, guide: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        x = self.conv_in(degraded)
        for guiding in (self.conv_reference, self.conv_mask):
            if guiding is not None:
                x = x + guiding(guide)
        skips = []
        for level, blocks in enumerate(self.down_blocks):
            if level:
                x = self.down_convs[level - 1](x)
            if noise is not None:
                noise = 2 * F.avg_pool2d(noise, 2)  # of unit variance again
                last = level == len(self.down_blocks) - 1
                x = x + self.noise_convs[level](torch.cat([noise, _widened(noise)], dim=1) if last else noise)
            x = blocks(x)
            skips.append(x)
        x = skips.pop()
        for conv, blocks in zip(reversed(self.up_convs), reversed(self.up_blocks), strict=True):
            x = F.interpolate(conv(x), scale_factor=2.0, mode="nearest") + skips.pop()
            x = blocks(x)
        if self.scale == 4:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if self.conv_out is None else self.conv_out(x)


class Head(nn.Module):
    """What a step costs: (x_t, features, t) -> the correction of the clean estimate, (N, C, H, W).

    outputs: channels of what it gives, where they are not the image's.
    relu_out: only what is positive reaches the last convolution, as in the first networks. It cost 0.3 dB: the noise
    of 12 values passes through the width's channels, and its two signs then need twice as many.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: int,
        steps: int,
        outputs: int | None = None,
        *,
        relu_out: bool = False,
        slope: float = SLOPE,
    ) -> None:
        super().__init__()
        self.relu_out = relu_out
        self.conv_in = UnshuffledConv(channels, width)
        self.step_bias = nn.Parameter(torch.zeros(steps, width))
        self.blocks = nn.ModuleList(Residual(width, steps, slope) for _ in range(blocks))
        self.conv_out = nn.Conv2d(width, 4 * (outputs or channels), 3, padding=1)
        with torch.no_grad():
            self.conv_out.weight.mul_(0.1)
            self.conv_out.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x_t: Tensor, features: Tensor, t: Any) -> Tensor:
        x = self.conv_in(x_t)
        x = x + _row(self.step_bias, t).to(x.dtype) + features
        for block in self.blocks:
            x = block(x, t)
        return F.pixel_shuffle(self.conv_out(F.relu(x) if self.relu_out else x), 2)


class Backbone(nn.Module):
    """Clean image from (x_t, t) given the degraded one:  y + carry_t (x_t - y) + gain_t head(x_t, encoder(y), t).

    carry lets a late step start from the chain's own estimate instead of from the degraded image.
    t is an int or a LongTensor (N,), in 0..steps-1.
    etas: eta_1 to eta_T of a ResShift chain whose steps begin by repeating the first one's estimate; gain_t is then
    learned, and is else 1.  See `repeating`.
    scale: sides of the clean image over those of the degraded one, 1, 2 or 4; y is then the enlarged image.
    guide: what the encoder sees besides; for scales 1 and 2.
    head_width: of the head, where that is not widths[0]; for scales above 1.
    """

    def __init__(
        self,
        channels: int = 3,
        steps: int = 4,
        widths: tuple[int, ...] = (32, 64, 128),
        down: tuple[int, ...] = (1, 1, 3),
        up: tuple[int, ...] = (1, 1),
        head_blocks: int = 1,
        *,
        scale: int = 1,
        guide: Guide | None = None,
        head_width: int | None = None,
        relu_out: bool = False,
        slope: float = SLOPE,
        etas: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            channels,
            tuple(widths),
            tuple(down),
            tuple(up),
            scale=scale,
            guide=guide,
            head_width=head_width,
            slope=slope,
        )
        self.head = Head(channels, head_width or widths[0], head_blocks, steps, relu_out=relu_out, slope=slope)
        self.enlarged = Enlarged(channels, scale)
        carry, gain = (torch.zeros(steps, 1), None) if etas is None else repeating(etas)
        self.carry = nn.Parameter(carry)
        self.gain = None if gain is None else nn.Parameter(gain)
        self.channels, self.scale, self.guide = channels, scale, guide
        self.multiple = 2 ** (len(widths) if scale == 1 else len(widths) - 1)

    def encode(self, degraded: Tensor, guide: Tensor | None = None) -> Tensor:
        """Everything that depends on the given images alone; once per chain."""
        features: Tensor = self.encoder(degraded, guide)
        return features

    def step(self, x_t: Tensor, degraded: Tensor, features: Tensor, t: Any) -> Tensor:
        """degraded: at the size of the result, which is what `enlarged` makes of it."""
        correction: Tensor = self.head(x_t, features, t)
        if self.gain is not None:
            correction = correction * _row(self.gain, t)
        return degraded + _row(self.carry, t) * (x_t - degraded) + correction

    def forward(self, x_t: Tensor, degraded: Tensor, t: Any, guide: Tensor | None = None) -> Tensor:
        return self.step(x_t, self.enlarged(degraded), self.encode(degraded, guide), t)


def repeating(etas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """carry and gain, (T, 1) each, with which every step after a ResShift chain's first repeats the first's estimate.

    Where all estimates agree, a chain without noise stands at  x_t = z + (eta_t / eta_T) (y - z),  z being the
    estimate; so  y + (x_t - y) / (1 - eta_t / eta_T) = z  needs no correction.
    etas: eta_1 to eta_T.
    """
    left = torch.tensor([eta / etas[-1] for eta in etas[:-1]], dtype=torch.float32)[:, None]
    carry, gain = torch.zeros(len(etas), 1), torch.zeros(len(etas), 1)
    carry[:-1], gain[-1] = 1 / (1 - left), 1.0
    return carry, gain


def _widened(noise: Tensor) -> Tensor:
    """The sum over `WIDE` by `WIDE` pixels about each, of unit variance at the borders too."""
    there = F.avg_pool2d(torch.ones_like(noise[:, :1]), WIDE, 1, WIDE // 2)
    return WIDE * F.avg_pool2d(noise, WIDE, 1, WIDE // 2) / there.sqrt()


def _blocks(width: int, count: int, slope: float) -> nn.Sequential:
    return nn.Sequential(*(Residual(width, slope=slope) for _ in range(count)))


def _row(table: Tensor, t: Any) -> Tensor:
    """Row t of a (steps, width) table, shaped to be added to (N, width, H, W); for floats (N, steps), which are the
    values of functions of the time, their sum with the rows as coefficients."""
    smooth = isinstance(t, Tensor) and t.is_floating_point()
    row = (t[:, :, None] * table).sum(dim=1) if smooth else table[t]
    return row.view(-1, row.shape[-1], 1, 1)
