"""What consistency models are trained on (Song et al. 2023, arXiv 2303.01469): pairs, weights and a curriculum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from restonnx.diffusion.consistency import Array, Denoise, Vector, column, heun_step
from restonnx.diffusion.schedules import at

WEIGHTS = ("snr", "snr+1", "karras", "karras-root", "truncated-snr", "uniform", "gap")


@dataclass(frozen=True)
class Pair:
    """Two images on (nearly) the same path of the ODE, at neighbouring noise levels."""

    x: Array
    sigma: Array
    """(N,)"""
    x_next: Array
    sigma_next: Array
    """(N,), below sigma."""


def pair(clean: Array, noise: Array, grid: Vector, index: Array, teacher: Denoise | None = None) -> Pair:
    """What consistency training compares: an image at grid[index] and its neighbour at grid[index + 1].

    clean, noise: (N, C, H, W), noise standard normal.  grid: (points,), falling.  index: integers (N,) in 0..points-2.
    teacher: a denoiser whose ODE is followed by one step of Heun (consistency distillation); without it the clean
    image takes its place, in a step of Euler (consistency training).
    """
    sigma, sigma_next = (at(grid, i, clean).reshape(-1) for i in (index, index + 1))
    x = clean + column(sigma, clean) * noise
    if teacher is None:
        return Pair(x, sigma, clean + column(sigma_next, clean) * noise, sigma_next)
    return Pair(x, sigma, heun_step(teacher, x, sigma, sigma_next), sigma_next)


@dataclass(frozen=True)
class Curriculum:
    """How finely the noise levels are cut, and how slowly the target network follows, over the course of a training.

    The defaults are consistency distillation's; Curriculum(2, 200, adaptive=True) is consistency training's
    (arXiv 2303.01469, appendix C). progress is step / total, in [0, 1].
    """

    start: int = 40
    """Points of the grid at first."""
    end: int | None = None
    """The grid grows to this many intervals; None: it stays as it is."""
    decay: float = 0.95
    """Of the target network's exponential average, at first; 0: the target is the network itself."""
    adaptive: bool = False
    """The decay rises with the number of points."""

    def __post_init__(self) -> None:
        if self.start < 2 or (self.end is not None and self.end < self.start):
            raise ValueError(
                f"a curriculum starts with 2 points or more and ends with more, got {self.start}, {self.end}"
            )
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")

    def points(self, progress: float) -> int:
        if self.end is None:
            return self.start
        root = float(np.sqrt(progress * ((self.end + 1) ** 2 - self.start**2) + self.start**2))
        return max(int(np.ceil(root - 1)), 1) + 1

    def target_decay(self, progress: float) -> float:
        if not self.adaptive:
            return self.decay
        return float(self.decay ** (self.start / (self.points(progress) - 1)))


def loss_weight(sigma: Any, kind: str, sigma_data: float = 0.5, sigma_next: Any = None) -> Any:
    """The weight of a squared error at noise level sigma, of sigma's own kind.

    gap: 1 / (sigma - sigma_next), for a pair of neighbours (Song and Dhariwal 2024, arXiv 2310.14189).
    """
    if kind == "gap" and sigma_next is not None:
        return 1 / (sigma - sigma_next)
    if kind == "snr":
        return sigma**-2
    if kind == "snr+1":
        return sigma**-2 + 1
    if kind == "karras":
        return sigma**-2 + sigma_data**-2
    if kind == "karras-root":
        return (sigma**-2 + sigma_data**-2) ** 0.5
    if kind == "truncated-snr":
        ratio = sigma**-2
        return ratio.clip(1) if hasattr(ratio, "clip") else max(ratio, 1.0)
    if kind == "uniform":
        return sigma**0
    if kind == "gap":
        raise ValueError('the weight "gap" is of a pair of noise levels')
    raise ValueError(f"unknown weight {kind!r}; it must be one of {', '.join(WEIGHTS)}")
