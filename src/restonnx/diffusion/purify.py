"""Diffusion purification: noise an image, then let a prior remove the noise, and with it what no clean image has.

Images are (N, C, H, W), numpy or torch. A prior comes in one of two forms, and `denoiser_from`, `eps_from` turn one
into the other:
    eps(x, t)          variance preserving: the noise in  x = sqrt(abar_t) clean + sqrt(1 - abar_t) noise,  t an int
    denoise(x, sigma)  variance exploding: the clean image in  x = clean + sigma noise,  sigma a float
abar is (steps,), falling: the cumulative product of 1 - beta. A purifier is called as purifier(x, noise, level), noise
being standard normal of x's shape: `Ddim` and `Tweedie` take as level the number T of base steps to go back, which
noises at the index T - 1; `Denoised` takes sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
Vector = NDArray[np.float64]
Eps = Callable[[Array, int], Array]
Denoise = Callable[[Array, Any], Array]
Bounds = tuple[float, float]


def linear_abar(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Vector:
    """abar of DDPM (Ho et al. 2020, arXiv 2006.11239): betas evenly spaced from first to last."""
    betas: Vector = np.linspace(first, last, steps, dtype=np.float64)
    return np.cumprod(1 - betas, dtype=np.float64)


def scaled_linear_abar(steps: int = 1000, first: float = 0.0015, last: float = 0.0195) -> Vector:
    """abar of latent diffusion (Rombach et al. 2022, arXiv 2112.10752): the square roots of beta evenly spaced."""
    betas: Vector = np.linspace(first**0.5, last**0.5, steps, dtype=np.float64) ** 2
    return np.cumprod(1 - betas, dtype=np.float64)


def sigmas_of(abar: Vector) -> Vector:
    """The noise levels (steps,) of the variance-exploding form:  x / sqrt(abar) = clean + sigma noise."""
    sigmas: Vector = np.sqrt(1 / np.asarray(abar, np.float64) - 1)
    return sigmas


def denoiser_from(eps: Eps, abar: Vector) -> Denoise:
    """An eps-network as denoise(x, sigma); it is asked at the index whose noise level is the nearest."""
    sigmas = sigmas_of(abar)

    def denoise(x: Array, sigma: Any) -> Array:
        t = int(np.abs(np.log(sigmas) - np.log(float(sigma))).argmin())
        return x - float(sigma) * eps(x * float(1 + float(sigma) ** 2) ** -0.5, t)

    return denoise


def eps_from(denoise: Denoise, abar: Vector) -> Eps:
    """A denoiser as eps(x, t)."""
    sigmas = sigmas_of(abar)

    def eps(x: Array, t: int) -> Array:
        whole = x * float(abar[t]) ** -0.5
        return (whole - denoise(whole, float(sigmas[t]))) / float(sigmas[t])

    return eps


def noised(x: Array, noise: Array, abar: Vector, t: int) -> Array:
    """Forward diffusion of a clean image to the index t."""
    return float(abar[t]) ** 0.5 * x + float(1 - abar[t]) ** 0.5 * noise


def clean_from_eps(eps: Eps, x: Array, abar: Vector, t: int, clip: Bounds | None = None) -> Array:
    """The estimate of the clean image in x at index t, which is Tweedie's formula; clip: its bounds."""
    clean = float(abar[t]) ** -0.5 * x - float(1 / abar[t] - 1) ** 0.5 * eps(x, t)
    return clean.clip(*clip) if clip else clean


def ddim(
    eps: Eps, x: Array, abar: Vector, indices: Sequence[int], *, clip: Bounds | None = None, final: float = 1.0
) -> Array:
    """Deterministic DDIM (Song et al. 2021, arXiv 2010.02502) from x at indices[-1] down to a clean image.

    indices: rising.  clip: bounds of every estimate of the clean image, from which the noise is computed anew.
    final: abar of what is returned; 1 is a clean image.
    """
    for j in reversed(range(len(indices))):
        t = int(indices[j])
        clean = clean_from_eps(eps, x, abar, t, clip)
        noise = (float(abar[t]) ** -0.5 * x - clean) / float(1 / abar[t] - 1) ** 0.5
        before = float(abar[int(indices[j - 1])]) if j else final
        x = before**0.5 * clean + (1 - before) ** 0.5 * noise
    return x


