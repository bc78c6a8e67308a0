"""Denoisers at every noise level and consistency models (Karras et al. 2022, arXiv 2206.00364; Song et al. 2023,
arXiv 2303.01469): how a network is read, the grids of noise levels, one- and multi-step sampling, ODE samplers.

Images are (N, C, H, W), numpy or torch, and noisy ones are  clean + sigma * noise  (no shrinking of the clean image).
sigma, in the image's units, is a float or an array (N,).
    raw(scaled, level)  the network: scaled (N, C, H, W), level (N, 1, 1, 1), its noise coordinate
    denoise(x, sigma)   the estimate of the clean image, same shape as x
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
Vector = NDArray[np.float64]
Raw = Callable[[Array, Array], Array]
Denoise = Callable[[Array, Any], Array]
Step = Callable[[Denoise, Array, Any, Any], Array]
Bounds = tuple[float, float]
PUBLISHED_TIME_SCALE = 250.0
"""`Preconditioning.time_scale` of the published consistency models and of their EDM teachers."""


@dataclass(frozen=True)
class Preconditioning:
    """How a network becomes a denoiser:  c_skip x + c_out raw(c_in x, c_noise).

    The c_... methods take sigma as a float or an array and return the same kind.
    """

    sigma_data: float = 0.5
    """Standard deviation of the clean images."""
    sigma_min: float = 0.002
    """The least noise level; where `boundary` holds, an image of this level is returned as it is."""
    sigma_max: float = 80.0
    boundary: bool = False
    """The consistency form, which is the identity at sigma_min, in place of EDM's."""
    time_scale: float = 0.25
    """Of the network's noise coordinate, time_scale * ln(sigma)."""

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < self.sigma_max < float("inf"):
            raise ValueError(
                f"sigma_min and sigma_max must rise from 0 or more, got {self.sigma_min}, {self.sigma_max}"
            )
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")

    def c_skip(self, sigma: Any) -> Any:
        return self.sigma_data**2 / (self._above_boundary(sigma) ** 2 + self.sigma_data**2)

    def c_out(self, sigma: Any) -> Any:
        return self._above_boundary(sigma) * self.sigma_data * self.c_in(sigma)

    def c_in(self, sigma: Any) -> Any:
        return (sigma**2 + self.sigma_data**2) ** -0.5

    def c_noise(self, sigma: Any) -> Any:
        shifted = sigma + 1e-44  # keeps sigma = 0 finite, as the published code does
        if hasattr(shifted, "new_tensor"):
            return self.time_scale * shifted.log()
        logarithm = np.log(shifted)
        return self.time_scale * (logarithm if logarithm.ndim else float(logarithm))

    def denoise(self, raw: Raw, x: Array, sigma: Any) -> Array:
        """One call of the network: the estimate of the clean image in x, (N, C, H, W)."""
        sigma = column(sigma, x)
        level = self.c_noise(sigma)
        if isinstance(level, float):
            level = _full(level, x)
        return self.c_skip(sigma) * x + self.c_out(sigma) * raw(self.c_in(sigma) * x, level)

    def denoiser(self, raw: Raw) -> Denoise:
        """The network as a callable (x, sigma) -> estimate of the clean image."""
        return lambda x, sigma: self.denoise(raw, x, sigma)

    def grid(self, points: int, rho: float = 7.0) -> Vector:
        """(points,): `karras_sigmas` between this range's ends."""
        return karras_sigmas(points, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=rho)

    def between(self, share: Any, rho: float = 7.0) -> Any:
        """The level that lies `share` of the grid's way down, 0 being sigma_max, 1 sigma_min; an array or a number."""
        first, last = self.sigma_max ** (1 / rho), self.sigma_min ** (1 / rho)
        return (first + share * (last - first)) ** rho

    def _above_boundary(self, sigma: Any) -> Any:
        return sigma - self.sigma_min if self.boundary else sigma


