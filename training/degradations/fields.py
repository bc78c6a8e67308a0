"""Random fields over a batch of images, from which fog, shadows, drops and cells are made; and moving pixels about.

Lengths are in pixels, whatever the image's size: a small crop then shows what a part of a large image would.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from restonnx.training.degradations.draws import log_uniform, uniform


def smooth(
    like: Tensor, generator: Generator, length: tuple[float, float], channels: int = 1, stretch: float = 1.0
) -> Tensor:
    """(N, channels, H, W): values about as spread as a standard normal's, that change over about `length` pixels.

    length: each sample's is drawn between the two, on a log scale.  stretch: up to so many times longer in one
    direction, any, than across it.
    """
    y, x = _turned(like, generator)
    of_each = log_uniform(like, generator, *length)[:, 0]
    longer = log_uniform(like, generator, 1.0, stretch)[:, 0]
    return _noise(like, generator, y / of_each, x / (of_each * longer), length[0], channels)


def fractal(like: Tensor, generator: Generator, length: tuple[float, float], octaves: int = 4) -> Tensor:
    """(N, 1, H, W): as `smooth`, with ever finer and weaker detail, as clouds and terrain have."""
    y, x = _turned(like, generator)
    of_each = log_uniform(like, generator, *length)[:, 0]
    layers = [
        _noise(like, generator, y * 2**n / of_each, x * 2**n / of_each, length[0] / 2**n) / 2**n for n in range(octaves)
    ]
    return sum(layers[1:], layers[0]) / math.sqrt(sum(0.25**n for n in range(octaves)))


def plane(like: Tensor, generator: Generator) -> Tensor:
    """(N, 1, H, W): rises from 0 to 1 over the longer side of the image, in any direction, upwards most often."""
    angle = 0.6 * torch.randn(len(like), 1, 1, 1, device=like.device, generator=generator)
    y, x = centred_grid(like)
    side = max(like.shape[-2:])
    slope = (x * angle.sin() - y * angle.cos()) / side
    return (slope + 0.5).clamp(0, 1)


def moved(image: Tensor, down: Tensor, right: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Each pixel taken from so many pixels further down and right, (N, H, W) each; the border is mirrored."""
    height, width = image.shape[-2:]
    y, x = centred_grid(image)
    grid = torch.stack([(x + right) * 2 / width, (y + down) * 2 / height], dim=-1).to(image.dtype)
    return F.grid_sample(image, grid, mode=mode, padding_mode="reflection", align_corners=False)


def centred_grid(like: Tensor) -> tuple[Tensor, Tensor]:
    """(1, H, 1) rows and (1, 1, W) columns in pixels, 0 at the centre."""
    height, width = like.shape[-2:]
    y = torch.arange(height, device=like.device, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, device=like.device, dtype=torch.float32) - (width - 1) / 2
    return y.view(1, -1, 1), x.view(1, 1, -1)


def slopes(field: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W) twice: how the field (N, 1, H, W) grows per pixel downwards and to the right."""
    down, right = torch.gradient(field[:, 0], dim=(-2, -1))
    return down, right


def low_pass(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, sigma (N, 1, 1, 1) in pixels; wide ones are computed on a coarser image."""
    coarse = max(1, min(int(float(sigma.max()) / 3), min(image.shape[-2:]) // 8))
    small = F.interpolate(image, scale_factor=1 / coarse, mode="area") if coarse > 1 else image
    reach = max(1, math.ceil(3 * float(sigma.max()) / coarse))
    reach = min(reach, min(small.shape[-2:]) - 1)
    z = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    profile = (-(z / (sigma.view(-1, 1) / coarse).clamp(min=1e-3)).square() / 2).exp()
    profile = (profile / profile.sum(dim=1, keepdim=True)).repeat_interleave(image.shape[1], dim=0)
    count = len(profile)
    small = F.pad(small, (reach,) * 4, mode="reflect").reshape(1, count, *(n + 2 * reach for n in small.shape[-2:]))
    small = F.conv2d(small, profile.view(count, 1, -1, 1), groups=count)
    small = F.conv2d(small, profile.view(count, 1, 1, -1), groups=count)
    small = small.view(*image.shape[:2], *small.shape[-2:])
    return F.interpolate(small, image.shape[-2:], mode="bilinear", align_corners=False) if coarse > 1 else small


def _turned(like: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Rows and columns of a grid that is turned by a random angle, (N, H, W)."""
    y, x = centred_grid(like)
    angle = uniform(like, generator, 0, 2 * math.pi)[:, 0]
    return y * angle.cos() + x * angle.sin(), x * angle.cos() - y * angle.sin()


def _noise(like: Tensor, generator: Generator, y: Tensor, x: Tensor, least_length: float, channels: int = 1) -> Tensor:
    """Normal numbers on a lattice, read between its points at (y, x), (N, H, W), in steps of the lattice."""
    side = 4 + math.ceil(math.hypot(*like.shape[-2:]) / least_length)
    lattice = torch.randn(len(like), channels, side, side, device=like.device, generator=generator)
    shift = torch.rand(2, len(like), 1, 1, device=like.device, generator=generator)
    grid = torch.stack([x + shift[0], y + shift[1]], dim=-1) * (2 / side)
    field = F.grid_sample(lattice, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return 1.4 * field
