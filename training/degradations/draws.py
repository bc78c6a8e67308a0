"""Random numbers for a batch, one per sample, and the check of the ranges that they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor


def uniform(like: Tensor, generator: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(N, 1, 1, 1) for a batch `like` (N, C, H, W), even between the two."""
    return low + (high - low) * torch.rand(len(like), 1, 1, 1, device=like.device, generator=generator)


def log_uniform(like: Tensor, generator: Generator, low: float, high: float) -> Tensor:
    """The same, even on a log scale; low > 0."""
    return (uniform(like, generator) * math.log(high / low)).exp() * low


def normal(like: Tensor, generator: Generator) -> Tensor:
    """Standard normal values of the shape of `like`."""
    return torch.randn(like.shape, device=like.device, generator=generator)


def check_rising(settings: Any, least: Mapping[str, float], most: Mapping[str, float] | None = None) -> None:
    """Raise ValueError unless each of these pairs rises, from at least and to at most the value that stands here."""
    for name, lowest in least.items():
        low, high = getattr(settings, name)
        highest = (most or {}).get(name, math.inf)
        if not lowest <= low <= high <= highest:
            end = f" to at most {highest:g}" if highest < math.inf else ""
            raise ValueError(f"{name} must rise from at least {lowest:g}{end}, not from {low:g} to {high:g}")
