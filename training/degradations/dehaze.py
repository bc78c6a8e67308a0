"""Haze and fog by the atmospheric scattering model (Koschmieder 1924; Narasimhan and Nayar 2002).

I = J t + A (1 - t),  t = exp(-beta d):  light from the scene fades with the depth d, and the airlight A takes its
place.  Depth is made up of what scenes have: it grows upwards, changes smoothly, and jumps where the image has edges.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.draws import check_rising, uniform
from restonnx.training.degradations.fields import fractal, low_pass, plane, smooth
from restonnx.training.degradations.light import to_display, to_light
from restonnx.training.degradations.noise import poisson_gaussian

LEAST = {"transmission": 0.01, "airlight": 0.0, "uneven": 0.0, "noise": 0.0}


class Dehaze(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["dehaze"] = "dehaze"
    transmission: tuple[float, float] = (0.1, 0.95)
    """t at a sample's typical depth; elsewhere beta d is up to a few times less or more."""
    airlight: tuple[float, float] = (0.5, 1.0)
    """Brightness of A in display values."""
    tint: float = Field(0.05, ge=0, le=0.5)
    """Standard deviation of A's colour, as a factor on its red and blue."""
    uneven: tuple[float, float] = (0.0, 0.25)
    """How much the logarithm of A changes over the image, in brightness and by half as much in colour: haze in a room
    or at night shows the lamp or the window that is nearest."""
    linear_share: float = Field(0.5, ge=0, le=1)
    """This share is mixed in linear light, as it happens; the rest in display values, as public data sets have it."""
    noise: tuple[float, float] = (0.0, 4.0)
    """Standard deviation at mid-grey, in 1/255."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, LEAST, {"transmission": 1, "airlight": 1})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded), not clipped."""
        thickness = -uniform(clean, generator, *self.transmission).log() * self._depth(clean, generator)
        t = (-thickness).exp()
        airlight = uniform(clean, generator, *self.airlight).expand(-1, clean.shape[1], 1, 1).clone()
        if clean.shape[1] == 3:
            warmth, green = self.tint * torch.randn(2, len(clean), 1, 1, device=clean.device, generator=generator)
            airlight = airlight * torch.stack([1 + warmth, 1 + 0.3 * green, 1 - warmth], dim=1)
        airlight = (airlight * self._lamps(clean, generator)).clamp(0, 1)
        display = clean * t + airlight * (1 - t)
        linear = to_display(to_light(clean) * t + to_light(airlight) * (1 - t))
        hazy = torch.where(uniform(clean, generator) < self.linear_share, linear, display)
        sigma, shot = uniform(clean, generator, *self.noise) / 255, uniform(clean, generator)
        return clean, poisson_gaussian(hazy, sigma, shot, generator)

    def _lamps(self, clean: Tensor, generator: Generator) -> Tensor:
        """(N, C, H, W), about 1: by how much the airlight of a place is that of the whole image."""
        length = (150.0, 800.0)
        brightness = smooth(clean, generator, length)
        colour = smooth(clean, generator, length, channels=clean.shape[1])
        colour = colour - colour.mean(dim=1, keepdim=True)
        return (uniform(clean, generator, *self.uneven) * (brightness + colour / 2)).exp()

    def _depth(self, clean: Tensor, generator: Generator) -> Tensor:
        """(N, 1, H, W), above 0 and about 1 on the whole."""
        upwards = uniform(clean, generator, 0, 2) * (plane(clean, generator) - 0.5)
        hills = uniform(clean, generator, 0, 0.4) * fractal(clean, generator, (64.0, 512.0))
        things = uniform(clean, generator, 0, 0.5) * _following(clean, generator)
        near_and_far = uniform(clean, generator, 0, 0.4) * smooth(clean, generator, (200.0, 800.0))
        return (upwards + hills + things + near_and_far).clamp(-2, 1.6).exp()


def _following(clean: Tensor, generator: Generator) -> Tensor:
    """(N, 1, H, W), about -1 to 1: some function of brightness and colour, so that it is even on things and jumps at
    their edges."""
    weights = torch.randn(len(clean), clean.shape[1], 1, 1, device=clean.device, generator=generator)
    mixed = (low_pass(clean, uniform(clean, generator, 1, 4)) * weights).mean(dim=1, keepdim=True)
    phase, speed = uniform(clean, generator, 0, 6.3), uniform(clean, generator, 3, 9)
    return (speed * mixed + phase).sin()
