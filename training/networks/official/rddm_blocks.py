"""The parts of RDDM's U-Nets, named so that the published weights fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 32
"""Channels of every attention head."""


class StandardisedConv(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1 each (Qiao et al. 2019, arXiv 1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        return F.conv2d(x, (self.weight - mean) * (variance + _eps(x)).rsqrt(), self.bias, padding=self.padding)


class LayerNorm(nn.Module):
    """Over the channels of every pixel, with a gain and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.g)

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) * (variance + _eps(x)).rsqrt() * self.g


class Sinusoidal(nn.Module):
    """Times (N,) -> (N, dim): sines, then cosines."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.frequencies = dim // 2

    def forward(self, time: Tensor) -> Tensor:
        rate = math.log(10000) / (self.frequencies - 1)
        angles = time[:, None] * torch.exp(torch.arange(self.frequencies, device=time.device) * -rate)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Fourier(nn.Module):
    """Times (N,) -> (N, 1 + 2 frequencies): the time, sines and cosines of random or learned frequencies."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(frequencies))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weights)

    def forward(self, time: Tensor) -> Tensor:
        angles = time[:, None] * self.weights * (2 * math.pi)
        return torch.cat([time[:, None], angles.sin(), angles.cos()], dim=-1)


class Block(nn.Module):
    def __init__(self, width_in: int, width: int, groups: int) -> None:
        super().__init__()
        self.proj = StandardisedConv(width_in, width, 3, padding=1)
        self.norm = nn.GroupNorm(groups, width)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if scale_shift:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResnetBlock(nn.Module):
    def __init__(self, width_in: int, width: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 2 * width))
        self.block1 = Block(width_in, width, groups)
        self.block2 = Block(width, width, groups)
        self.res_conv = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.mlp(time)[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, (scale, shift))) + self.res_conv(x)


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the number of pixels (Shen et al. 2018, arXiv 1812.01243)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(width, 3 * heads * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * HEAD_WIDTH, width, 1), LayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        q, k, v = self.to_qkv(x).reshape(n, 3, self.heads, HEAD_WIDTH, height * width).unbind(1)
        q = q.softmax(dim=-2) * HEAD_WIDTH**-0.5
        context = (v / (height * width)) @ k.softmax(dim=-1).transpose(-1, -2)  # (n, heads, of v, of k)
        return self.to_out((context @ q).reshape(n, -1, height, width))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(width, 3 * heads * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Conv2d(heads * HEAD_WIDTH, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        qkv = self.to_qkv(x).reshape(n, 3, self.heads, HEAD_WIDTH, height * width).transpose(-1, -2)
        q, k, v = qkv.unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return self.to_out(mixed.reshape(n, -1, height, width))


class PreNorm(nn.Module):
    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


def _eps(x: Tensor) -> float:
    return 1e-3 if x.dtype in (torch.float16, torch.bfloat16) else 1e-5
