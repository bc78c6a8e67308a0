"""Two transforms after which one network fits every sensor and ISO: its noise is the same everywhere it looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from restonnx.isp.frame import Floats

Doubles = np.ndarray[Any, np.dtype[np.float64]]

LEAST = 1e-8
"""Of a: where noise has no photon part, this much makes no difference."""
DARKEST, BRIGHTEST, POINTS = -0.2, 1.6, 4096
"""Expectations that the inverse is tabulated for."""


@dataclass(frozen=True)
class KSigma:
    """Wang et al. 2020 (PMRID, "Practical Deep Raw Image Denoising on Mobile Devices"), in units of saturation.

    x / a + b / a^2 has its own expectation as its variance, whatever a and b were; from there to an anchor, the sensor
    setting of which every frame is given the noise.
    """

    a: float
    b: float
    anchor: tuple[float, float]
    """(a, b) of the noise that the network sees."""

    def forward(self, x: Floats) -> Floats:
        return (x * np.float32(self._gain) + np.float32(self._offset)).astype(np.float32)

    def inverse(self, y: Floats) -> Floats:
        return ((y - np.float32(self._offset)) / np.float32(self._gain)).astype(np.float32)

    @property
    def _gain(self) -> float:
        return self.anchor[0] / max(self.a, LEAST)

    @property
    def _offset(self) -> float:
        a, (to_a, to_b) = max(self.a, LEAST), self.anchor
        return to_a * (self.b / a**2 - to_b / to_a**2)


@dataclass(frozen=True)
class Stabiliser:
    """The generalised Anscombe transform, scaled so that black and saturation become 0 and 1.

    f(z) = (2/a) sqrt(a z + 3/8 a^2 + b) has noise of standard deviation 1 (Starck, Murtagh and Bijaoui 1998). The
    inverse is the exact unbiased one (Makitalo and Foi 2013): the x whose f(z) has the given expectation, for
    Gaussian z around x, from a table.
    """

    a: float
    b: float
    span: float | None = None
    """f(1) - f(0); that of another colour where all are to have the same noise."""

    @property
    def own_span(self) -> float:
        low, high = self._stabilised(np.array([0.0, 1.0]))
        return float(high - low)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise after `forward`."""
        return 1 / (self.span or self.own_span)

    def forward(self, z: Floats) -> Floats:
        return self._scaled(self._stabilised(z.astype(np.float64))).astype(np.float32)

    def inverse(self, y: Floats) -> Floats:
        """Of an estimate of the expectation of `forward`; linear beyond the ends of the table."""
        means, points = self._table
        x = np.interp(y, means, points)
        last = (points[-1] - points[-2]) / (means[-1] - means[-2])
        x = np.where(y > means[-1], points[-1] + (y - means[-1]) * last, x)
        return x.astype(np.float32)

    @cached_property
    def _table(self) -> tuple[Doubles, Doubles]:
        """The expectation of `forward` around points that lie close together where it bends, by quadrature."""
        steps = np.linspace(-1, 1, POINTS)
        points = np.where(steps < 0, -DARKEST * np.sign(steps) * steps**2, BRIGHTEST * steps**2)
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        spread = np.sqrt(np.maximum(self.a * points, 0) + self.b)
        values = self._scaled(self._stabilised(points[:, None] + spread[:, None] * nodes))
        means = np.maximum.accumulate(values @ weights / math.sqrt(2 * math.pi))
        rising = np.concatenate([[True], np.diff(means) > 1e-12])
        return means[rising], points[rising]

    def _stabilised(self, z: Doubles) -> Doubles:
        a = max(self.a, LEAST)
        root: Doubles = 2 / a * np.sqrt(np.maximum(a * z + 0.375 * a**2 + self.b, 0))
        return root

    def _scaled(self, values: Doubles) -> Doubles:
        scaled: Doubles = (values - self._stabilised(np.zeros(1))) / (self.span or self.own_span)
        return scaled
