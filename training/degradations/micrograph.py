"""Micrographs: few photons, and beside photographs synthetic cells, fibres and spots for the clean image.

A camera counts photons and adds read noise (Foi et al. 2008; for fluorescence Zhang et al. 2019, arXiv 1812.10366):
y = Poisson(peak x) / peak + N(0, sigma^2), with real counts, few as they are.  What is drawn is blurred by the
microscope's point spread function and lies on a background.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.clean import change_contrast
from restonnx.training.degradations.draws import check_rising, log_uniform, normal, uniform
from restonnx.training.degradations.fields import fractal, low_pass, smooth


class Micrograph(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["micrograph"] = "micrograph"
    drawn_share: float = Field(0.5, ge=0, le=1)
    """This share of the clean images is drawn instead of photographed."""
    contrast: tuple[float, float] = (0.2, 1.0)
    """Each photograph is scaled about a random level by a factor between the two, drawn on a log scale."""
    photons: tuple[float, float] = (4.0, 400.0)
    """Counted where the image is 1, on a log scale."""
    read: tuple[float, float] = (0.3, 25.0)
    """Standard deviation of the read noise in 1/255, on a log scale."""
    correlated_share: float = Field(0.15, ge=0, le=1)
    """This share has its noise smoothed a little, as by a resampled or compressed file."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, {"contrast": 1e-3, "photons": 0.1, "read": 1e-3}, {"photons": 1e6})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded); the first may be another image, the second is not
        clipped."""
        photograph = change_contrast(clean, self.contrast, generator).clamp(0, 1)
        drawn = uniform(clean, generator) < self.drawn_share
        clean = torch.where(drawn, structures(clean, generator), photograph)
        photons = log_uniform(clean, generator, *self.photons)
        sigma = log_uniform(clean, generator, *self.read) / 255
        noise = torch.poisson(clean * photons, generator=generator) / photons - clean + sigma * normal(clean, generator)
        soft = low_pass(noise, uniform(clean, generator, 0.4, 0.8))
        noise = torch.where(uniform(clean, generator) < self.correlated_share, soft, noise)
        return clean, clean + noise


def structures(like: Tensor, generator: Generator) -> Tensor:
    """Drawn micrographs of the shape of `like`, in [0, 1]: cells, fibres and spots, each in most samples."""
    image = torch.zeros_like(like[:, :1])
    for draw in (_cells, _fibres, _spots):
        there = uniform(like, generator) < 0.6
        image = image + there * uniform(like, generator, 0.2, 1.0) * draw(like, generator)
    image = low_pass(image, uniform(like, generator, 0.6, 2.0))  # the point spread function
    glow = low_pass(image, uniform(like, generator, 8, 24)) * uniform(like, generator, 0, 0.8)
    dim = log_uniform(like, generator, 0.005, 0.25) * (1 + 0.4 * smooth(like, generator, (100.0, 500.0))).clamp(0.2, 2)
    image = dim + image + glow
    image = image / image.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-3) * uniform(like, generator, 0.4, 1.0)
    inverted = uniform(like, generator) < 0.1  # bright field: dark on bright
    return torch.where(inverted, 0.95 - 0.8 * image, image).clamp(0, 1).expand_as(like)


def _cells(like: Tensor, generator: Generator) -> Tensor:
    """Round bodies of unlike brightness with a texture, brighter rims and nuclei."""
    body = smooth(like, generator, (12.0, 80.0), stretch=1.8) - uniform(like, generator, 0.2, 1.0)
    rim = (-(body / 0.12).square()).exp() * uniform(like, generator, 0, 1)
    inside = torch.sigmoid(12 * body)
    nucleus = torch.sigmoid(12 * (body - uniform(like, generator, 0.4, 0.9))) * uniform(like, generator, -0.5, 1)
    texture = 1 + 0.3 * fractal(like, generator, (6.0, 30.0), octaves=3)
    unlike = (0.5 * smooth(like, generator, (40.0, 200.0))).exp()
    return (inside * (0.5 + nucleus) * texture * unlike + 0.5 * rim).clamp(0, 3) / 1.5


def _fibres(like: Tensor, generator: Generator) -> Tensor:
    """Curved lines: where several smooth fields pass through a level, each as wide everywhere."""
    image = torch.zeros_like(like[:, :1])
    for _ in range(7):
        field = smooth(like, generator, (25.0, 120.0), stretch=6.0)
        rise = torch.stack(torch.gradient(field[:, 0], dim=(-2, -1))).square().sum(dim=0).sqrt()[:, None]
        distance = (field - uniform(like, generator, -0.6, 0.6)).abs() / rise.clamp(min=2e-3)
        line = (-(distance / uniform(like, generator, 0.5, 1.5)).square() / 2).exp()
        fading = torch.sigmoid(4 * smooth(like, generator, (30.0, 200.0)) + 1)
        image = torch.maximum(image, line * fading * uniform(like, generator, 0.2, 1.0))
    return image


def _spots(like: Tensor, generator: Generator) -> Tensor:
    """Single points of unlike brightness, crowded in places."""
    shape = like[:, :1].shape
    density = log_uniform(like, generator, 2e-4, 1e-2) * smooth(like, generator, (30.0, 200.0)).exp()
    places = torch.rand(shape, device=like.device, generator=generator) < density
    bright = (0.8 * torch.randn(shape, device=like.device, generator=generator)).exp()
    width = uniform(like, generator, 0.5, 2.5)
    spread = low_pass(places * bright, width) * (2 * math.pi * (width.square() + 0.2))
    return spread.clamp(0, 3) / 2
