"""Photographs taken with too little light: dark, noisy, with a colour cast, and rounded to few levels.

Done to linear light, as in the unprocessing of Brooks et al. 2019 (arXiv 1811.11127): the exposure is divided by a
gain, shot and read noise of the sensor are added (Foi et al. 2008), the white balance is off, and the tone curve is
applied to what is left.  Cameras smooth such noise and compress it, which leaves it in blotches.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.draws import check_rising, log_uniform, uniform
from restonnx.training.degradations.fields import low_pass, smooth
from restonnx.training.degradations.jpeg import jpeg
from restonnx.training.degradations.light import to_display, to_light
from restonnx.training.degradations.noise import poisson_gaussian


class LowLight(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["low_light"] = "low_light"
    gain: tuple[float, float] = (3.0, 60.0)
    """How many times too little light, on a log scale."""
    noise: tuple[float, float] = (0.5, 6.0)
    """Standard deviation at white of the dark image's own light, in per cent of that white, on a log scale."""
    cast: float = Field(0.08, ge=0, le=0.5)
    """Standard deviation of the white balance's error, as a factor on red and blue."""
    unevenness: float = Field(0.2, ge=0, le=1)
    """How much the light differs over the image, as a standard deviation of its logarithm."""
    smooth_share: float = Field(0.4, ge=0, le=1)
    """This share has its noise smoothed by the camera."""
    jpeg_share: float = Field(0.3, ge=0, le=1)
    jpeg_quality: tuple[float, float] = (60.0, 98.0)

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, {"gain": 1.0, "noise": 1e-3, "jpeg_quality": 1.0})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded), rounded to 8 bit."""
        gain = log_uniform(clean, generator, *self.gain)
        lamp = (self.unevenness * smooth(clean, generator, (100.0, 600.0))).clamp(-1, 1).exp()
        scene = to_light(clean) * lamp
        if clean.shape[1] == 3:
            red, blue = (self.cast * torch.randn(2, len(clean), 1, 1, device=clean.device, generator=generator)).exp()
            scene = scene * torch.stack([red, torch.ones_like(red), blue], dim=1)
        white = log_uniform(clean, generator, *self.noise) / 100  # of it, at mid-grey 0.7 times as much
        shot = uniform(clean, generator, 0.5, 1.0)
        noisy = poisson_gaussian(scene, white / (1 + shot).sqrt(), shot, generator)
        smoothed = low_pass(noisy, uniform(clean, generator, 0.4, 1.0))
        noisy = torch.where(uniform(clean, generator) < self.smooth_share, smoothed, noisy)
        dark = to_display((noisy / gain).clamp(0, 1))
        compressed = uniform(clean, generator) < self.jpeg_share
        quality = uniform(clean, generator, *self.jpeg_quality).flatten()
        dark = torch.where(compressed, jpeg(dark, quality), dark)
        return clean, (dark * 255).round() / 255