def karras_sigmas(points: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Vector:
    """(points,), falling from sigma_max to sigma_min, evenly spaced in sigma^(1/rho) (arXiv 2206.00364, equation 5).

    A single point is sigma_max. ODE samplers go on to 0: `numpy.append(sigmas, 0.0)`.
    """
    if points < 1:
        raise ValueError(f"a grid of noise levels needs at least one point, got {points}")
    roots = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), points)
    sigmas: Vector = roots**rho
    sigmas[0] = sigma_max
    if points > 1:
        sigmas[-1] = sigma_min
    return sigmas


def multistep_sigmas(
    indices: Sequence[int], points: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Vector:
    """(K + 1,): the noise levels of `sample` as rising indices into a Karras grid, 0 (sigma_max) to points - 1."""
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or len(chosen) < 2 or np.any(np.diff(chosen) <= 0) or chosen[0] < 0 or chosen[-1] >= points:
        raise ValueError(f"indices must be two or more, rising within 0..{points - 1}, got {chosen.tolist()}")
    levels: Vector = karras_sigmas(points, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)[chosen]
    return levels


def even_shares(steps: int) -> tuple[float, ...]:
    """(steps,): of `falling`, evenly spaced from 0."""
    return tuple(k / steps for k in range(steps))


def falling(sigma: Any, shares: Sequence[float], *, sigma_min: float = 0.002, rho: float = 7.0) -> list[Any]:
    """(K + 1): the noise levels of `sample` for images of the noise level sigma, a number or an array of at least
    sigma_min: `shares` (K,) of the way, rising from 0, evenly in sigma^(1/rho) as in Karras's grid; then sigma_min."""
    if not shares or shares[0] != 0 or any(b <= a for a, b in pairwise(shares)) or shares[-1] >= 1:
        raise ValueError(f"the shares of the steps must rise from 0 and stay below 1, got {list(shares)}")
    first, last = sigma ** (1 / rho), sigma_min ** (1 / rho)
    return [sigma, *((first + share * (last - first)) ** rho for share in shares[1:]), sigma_min]


def sample(
    denoise: Denoise,
    x: Array,
    sigmas: Sequence[Any] | Vector,
    noise: Sequence[Array] | Array = (),
    *,
    sigma_min: float = 0.002,
    clip: Bounds | None = None,
    on_step: Callable[[int, Array, Array], None] | None = None,
) -> Array:
    """A consistency model's sampling in one step or more (arXiv 2303.01469, algorithm 1).

    x:       (N, C, H, W) at noise level sigmas[0]; from nothing: sigma_max times standard normal noise.
    sigmas:  (K + 1,), falling: the levels of the K evaluations, then the level that the result is left at; each a
             number, or an array with one for each image. One step is (sigma_max, sigma_min).
    noise:   (K, N, C, H, W) standard normal; noise[k] is added after evaluation k. Where nothing is added, which is so
             after the last one if sigmas ends at sigma_min, none is looked up.
    clip:    bounds for every estimate and the result.
    on_step: called with (k, x, estimate of the clean image).
    """
    if len(sigmas) < 2:
        raise ValueError(f"sigmas must hold a level to start from and one to end at, got {list(sigmas)}")
    estimate = _clipped(denoise, clip)
    for k in range(len(sigmas) - 1):
        clean = estimate(x, column(sigmas[k], x))
        if on_step:
            on_step(k, x, clean)
        following = column(sigmas[k + 1], x)
        ends = isinstance(following, float) and following <= sigma_min
        x = clean if ends else noised_again(clean, following, noise[k], sigma_min)
    return x.clip(*clip) if clip else x


def noised_again(clean: Array, sigma: Any, noise: Array, sigma_min: float) -> Array:
    """An estimate at the noise level sigma, a float or (N, 1, 1, 1); it counts as an image at sigma_min, not at 0."""
    variance = sigma**2 - sigma_min**2
    return clean + (variance if isinstance(variance, float) else variance.clip(0, math.inf)) ** 0.5 * noise


def euler_step(denoise: Denoise, x: Array, sigma: Any, sigma_next: Any) -> Array:
    """First order, one evaluation."""
    return _follow(_slope(denoise, x, sigma), x, sigma, sigma_next)


def heun_step(denoise: Denoise, x: Array, sigma: Any, sigma_next: Any) -> Array:
    """Second order, two evaluations (arXiv 2206.00364, algorithm 1); Euler's step where sigma_next is the float 0."""
    slope = _slope(denoise, x, sigma)
    predicted = _follow(slope, x, sigma, sigma_next)
    if isinstance(sigma_next, float) and sigma_next == 0:
        return predicted
    return _follow((slope + _slope(denoise, predicted, sigma_next)) / 2, x, sigma, sigma_next)


def dpm_step(denoise: Denoise, x: Array, sigma: Any, sigma_next: Any) -> Array:
    """Second order, the slope of a midpoint, which lies in the middle of sigma^(1/3); two evaluations.

    After DPM-Solver-2 (Lu et al. 2022, arXiv 2206.00927) with the midpoint of k-diffusion.
    """
    middle = ((sigma ** (1 / 3) + sigma_next ** (1 / 3)) / 2) ** 3
    halfway = _follow(_slope(denoise, x, sigma), x, sigma, middle)
    return _follow(_slope(denoise, halfway, middle), x, sigma, sigma_next)


def integrate(
    denoise: Denoise,
    x: Array,
    sigmas: Sequence[Any] | Vector,
    step: Step = heun_step,
    *,
    clip: Bounds | None = None,
    on_step: Callable[[int, Array], None] | None = None,
) -> Array:
    """Follow the probability flow ODE  dx / dsigma = (x - denoise(x, sigma)) / sigma  from sigmas[0] to sigmas[-1].

    x:       (N, C, H, W) at noise level sigmas[0].
    sigmas:  (K + 1,), falling, each a number or an array with one for each image; a sample is complete at 0.
    step:    heun_step, euler_step or dpm_step.
    clip:    bounds for every estimate of the clean image, and for the result.
    on_step: called with (k, x before the step).
    """
    estimate = _clipped(denoise, clip)
    for k in range(len(sigmas) - 1):
        if on_step:
            on_step(k, x)
        x = step(estimate, x, *(s if getattr(s, "ndim", 0) else float(s) for s in (sigmas[k], sigmas[k + 1])))
    return x.clip(*clip) if clip else x


def column(sigma: Any, like: Array) -> Any:
    """sigma ready to multiply `like` (N, C, H, W): a number as a float, an array as (N, 1, 1, 1) of like's kind."""
    shape = (like.shape[0], *[1] * (like.ndim - 1))
    if hasattr(sigma, "new_tensor"):  # torch, without importing it
        return sigma.to(like).reshape(-1).expand(like.shape[0]).reshape(shape)
    if getattr(sigma, "ndim", 0) == 0:
        return float(sigma)
    return np.broadcast_to(sigma.astype(like.dtype), like.shape[:1]).reshape(shape)


def _full(value: float, like: Array) -> Array:
    shape = (like.shape[0], *[1] * (like.ndim - 1))
    return like.new_full(shape, value) if hasattr(like, "new_tensor") else np.full(shape, value, like.dtype)


def _clipped(denoise: Denoise, clip: Bounds | None) -> Denoise:
    return denoise if clip is None else lambda x, sigma: denoise(x, sigma).clip(*clip)


def _slope(denoise: Denoise, x: Array, sigma: Any) -> Array:
    return (x - denoise(x, sigma)) / column(sigma, x)


def _follow(slope: Array, x: Array, sigma: Any, sigma_next: Any) -> Array:
    return x + (column(sigma_next, x) - column(sigma, x)) * slope
