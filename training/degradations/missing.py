"""Pixels that are lost: dead ones, scratches and strokes, and things that were cut out.

What is lost stands at mid-grey, and the mask, 1 where the image is known, says where. The three kinds are those that
inpainting is measured with (Lugmayr et al. 2022, arXiv 2201.09865): single pixels, lines of a pen, and boxes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.draws import check_rising, log_uniform, normal, uniform
from restonnx.training.degradations.fields import centred_grid, slopes, smooth
from restonnx.training.networks.backbone import Guide


class Missing(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    guide: ClassVar[Guide] = "mask"

    kind: Literal["missing"] = "missing"
    pixels_share: float = Field(0.3, ge=0, le=1)
    """This share of the samples has single pixels missing,"""
    boxes_share: float = Field(0.2, ge=0, le=1)
    """this share boxes, and all others lines."""
    lost: tuple[float, float] = (0.3, 0.8)
    """Which part of single pixels is lost."""
    width: tuple[float, float] = (3.0, 12.0)
    """Of the lines, in pixels, on a log scale."""
    box: tuple[float, float] = (12.0, 48.0)
    """Sides of the boxes, in pixels, on a log scale."""
    boxes: int = Field(4, ge=1, le=16)
    """In an image of any size, at most so many."""
    noise: tuple[float, float] = (0.0, 1.0)
    """Standard deviation of the known pixels' noise, in 1/255."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, {"lost": 0.0, "width": 0.5, "box": 1.0, "noise": 0.0}, {"lost": 1.0})
        if self.pixels_share + self.boxes_share > 1:
            raise ValueError("pixels_share and boxes_share must not exceed 1 together")
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded, known); known (N, 1, H, W) is 1 where nothing is lost."""
        single = torch.rand(clean[:, :1].shape, device=clean.device, generator=generator)
        pixels = single < uniform(clean, generator, *self.lost)
        lines, boxes = self._lines(clean, generator), self._boxes(clean, generator)
        kind = uniform(clean, generator)
        lost = torch.where(kind < self.pixels_share + self.boxes_share, boxes, lines)
        lost = torch.where(kind < self.pixels_share, pixels, lost)
        noisy = clean + uniform(clean, generator, *self.noise) / 255 * normal(clean, generator)
        return clean, torch.where(lost, torch.full_like(clean, 0.5), noisy), (~lost).float()

    def _lines(self, like: Tensor, generator: Generator) -> Tensor:
        """Where a smooth field crosses 0: lines that wander, of the same width everywhere."""
        field = smooth(like, generator, (60.0, 160.0), stretch=3.0)
        down, right = slopes(field)
        steep = (down.square() + right.square()).sqrt()[:, None].clamp(min=1e-4)
        return field.abs() / steep < log_uniform(like, generator, *self.width) / 2

    def _boxes(self, like: Tensor, generator: Generator) -> Tensor:
        y, x = centred_grid(like)
        high, wide = like.shape[-2:]
        lost = torch.zeros_like(like[:, :1], dtype=torch.bool)
        for n in range(self.boxes):
            tall, broad = (log_uniform(like, generator, *self.box) / 2 for _ in range(2))
            down, right = (uniform(like, generator, -0.5, 0.5) * side for side in (high, wide))
            there = (uniform(like, generator) < 0.5) | (n == 0)
            lost = lost | (there & ((y - down).abs() < tall) & ((x - right).abs() < broad))
        return lost
