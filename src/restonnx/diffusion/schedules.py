"""Noise schedules: how far each step of a sampler is shifted towards the degraded image and how noisy it is.

Everything here is float64 numpy; `at` hands a step's coefficient to arrays of the caller's own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShiftSchedule:
    """The schedule of ResShift (Yue et al. 2023, arXiv 2307.12348, section 3.1), indexed by t = 0..T-1.

    The marginal at t is  x_t = x_0 + eta_t (y - x_0) + kappa sqrt(eta_t) noise.
    """

    sqrt_etas: Vector
    """(T,), rising, in (0, 1]: the square roots of the shift towards the degraded image."""
    kappa: float
    """Standard deviation of the noise where the shift is complete, in the units of the image."""
    timesteps: NDArray[np.int64]
    """(T,): the index that the network is told at each step; not 0..T-1 once the schedule was respaced."""

    def __post_init__(self) -> None:
        roots = np.asarray(self.sqrt_etas)
        if roots.ndim != 1 or not len(roots) or np.any(np.diff(roots) <= 0) or roots[0] <= 0 or roots[-1] > 1:
            raise ValueError(f"sqrt_etas must rise strictly within (0, 1], got {self.sqrt_etas}")
        if len(self.timesteps) != len(roots):
            raise ValueError(f"{len(roots)} steps but {len(self.timesteps)} timesteps")
        if not self.kappa >= 0:
            raise ValueError(f"kappa must not be negative, got {self.kappa}")

    @property
    def steps(self) -> int:
        return len(self.sqrt_etas)

    @cached_property
    def etas(self) -> Vector:
        return self.sqrt_etas**2

    @cached_property
    def etas_prev(self) -> Vector:
        return np.concatenate([[0.0], self.etas[:-1]])

    @cached_property
    def alpha(self) -> Vector:
        """The share of the residual that step t adds: eta_t - eta_{t-1}."""
        return self.etas - self.etas_prev

    @cached_property
    def posterior_variance(self) -> Vector:
        """Variance of q(x_{t-1} | x_t, x_0); 0 at t = 0."""
        return self.kappa**2 * self.etas_prev / self.etas * self.alpha

    @cached_property
    def posterior_variance_clipped(self) -> Vector:
        """The same with the zero at t = 0 replaced by its neighbour, for logarithms and weights."""
        if self.steps == 1:
            return self.posterior_variance
        return np.concatenate([self.posterior_variance[1:2], self.posterior_variance[1:]])

    @cached_property
    def posterior_mean_coef1(self) -> Vector:
        """The weight of x_t in the posterior mean."""
        return self.etas_prev / self.etas

    @cached_property
    def posterior_mean_coef2(self) -> Vector:
        """The weight of x_0 in the posterior mean."""
        return self.alpha / self.etas

    def input_divisor(self, normalize: str) -> Vector:
        """What x_t is divided by before the network: (T,).

        latent: sqrt(kappa^2 eta + 1), unit variance where x_0 has it; pixel: 3 kappa sqrt(eta) + 1, the range of
        x_t where x_0 lies in [-1, 1]; none: 1.
        """
        if normalize == "latent":
            return np.sqrt(self.etas * self.kappa**2 + 1)
        if normalize == "pixel":
            return 3 * self.kappa * self.sqrt_etas + 1
        if normalize == "none":
            return np.ones(self.steps)
        raise ValueError(f"normalize is {normalize!r}; it must be latent, pixel or none")

    def loss_weight(self, parameterisation: str) -> Vector:
        """The weight that the variational bound gives to the squared error of the network's output: (T,)."""
        if parameterisation in ("xstart", "residual"):
            shift = self.alpha / self.etas
        elif parameterisation in ("epsilon", "epsilon_scale"):
            shift = self.kappa * self.alpha / ((1 - self.etas) * self.sqrt_etas)
        else:
            raise ValueError(f"unknown parameterisation {parameterisation!r}")
        return 0.5 / self.posterior_variance_clipped * shift**2


def exponential(
    steps: int, *, kappa: float, min_noise_level: float, etas_end: float = 0.99, power: float = 0.3
) -> ShiftSchedule:
    """ResShift's geometric schedule: sqrt(eta) runs from s_1 to etas_end as s_1 (etas_end / s_1)^((i / (T-1))^power).

    etas_end is the last SQUARE ROOT of eta, as in the published configurations.  s_1 = min(m / kappa, m).
    kappa = 0 makes a chain without noise.
    """
    if steps < 1:
        raise ValueError(f"a sampler needs at least one step, got {steps}")
    first = min(min_noise_level / kappa, min_noise_level) if kappa else min_noise_level
    position = (np.arange(steps) / (steps - 1)) ** power if steps > 1 else np.ones(1)
    return ShiftSchedule(first * (etas_end / first) ** position, kappa, np.arange(steps))


def respace(schedule: ShiftSchedule, steps: int) -> ShiftSchedule:
    """Keep `steps` of the schedule's steps, the ones at int(T / steps * j); the network hears the original index."""
    if not 1 <= steps <= schedule.steps:
        raise ValueError(f"cannot keep {steps} of {schedule.steps} steps")
    kept = np.array([int(schedule.steps / steps * j) for j in range(steps)])
    return ShiftSchedule(schedule.sqrt_etas[kept], schedule.kappa, schedule.timesteps[kept])


def at(values: Vector, t: Any, like: Any) -> Any:
    """values[t] ready to multiply `like` (N, C, H, W): a float for an int t, else (N, 1, 1, 1) of like's kind."""
    if isinstance(t, int):
        return float(values[t])
    if hasattr(like, "new_tensor"):  # torch, without importing it
        return like.new_tensor(values)[t].reshape(-1, *[1] * (like.ndim - 1))
    return values[np.asarray(t)].astype(like.dtype).reshape(-1, *[1] * (like.ndim - 1))
