"""Falling rain: streaks of all densities and directions, and the veil of the rain that is too far for streaks.

A drop that falls during the exposure covers a pixel for a share tau of it, and while it does it shows light from a
wide angle, mostly the sky (Garg and Nayar 2007):  I = (1 - tau) J + tau L.  Several layers of streaks, near ones long
and few, far ones short and many, and behind them the veil of Li et al. 2019 (arXiv 1904.05050):  I (1 - v) + v A.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.diffusion.blurs import Blur
from restonnx.training.degradations.draws import check_rising, log_uniform, normal, uniform
from restonnx.training.degradations.fields import centred_grid, smooth


class Derain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["derain"] = "derain"
    layers: int = Field(3, ge=1, le=6)
    cover: tuple[float, float] = (0.005, 0.4)
    """Share of the image that the streaks of a layer would cover beside each other, on a log scale."""
    length: tuple[float, float] = (6.0, 80.0)
    """Of a layer's streaks, in pixels, on a log scale."""
    width: tuple[float, float] = (0.5, 2.0)
    """Standard deviation across a streak, in pixels, on a log scale; at most a twelfth of the length."""
    slant: float = Field(45.0, ge=0, le=90)
    """Largest angle to the vertical, in degrees."""
    opacity: tuple[float, float] = (0.15, 0.95)
    """Tau of a layer's brightest streaks."""
    light: tuple[float, float] = (0.6, 1.0)
    """L, what a drop shows."""
    veil: tuple[float, float] = (0.0, 0.35)
    """v, of which half the samples have none."""
    noise: tuple[float, float] = (0.0, 4.0)
    """Standard deviation of the sensor's noise, in 1/255."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        least = {"cover": 1e-5, "length": 1.0, "width": 0.2, "opacity": 0.0, "light": 0.0, "veil": 0.0, "noise": 0.0}
        check_rising(self, least, {"cover": 4.0, "length": 200.0, "opacity": 1.0, "veil": 0.95})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded), within [0, 1]."""
        light = uniform(clean, generator, *self.light)
        slant = uniform(clean, generator, -self.slant, self.slant)
        rainy = clean
        for layer in range(self.layers):
            tau = self._streaks(clean, slant, generator)
            if layer:  # further layers are there in ever fewer samples
                tau = tau * (uniform(clean, generator) < 0.7)
            rainy = (1 - tau) * rainy + tau * light
        veil = uniform(clean, generator, *self.veil) * (uniform(clean, generator) < 0.5)
        veil = veil * (1 + 0.25 * smooth(clean, generator, (64.0, 512.0))).clamp(0.2, 1.8)
        rainy = rainy + veil.clamp(max=0.95) * (light - rainy)
        sigma = uniform(clean, generator, *self.noise) / 255
        return clean, (rainy + sigma * normal(clean, generator)).clamp(0, 1)

    def _streaks(self, like: Tensor, slant: Tensor, generator: Generator) -> Tensor:
        """Tau of a layer, (N, 1, H, W)."""
        length = log_uniform(like, generator, *self.length)
        width = torch.minimum(log_uniform(like, generator, *self.width), length / 12)
        tilt = slant + 3 * torch.randn(len(like), 1, 1, 1, device=like.device, generator=generator)
        density = log_uniform(like, generator, *self.cover) / (2.5 * width * length)
        opacity = uniform(like, generator, *self.opacity)
        place = torch.rand(len(like), 1, *like.shape[-2:], device=like.device, generator=generator)
        strength = 0.3 + 0.7 * torch.rand(place.shape, device=like.device, generator=generator)
        drops = strength * (place < density * (1 + 0.6 * smooth(like, generator, (48.0, 512.0))).clamp(0.1, 2.5))
        kernel = _streak(length, width, tilt * (math.pi / 180), self.length[1])
        drawn: Tensor = Blur(kernel).forward(drops)
        # Streaks that cross cover each other rather than add up.
        return opacity * (1 - (-drawn.clamp(min=0)).exp()) / (1 - math.exp(-1))


def _streak(length: Tensor, width: Tensor, tilt: Tensor, longest: float) -> Tensor:
    """(N, 1, k, k): a line of that length with soft sides and ends, 1 along its middle."""
    reach = math.ceil(longest / 2 + 3)
    y, x = centred_grid(torch.zeros(1, 1, 2 * reach + 1, 2 * reach + 1, device=length.device))
    along, across = y * tilt.cos() + x * tilt.sin(), x * tilt.cos() - y * tilt.sin()
    beyond = (along.abs() - length / 2).clamp(min=0)
    taper = 1 - 0.5 * (2 * along / length).clamp(-1, 1).square()
    return (-(across / width).square() / 2 - (beyond / 1.5).square() / 2).exp() * taper
