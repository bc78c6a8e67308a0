"""Blur of camera shake and movement, of defocus, and of soft lenses, with the sensor's noise.

Shake: the image is averaged along the path of a random walk whose direction drifts, as in Boracchi and Foi 2012.
Defocus: over a disk.  Some samples are blurred in two ways in different places, as things at two depths or moving
apart are.  Light adds up linearly, so that most samples are blurred in linear light.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.diffusion.blurs import Blur
from restonnx.training.degradations.draws import check_rising, uniform
from restonnx.training.degradations.fields import centred_grid, smooth
from restonnx.training.degradations.light import to_display, to_light
from restonnx.training.degradations.noise import poisson_gaussian

POINTS = 96
"""Of a path."""


class Deblur(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["deblur"] = "deblur"
    motion: tuple[float, float] = (1.0, 40.0)
    """Length of the path in pixels."""
    shake: float = Field(0.6, ge=0, le=3)
    """How much the path turns, from 0 for straight ones."""
    defocus: tuple[float, float] = (0.3, 4.0)
    """Radius of the disk in pixels."""
    gaussian: tuple[float, float] = (0.2, 2.5)
    """Standard deviation in pixels."""
    motion_share: float = Field(0.7, ge=0, le=1)
    defocus_share: float = Field(0.15, ge=0, le=1)
    """What neither is moved nor out of focus has a Gaussian blur."""
    two_share: float = Field(0.3, ge=0, le=1)
    """This share is blurred in two ways in different places."""
    linear_share: float = Field(0.7, ge=0, le=1)
    noise: tuple[float, float] = (0.0, 4.0)
    """Standard deviation at mid-grey, in 1/255."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        least = {"motion": 0.1, "defocus": 0.1, "gaussian": 0.1, "noise": 0.0}
        check_rising(self, least, {"motion": 80.0, "defocus": 25.0, "gaussian": 15.0})
        if self.motion_share + self.defocus_share > 1:
            raise ValueError("motion_share and defocus_share must be at most 1 together")
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded), not clipped."""
        linear = uniform(clean, generator) < self.linear_share
        scene = torch.where(linear, to_light(clean), clean)
        first, second = (Blur(self.kernels(clean, generator)).forward(scene) for _ in range(2))
        here = torch.sigmoid(6 * smooth(clean, generator, (60.0, 300.0)))
        here = here * (uniform(clean, generator) < self.two_share)
        blurred = first + here * (second - first)
        blurred = torch.where(linear, to_display(blurred), blurred)
        sigma, shot = uniform(clean, generator, *self.noise) / 255, uniform(clean, generator)
        return clean, poisson_gaussian(blurred, sigma, shot, generator)

    def kernels(self, like: Tensor, generator: Generator) -> Tensor:
        """(N, 1, k, k) with the sum 1."""
        reach = math.ceil(max(self.motion[1] / 2 + 2, self.defocus[1] + 1, 3 * self.gaussian[1]))
        y, x = centred_grid(like.new_zeros(1, 1, 2 * reach + 1, 2 * reach + 1))
        distance = (y.square() + x.square()).sqrt()
        disk = torch.sigmoid(4 * (uniform(like, generator, *self.defocus) - distance))
        bell = (-(distance / uniform(like, generator, *self.gaussian)).square() / 2).exp()
        moved = self._paths(like, reach, generator)
        kind = uniform(like, generator)
        other = torch.where(kind < self.motion_share + self.defocus_share, _normalised(disk), _normalised(bell))
        return torch.where(kind < self.motion_share, _normalised(moved), other)

    def _paths(self, like: Tensor, reach: int, generator: Generator) -> Tensor:
        """(N, 1, k, k): where the image was, and for how long."""
        count, device = len(like), like.device
        turns = torch.randn(count, POINTS, device=device, generator=generator) * (self.shake / math.sqrt(POINTS))
        drift = torch.randn(count, 1, device=device, generator=generator) * (self.shake / POINTS)
        turns = (turns + drift) * uniform(like, generator, 0, 2).view(-1, 1)
        jumps = torch.rand(count, POINTS, device=device, generator=generator) < 0.3 * self.shake / POINTS
        angles = uniform(like, generator, 0, 2 * math.pi).view(-1, 1) + (turns + math.pi * 0.8 * jumps).cumsum(dim=1)
        speed = (0.5 * torch.randn(count, POINTS // 8, device=device, generator=generator)).exp()
        speed = speed.repeat_interleave(8, dim=1)
        length = uniform(like, generator, *self.motion).view(-1, 1)
        steps = speed / speed.sum(dim=1, keepdim=True) * length
        path = torch.stack([(steps * angles.sin()).cumsum(dim=1), (steps * angles.cos()).cumsum(dim=1)])
        path = path - (path.amax(dim=2, keepdim=True) + path.amin(dim=2, keepdim=True)) / 2
        places = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
        rows, cols = (-((places - axis[..., None]) / 0.5).square() / 2 for axis in path)
        return torch.einsum("npy,npx->nyx", rows.exp(), cols.exp())[:, None]


def _normalised(kernels: Tensor) -> Tensor:
    return kernels / kernels.sum(dim=(-2, -1), keepdim=True)
