"""Shadows that something outside the image throws.

In linear light a lit surface sends back  R (D + S)  of direct light D and of skylight S, a shaded one  R S  and
between them, in the penumbra,  R ((1 - m) D + S)  (Finlayson et al. 2006; Le and Samaras 2019, arXiv 1908.08628).  The
sky being bluer than the sun, shadows are bluish.

Whether a dark place lies in shadow cannot be told from a part of an image, so the network is told, as RDDM's is: the
mask is painted about as well as people paint one, with a hard border somewhere in the penumbra or beside it.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.draws import check_rising, log_uniform, uniform
from restonnx.training.degradations.fields import centred_grid, fractal, smooth
from restonnx.training.degradations.light import to_display, to_light
from restonnx.training.degradations.noise import poisson_gaussian
from restonnx.training.networks.backbone import Guide


class Shadow(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    guide: ClassVar[Guide] = "mask"

    kind: Literal["shadow"] = "shadow"
    skylight: tuple[float, float] = (0.12, 0.6)
    """S / (D + S): what a shadow leaves of the light."""
    blueness: tuple[float, float] = (-0.05, 0.6)
    """How much more of the blue and less of the red is left, as a logarithm: about 0.55 where a sky of 10,000 K gives
    15 % of the light and a sun of 5,500 K the rest."""
    penumbra: tuple[float, float] = (1.0, 40.0)
    """Width of a shadow's edge in pixels, on a log scale."""
    none_share: float = Field(0.05, ge=0, le=1)
    """This share has no shadow at all."""
    noise: tuple[float, float] = (0.0, 2.0)
    """Standard deviation at mid-grey, in 1/255."""
    misplaced: float = Field(3.0, ge=0, le=64)
    """Standard deviation of how far the painted border is from the middle of the penumbra, in pixels."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        least = {"skylight": 0.01, "blueness": -1.0, "penumbra": 0.5, "noise": 0.0}
        check_rising(self, least, {"skylight": 1.0, "blueness": 1.0})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded, lit), not clipped; lit (N, 1, H, W) is 0 in the painted
        shadow and else 1."""
        left = uniform(clean, generator, *self.skylight).expand(-1, clean.shape[1], 1, 1)
        if clean.shape[1] == 3:
            blue = uniform(clean, generator, *self.blueness)
            left = (left * torch.cat([-0.5 * blue, 0 * blue, 0.5 * blue], dim=1).exp()).clamp(max=1)
        # Light is scattered into a shadow, the more the wider its edge.
        inside = 1 + 0.15 * smooth(clean, generator, (64.0, 400.0))
        distance = self.depth(clean, generator)
        there = uniform(clean, generator) >= self.none_share
        shaded = torch.sigmoid(4 * distance / log_uniform(clean, generator, *self.penumbra)) * there
        light = to_light(clean) * (1 - shaded * (1 - (left * inside.clamp(0.6, 1.5)).clamp(0, 1)))
        sigma, shot = uniform(clean, generator, *self.noise) / 255, uniform(clean, generator)
        wrong = 0.7 * torch.randn(len(clean), 1, 1, 1, device=clean.device, generator=generator)
        painted = distance + self.misplaced * (wrong + 0.7 * smooth(clean, generator, (15.0, 80.0))) > 0
        return clean, poisson_gaussian(to_display(light), sigma, shot, generator), 1 - (painted & there).float()

    def depth(self, like: Tensor, generator: Generator) -> Tensor:
        """(N, 1, H, W): about how many pixels deep in the shadow each lies, less than 0 in the sun.

        Shadows are of foliage and crowds, or have straight edges.
        """
        length = (80.0, 400.0)
        rough = fractal(like, generator, length, octaves=3) + uniform(like, generator, -0.7, 0.7)
        per_pixel = 2.0 / (length[0] * length[1]) ** 0.5  # how fast such a field rises, about
        organic = rough / per_pixel
        y, x = centred_grid(like)
        angle = uniform(like, generator, 0, 6.2832)
        side = max(like.shape[-2:])
        across = x * angle.cos() + y * angle.sin() + side * uniform(like, generator, -0.35, 0.35)
        bend = 4 * smooth(like, generator, (60.0, 200.0)) * uniform(like, generator, 0, 3).square()
        along = y * angle.cos() - x * angle.sin() + side * uniform(like, generator, -0.35, 0.35)
        corner = torch.where(uniform(like, generator) < 0.5, torch.minimum(across, along), across)
        band = uniform(like, generator, 0.1, 0.5) * side - across.abs()
        straight = torch.where(uniform(like, generator) < 0.3, band, corner) + bend
        return torch.where(uniform(like, generator) < 0.5, organic, straight)
