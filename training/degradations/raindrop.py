"""Drops of water on the glass in front of the lens, out of focus.

A drop is a small lens: it shows a wide view of the scene, upside down, brighter below, where it shows the sky, and dark
at its upper rim (Roser and Geiger 2009; von Bernuth et al. 2019).  Being near the camera it is blurred, and covers the
scene only for a share of the aperture:  I = (1 - M) J + M R  (Qian et al. 2018, arXiv 1711.10098).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from restonnx.training.degradations.draws import check_rising, log_uniform, normal, uniform
from restonnx.training.degradations.fields import low_pass, moved, slopes, smooth


class Raindrop(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["raindrop"] = "raindrop"
    cover: tuple[float, float] = (0.05, 0.7)
    """Share of the image that is covered, about."""
    size: tuple[float, float] = (14.0, 56.0)
    """Of drops, in pixels."""
    focus: tuple[float, float] = (1.5, 9.0)
    """Blur of a drop's outline, in pixels, on a log scale; what the drop shows is blurred more."""
    shine: tuple[float, float] = (0.0, 0.4)
    """How much brighter a drop is below than above."""
    noise: tuple[float, float] = (0.0, 2.0)
    """Standard deviation of the sensor's noise, in 1/255."""
    small_share: float = Field(0.6, ge=0, le=1)
    """This share has many small drops besides."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        least = {"cover": 0.0, "size": 6.0, "focus": 0.1, "shine": 0.0, "noise": 0.0}
        check_rising(self, least, {"cover": 0.9, "shine": 1.0})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded), within [0, 1]."""
        covered = uniform(clean, generator, *self.cover)
        large = _bumps(clean, generator, self.size, covered)
        small = _bumps(clean, generator, (self.size[0] / 3, self.size[0]), covered / 2)
        small = small * (uniform(clean, generator) < self.small_share)
        height = torch.maximum(large, small)
        down, right = slopes(low_pass(height, torch.ones_like(covered)))
        reach = uniform(clean, generator, 150, 500)[:, 0]
        focus = log_uniform(clean, generator, *self.focus)
        seen = moved(low_pass(clean, 1 + 1.2 * focus), down * reach, right * reach)
        # What it gathers from far beyond the image is even, and like the image somewhere else.
        away = [uniform(clean, generator, -0.5, 0.5)[:, 0] * side for side in clean.shape[-2:]]
        glow = moved(low_pass(clean, uniform(clean, generator, 20, 60)), *(a.expand_as(down) for a in away))
        seen = seen + uniform(clean, generator, 0.2, 0.95) * (glow - seen)
        tilt = (-12 * down[:, None]).clamp(-1, 1)  # 1 at the lower rim, where the surface falls off downwards
        seen = seen * (1 + 0.35 * tilt) + uniform(clean, generator, *self.shine) * (0.6 + 0.4 * tilt)
        mask = low_pass((height > 0).float(), focus) * uniform(clean, generator, 0.7, 1.0)
        sigma = uniform(clean, generator, *self.noise) / 255
        wet = clean + mask * (seen - clean) + sigma * normal(clean, generator)
        return clean, wet.clamp(0, 1)


def _bumps(like: Tensor, generator: Generator, size: tuple[float, float], cover: Tensor) -> Tensor:
    """(N, 1, H, W): drops' thickness, 0 between them and up to 1, round and with irregular outlines.

    One drop at most in each cell of a lattice, so that their number follows the image's size.
    """
    cell = 1.6 * size[1]
    rows, cols = (math.ceil(side / cell) + 2 for side in like.shape[-2:])
    shape = (len(like), 1, rows, cols)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, device=like.device, generator=generator)

    radius = size[0] / 2 + (size[1] - size[0]) / 2 * draw(0, 1).square()
    off_y, off_x, oval = draw(-0.3, 0.3), draw(-0.3, 0.3), draw(0.8, 1.35)
    chance = (cover * cell**2 / (math.pi * (radius.square().mean(dim=(-2, -1), keepdim=True) + 1))).clamp(max=1)
    there = draw(0, 1) < chance
    wobble = 0.12 * size[1] * smooth(like, generator, size, channels=2)
    wobble_y, wobble_x = wobble[:, :1], wobble[:, 1:]
    y = torch.arange(like.shape[-2], device=like.device).view(-1, 1) + wobble_y
    x = torch.arange(like.shape[-1], device=like.device).view(1, -1) + wobble_x
    height = torch.zeros_like(wobble_y)
    row, col = (y / cell).floor().long() + 1, (x / cell).floor().long() + 1
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = (row + dy).clamp(0, rows - 1), (col + dx).clamp(0, cols - 1)
            of_cell = partial(_at, r * cols + c)
            centre_y = (r - 0.5 + of_cell(off_y)) * cell
            centre_x = (c - 0.5 + of_cell(off_x)) * cell
            apart = ((y - centre_y) / of_cell(oval)).square() + (x - centre_x).square()
            bump = F.relu(1 - apart / of_cell(radius).square()) * of_cell(there.float())
            height = torch.maximum(height, bump.sqrt() * of_cell(radius) / size[1])
    return height


def _at(cells: Tensor, values: Tensor) -> Tensor:
    """The values (N, 1, rows, columns) of the cells whose numbers, row by row, are (N, 1, H, W)."""
    return values.flatten(2).gather(2, cells.flatten(2)).view_as(cells)