def ddim_indices(level: int, steps: int) -> list[int]:
    """min(level, steps) of the first `level` base steps, evenly spaced from 0 to level - 1; one step is the last."""
    count = min(level, steps)
    if count < 1:
        raise ValueError(f"at least one step is needed, not {steps} of {level}")
    if count == 1:
        return [level - 1]
    stride, place, indices = (level - 1) / (count - 1), 0.0, []
    for _ in range(count):
        indices.append(round(place))  # half to even, of a sum that accumulates its rounding, as published
        place += stride
    return indices


def latent_ddim_indices(level: int, steps: int) -> list[int]:
    """The same from 1 to level - 1, as published for latent models; an index can occur twice."""
    count = min(level, steps)
    return [int(i) + 1 for i in np.round(np.linspace(0, 1, count) * (level - 2) + 1e-6)]


@dataclass(frozen=True, eq=False)
class Ddim:
    """Purify by DDIM in a few steps: the sharper, less faithful result."""

    eps: Eps
    abar: Vector
    steps: int = 20
    clip: Bounds | None = (-1.0, 1.0)
    """Bounds of every estimate of the clean image; None for latents."""
    skip_first_index: bool = False
    """As published for latent models: the indices go down to 1 and the result is left at abar[0], not at 1."""
    t1_from_index_1: bool = False
    """As published for pixels: at level 1 noise of index 0 is removed as if it were that of index 1."""

    def __call__(self, x: Array, noise: Array, level: int) -> Array:
        x = noised(x, noise, self.abar, level - 1)
        if self.skip_first_index:
            indices, final = latent_ddim_indices(level, self.steps), float(self.abar[0])
        else:
            from_level = 2 if level == 1 and self.t1_from_index_1 else level
            indices, final = ddim_indices(from_level, self.steps), 1.0
        return ddim(self.eps, x, self.abar, indices, clip=self.clip, final=final)


@dataclass(frozen=True, eq=False)
class Tweedie:
    """Purify in one step: the conditional mean of the clean image."""

    eps: Eps
    abar: Vector
    clip: Bounds | None = (-1.0, 1.0)
    t1_from_index_1: bool = False
    """As in `Ddim`."""

    def __call__(self, x: Array, noise: Array, level: int) -> Array:
        x = noised(x, noise, self.abar, level - 1)
        t = 1 if level == 1 and self.t1_from_index_1 else level - 1
        return clean_from_eps(self.eps, x, self.abar, t, self.clip)


@dataclass(frozen=True, eq=False)
class Denoised:
    """Purify by a denoiser or a consistency model: in one step, or following the probability flow in a few.

    With steps > 1 this is DDIM in its variance-exploding form, over noise levels that fall geometrically.
    """

    denoise: Denoise
    clip: Bounds | None = (-1.0, 1.0)
    steps: int = 1
    sigma_min: float = 0.01
    """The last noise level of several steps, in the images' units; a level below twice that is removed in one."""

    def __call__(self, x: Array, noise: Array, level: float) -> Array:
        sigmas = self.sigmas(float(level))
        x = x + sigmas[0] * noise
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            x = self.step(x, sigma, following)
        return x

    def step(self, x: Array, sigma: Any, following: Any) -> Array:
        """One call of the denoiser: from the noise level sigma to the following one."""
        clean = self.denoise(x, sigma)
        clean = clean.clip(*self.clip) if self.clip else clean
        return clean + following / sigma * (x - clean)

    def sigmas(self, level: float) -> list[float]:
        """The noise levels at which the denoiser is asked, falling from `level`."""
        if self.steps == 1 or level < 2 * self.sigma_min:
            return [level]
        return [float(sigma) for sigma in np.geomspace(level, self.sigma_min, self.steps)]
