"""No damage: for objectives that make their own, such as a prior's noise."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator
from torch import Generator, Tensor

from restonnx.training.degradations.draws import check_rising, log_uniform, uniform


class Clean(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["none"] = "none"
    contrast: tuple[float, float] = (1.0, 1.0)
    """Each sample is scaled about a random level by a factor between the two, drawn on a log scale."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        check_rising(self, {"contrast": 1e-3})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, the same)."""
        clean = change_contrast(clean, self.contrast, generator)
        return clean, clean


def change_contrast(clean: Tensor, contrast: tuple[float, float], generator: Generator) -> Tensor:
    """Scale each image (N, C, H, W) about a random level in [0, 1] by a factor between the two, even on a log scale."""
    factor = log_uniform(clean, generator, *contrast)
    pivot = uniform(clean, generator)
    return pivot + factor * (clean - pivot)
