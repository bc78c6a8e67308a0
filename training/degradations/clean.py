"""No damage: for objectives that make their own, such as a prior's noise."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Generator, Tensor


class Clean(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none"] = "none"
    contrast: tuple[float, float] = (1.0, 1.0)
    """Each sample is scaled about a random level by a factor between the two, drawn on a log scale."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not 1e-3 <= self.contrast[0] <= self.contrast[1]:
            raise ValueError("contrast must rise from at least 0.001, not from {:g} to {:g}".format(*self.contrast))
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, the same)."""
        clean = change_contrast(clean, self.contrast, generator)
        return clean, clean


def change_contrast(clean: Tensor, contrast: tuple[float, float], generator: Generator) -> Tensor:
    """Scale each image (N, C, H, W) about a random level in [0, 1] by a factor between the two, even on a log scale."""

    def uniform() -> Tensor:
        return torch.rand(len(clean), 1, 1, 1, device=clean.device, generator=generator)

    factor = (uniform() * math.log(contrast[1] / contrast[0])).exp() * contrast[0]
    pivot = uniform()
    return pivot + factor * (clean - pivot)
