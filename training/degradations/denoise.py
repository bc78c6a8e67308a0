"""Noise of cameras and microscopes: Gaussian, Poisson-Gaussian, clipped to 8 bit or not, JPEG-compressed or not.

Poisson-Gaussian after Foi et al. 2008: variance = a x + b, a the shot noise's gain and b the read noise's variance,
drawn as Gaussian noise of that variance.  All of it is blind: the network is not told the level.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.clean import change_contrast
from restonnx.training.degradations.draws import check_rising
from restonnx.training.degradations.jpeg import jpeg


class Denoise(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["denoise"] = "denoise"
    sigma: tuple[float, float] = (0.0, 60.0)
    """Standard deviation of the noise at mid-grey, uniform between the two, in 1/255."""
    shot_share: float = Field(0.2, ge=0, le=1)
    """This share of the samples has Poisson-Gaussian instead of Gaussian noise."""
    gray_share: float = Field(0.0, ge=0, le=1)
    """This share of colour samples is grey, with the same noise in all channels."""
    clip_share: float = Field(0.15, ge=0, le=1)
    """This share is clipped to [0, 1] and rounded to 8 bit, as files are."""
    jpeg_share: float = Field(0.1, ge=0, le=1)
    """This share has weaker noise (a third) and is then JPEG-compressed."""
    jpeg_quality: tuple[float, float] = (20.0, 95.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    """Each clean sample is scaled about a random level by a factor between the two, drawn on a log scale."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, {"sigma": 0.0, "jpeg_quality": 1.0, "contrast": 1e-3})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded); both may differ from the input, neither is clipped."""
        n, channels = clean.shape[:2]

        def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * torch.rand(n, 1, 1, 1, device=clean.device, generator=generator)

        clean = change_contrast(clean, self.contrast, generator)
        gray = uniform() < self.gray_share
        if channels > 1:
            clean = torch.where(gray, clean.mean(dim=1, keepdim=True).expand_as(clean), clean)

        compressed = uniform() < self.jpeg_share
        sigma = uniform(*self.sigma) / 255 * torch.where(compressed, 1 / 3, 1.0)
        shot = torch.where(uniform() < self.shot_share, uniform(), 0.0)
        variance = sigma.square() * (shot * clean.clamp(min=0) / 0.5 + 1 - shot)
        noise = torch.randn(clean.shape, device=clean.device, generator=generator)
        if channels > 1:
            noise = torch.where(gray, noise[:, :1].expand_as(noise), noise)
        degraded = clean + variance.sqrt() * noise

        eight_bit = (degraded.clamp(0, 1) * 255).round() / 255
        degraded = torch.where(uniform() < self.clip_share, eight_bit, degraded)
        quality = uniform(*self.jpeg_quality).flatten()
        if bool(compressed.any()):
            chosen = compressed.flatten()
            degraded = degraded.clone()
            degraded[chosen] = jpeg(degraded[chosen], quality[chosen])
        return clean, degraded
