"""The U-Net that ADM, the consistency models, latent diffusion and ResShift have in common.

Written from the equations of Dhariwal and Nichol 2021 (arXiv 2105.05233); the names of the parameters are those of the
published checkpoints.  Nothing here depends on the size of the image, and no buffer is left out of the state dict, so
that a network can be built on the meta device and be given its weights by assignment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32
AttentionAt = Callable[[int, int, int, bool], nn.Module | None]
"""(level, index of the entry within its level, channels, in the decoder) -> what follows the ResBlock there, if any."""


@dataclass(frozen=True, kw_only=True)
class TrunkConfig:
    """What all of these U-Nets can be told; the names are those of the published configurations."""

    in_channels: int = 3
    out_channels: int = 3
    model_channels: int = 128
    """Width of which `channel_mult` are multiples; it and all widths are multiples of 32."""
    channel_mult: tuple[float, ...] = (1, 2, 4, 8)
    """One entry per level; every level but the last halves the side."""
    num_res_blocks: tuple[int, ...] | int = 2
    """ResBlocks of each level in the encoder (the decoder has one more), or one number for all levels."""
    dropout: float = 0.0
    conv_resample: bool = True
    """Resample by a strided convolution and by one after nearest upsampling; False: without parameters."""
    resblock_updown: bool = False
    """Resample inside ResBlocks instead."""
    use_scale_shift_norm: bool = True
    """The time embedding scales and shifts (FiLM) after the second normalisation; False: it is added before it."""

    def __post_init__(self) -> None:
        if isinstance(self.num_res_blocks, int):
            object.__setattr__(self, "num_res_blocks", (self.num_res_blocks,) * len(self.channel_mult))
        if not self.channel_mult or len(self.blocks) != len(self.channel_mult):
            raise ValueError(
                f"num_res_blocks has {len(self.blocks)} levels but channel_mult has {len(self.channel_mult)}"
            )
        for width in {self.model_channels, *self.widths}:
            if width <= 0 or width % GROUPS:
                raise ValueError(f"a width of {width} channels is no multiple of {GROUPS}, as the normalisation needs")

    @property
    def blocks(self) -> tuple[int, ...]:
        """`num_res_blocks` level by level."""
        return (self.num_res_blocks,) if isinstance(self.num_res_blocks, int) else self.num_res_blocks

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)


class GroupNorm(nn.GroupNorm):
    """32 groups, in float32 whatever the precision of the rest."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class Downsample(nn.Module):
    """Half the side: a convolution of stride 2, or the mean of 2x2."""

    def __init__(self, channels: int, learned: bool, out_channels: int | None = None) -> None:
        super().__init__()
        wide = out_channels or channels
        self.op: nn.Module = nn.Conv2d(channels, wide, 3, stride=2, padding=1) if learned else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the side by repetition, then a convolution if learned."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if learned else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), told the time, and resampled on both ways where it is up or down."""

    def __init__(
        self, channels: int, out_channels: int, embedding: int, *, film: bool, dropout: float, resample: str = ""
    ) -> None:
        super().__init__()
        self.film = film
        self.resample: nn.Module | None = None
        if resample:
            self.resample = Upsample(channels, False) if resample == "up" else Downsample(channels, False)
        self.in_layers = nn.Sequential(GroupNorm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (2 if film else 1) * out_channels))
        last = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.out_layers = nn.Sequential(GroupNorm(out_channels), nn.SiLU(), nn.Dropout(dropout), zeroed(last))
        same = channels == out_channels
        self.skip_connection: nn.Module = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        normalise, activate, convolve = self.in_layers
        hidden = activate(normalise(x))
        if self.resample is not None:
            hidden, x = self.resample(hidden), self.resample(x)
        hidden = convolve(hidden)
        told = self.emb_layers(embedding).to(hidden.dtype)[..., None, None]
        if self.film:
            scale, shift = told.chunk(2, dim=1)
            hidden = self.out_layers[0](hidden) * (1 + scale) + shift
            hidden = self.out_layers[1:](hidden)
        else:
            hidden = self.out_layers(hidden + told)
        return self.skip_connection(x) + hidden


class Entry(nn.ModuleList):
    """Layers in a row, of which the ResBlocks hear the time."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Encoder, middle and decoder with skips, and the embedding of the time.

    in_channels: channels of the first convolution, where they differ from the configured ones (a condition is added).
    attention: what follows the ResBlocks; for the middle it is asked with index -1.
    """

    def __init__(self, config: TrunkConfig, attention: AttentionAt, in_channels: int | None = None) -> None:
        super().__init__()
        base, embedding = config.model_channels, 4 * config.model_channels
        self.model_channels = base
        self.multiple = 2 ** (len(config.channel_mult) - 1)
        """Height and width are multiples of this."""
        self.time_embed = nn.Sequential(nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

        def res(channels: int, out_channels: int, resample: str = "") -> ResBlock:
            film, dropout = config.use_scale_shift_norm, config.dropout
            return ResBlock(channels, out_channels, embedding, film=film, dropout=dropout, resample=resample)

        width = config.widths[0]
        self.input_blocks = nn.ModuleList()
        self.input_blocks.append(_entry(nn.Conv2d(in_channels or config.in_channels, width, 3, padding=1)))
        skips = [width]
        last = len(config.widths) - 1
        for level, (wide, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for i in range(count):
                self.input_blocks.append(_entry(res(width, wide), attention(level, i, wide, False)))
                width = wide
                skips.append(width)
            if level < last:
                learned = config.conv_resample
                down = res(width, width, "down") if config.resblock_updown else Downsample(width, learned)
                self.input_blocks.append(_entry(down))
                skips.append(width)

        self.middle_block = _entry(res(width, width), attention(last, -1, width, False), res(width, width))

        self.output_blocks = nn.ModuleList()
        for level in reversed(range(last + 1)):
            wide, count = config.widths[level], config.blocks[level]
            for i in range(count + 1):
                up: nn.Module | None = None
                if level and i == count:
                    up = res(wide, wide, "up") if config.resblock_updown else Upsample(wide, config.conv_resample)
                block = res(width + skips.pop(), wide)
                self.output_blocks.append(_entry(block, attention(level, i, wide, True), up))
                width = wide
        self.out = nn.Sequential(GroupNorm(width), nn.SiLU(), nn.Conv2d(width, config.out_channels, 3, padding=1))

    def embed(self, timesteps: Tensor) -> Tensor:
        """The time's embedding, (N, 4 model_channels); timesteps (N,), or (1,) for all alike, need not be integers."""
        return self.time_embed(timestep_embedding(timesteps, self.model_channels))

    def trunk(self, x: Tensor, embedding: Tensor) -> Tensor:
        """From the (conditioned) image to the output, (N, out_channels, H, W)."""
        height, width = x.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"height and width must be multiples of {self.multiple}, got {height} x {width}")
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


def timestep_embedding(timesteps: Tensor, channels: int) -> Tensor:
    """(N,) -> (N, channels): cosines of t f_k, then sines, with f_k = 10000^(-k / half), k = 0..half-1."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=timesteps.device) * (-math.log(1e4) / half))
    angles = timesteps.reshape(-1, 1).float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def zeroed(module: nn.Module) -> Any:
    """The module with its parameters at zero: a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def _entry(*layers: nn.Module | None) -> Entry:
    return Entry(layer for layer in layers if layer is not None)
