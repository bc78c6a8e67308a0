"""Schedules of residual denoising diffusion: how much of the residual and how much noise x_t holds.

RDDM (Liu et al. 2024, arXiv 2308.13712) keeps the two apart: the marginal at t = 0..T-1 is
    x_t = clean + Abar_t residual + Bbar_t noise,   residual = degraded - clean,
    Abar_t = sum of alpha_i,   Bbar_t^2 = sum of beta_i^2,   i <= t.
Built as normalised power functions (`power`), from DDPM or DDIM betas (`from_betas`), or from what a checkpoint
holds (`from_cumulative`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
"""float64, or float32 where a schedule is to be the published one bit for bit."""
Shape = tuple[str, float]
"""A kind and its ratio: ("decreased", 1.0) is the paper's P(1-x, 1), ("increased", a) its P(x, a)."""
KINDS = ("increased", "decreased", "average", "normal")
GRIDS = ("one_based", "zero_one")
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
FIRST = ("exact", "zero", "second")
SMALLEST_GAP = 1e-6


@dataclass(frozen=True)
class Quirks:
    """Where the published code departs from the formulas; all off is correct."""

    overwrite_last_gap: bool = False
    """1 - Abar is 1e-6 at the last index whatever it really is; wrong where Abar_T < 1, as after conversion."""
    clip_cumulative: bool = False
    """Abar and Bbar^2 are clipped to [0, 1], which cuts off a sum_scale above 1 (but not in the start's noise)."""
    previous: str = "zero"
    """What stands before index 0 in `alpha_bar_prev` and `beta2_bar_prev`: "zero" is right; "one"; "second", that is
    the value at index 1. The published posterior overwrites index 0 with what is right, so it is the same for all."""

    def __post_init__(self) -> None:
        if self.previous not in ("zero", "one", "second"):
            raise ValueError(f"previous is {self.previous!r}; it must be zero, one or second")


@dataclass(frozen=True, eq=False)
class ResidualSchedule:
    """Both schedules and all that follows from them, each (T,), in the precision that they were built in."""

    alphas: Vector
    """The share of the residual that step t adds."""
    betas2: Vector
    """The variance that step t adds."""
    alpha_bar: Vector
    """Abar, the share of the residual in x_t."""
    beta2_bar: Vector
    """Bbar^2, the variance of the noise in x_t."""
    start_std: float
    """Standard deviation of the noise that the sampler starts with."""
    trained_alpha_bar: Vector | None = None
    """Abar of the schedule that the network was trained with, where `readjusted` has put another in its place."""
    quirks: Quirks = Quirks()

    def __post_init__(self) -> None:
        vectors = (self.alphas, self.betas2, self.alpha_bar, self.beta2_bar)
        if any(v.ndim != 1 for v in vectors) or len({len(v) for v in vectors}) != 1 or not len(self.alphas):
            raise ValueError(f"a schedule needs four vectors of one length, got {[v.shape for v in vectors]}")
        if not all(np.isfinite(v).all() for v in vectors) or (self.beta2_bar < 0).any() or (self.betas2 < 0).any():
            raise ValueError("a schedule must be finite, and its variances not negative")
        if self.start_std < 0:
            raise ValueError(f"start_std is a standard deviation, not {self.start_std}")

    @property
    def steps(self) -> int:
        return len(self.alphas)

    @cached_property
    def betas(self) -> Vector:
        return np.sqrt(self.betas2)

    @cached_property
    def beta_bar(self) -> Vector:
        """Bbar, the standard deviation of the noise in x_t."""
        return np.sqrt(self.beta2_bar)

    @cached_property
    def inverse_beta_bar(self) -> Vector:
        """1 / Bbar, and 0 where there is no noise: nothing is to be read from x_t there."""
        return _inverse(self.beta_bar)

    @cached_property
    def reading_alpha_bar(self) -> Vector:
        """The Abar by which the network's output is read: that of its training."""
        return self.alpha_bar if self.trained_alpha_bar is None else self.trained_alpha_bar

    @cached_property
    def gap(self) -> Vector:
        """1 - Abar as a divisor, at least 1e-6: where Abar is 1, x_t says nothing about the clean image."""
        gap: Vector = 1 - self.reading_alpha_bar
        if not self.quirks.overwrite_last_gap:
            return gap.clip(min=SMALLEST_GAP)
        gap[-1] = SMALLEST_GAP
        return gap

    @cached_property
    def alpha_bar_prev(self) -> Vector:
        return self._shifted(self.alpha_bar)

    @cached_property
    def beta2_bar_prev(self) -> Vector:
        return self._shifted(self.beta2_bar)

    @cached_property
    def posterior_mean_coef1(self) -> Vector:
        """The weight of x_t in the mean of q(x_{t-1} | x_t, clean, residual): Bbar_{t-1}^2 / Bbar_t^2."""
        weight: Vector = _before(self.beta2_bar) * _inverse(self.beta2_bar)
        return weight

    @cached_property
    def posterior_mean_coef2(self) -> Vector:
        """The weight of the residual: (beta_t^2 Abar_{t-1} - Bbar_{t-1}^2 alpha_t) / Bbar_t^2."""
        weight: Vector = _before(self.alpha_bar) - self.posterior_mean_coef1 * self.alpha_bar
        return weight

    @cached_property
    def posterior_mean_coef3(self) -> Vector:
        """The weight of the clean image: beta_t^2 / Bbar_t^2, and 1 where there is no noise."""
        weight: Vector = 1 - self.posterior_mean_coef1
        return weight

    @cached_property
    def posterior_variance(self) -> Vector:
        """beta_t^2 Bbar_{t-1}^2 / Bbar_t^2, the variance of q(x_{t-1} | x_t, clean, residual); 0 at t = 0."""
        variance: Vector = self.betas2 * _before(self.beta2_bar) * _inverse(self.beta2_bar)
        return variance

    @cached_property
    def posterior_log_variance_clipped(self) -> Vector:
        logarithm: Vector = np.log(self.posterior_variance.clip(min=1e-20))
        return logarithm

    def _shifted(self, values: Vector) -> Vector:
        first = {"zero": 0.0, "one": 1.0, "second": float(values[min(1, len(values) - 1)])}[self.quirks.previous]
        return _before(values, first)


def power(
    steps: int,
    *,
    alpha: Shape = ("decreased", 1.0),
    beta2: Shape = ("increased", 1.0),
    sum_scale: float = 1.0,
    grid: str = "one_based",
    dtype: str = "float64",
    quirks: Quirks = Quirks(),
) -> ResidualSchedule:
    """The paper's normalised power functions: alpha sums to 1, beta^2 to sum_scale = Bbar_T^2.

    grid: where the functions are sampled, see `shares`; the published restoration code is one_based in float64, the
    published generation code zero_one in float32.  sum_scale: 0 leaves a deterministic path from degraded to clean.
    """
    if not sum_scale >= 0:
        raise ValueError(f"sum_scale is a variance, so it must not be negative, got {sum_scale}")
    alphas = shares(steps, alpha, grid, dtype)
    betas2 = shares(steps, beta2, grid, dtype) * np.dtype(dtype).type(sum_scale)
    limit = 1.0 if quirks.clip_cumulative else sum_scale
    return ResidualSchedule(
        alphas,
        betas2,
        _cumulated(alphas, 1.0),
        _cumulated(betas2, limit),
        start_std=math.sqrt(sum_scale),
        quirks=quirks,
    )


def shares(steps: int, shape: Shape, grid: str = "one_based", dtype: str = "float64") -> Vector:
    """(T,), summing to 1: a power function of the time, rising or falling, a constant or a bell.

    grid: one_based samples x = 1/T .. 1, so that no step is empty; zero_one samples x = 0 .. 1.
    The bell ("normal") is the Gaussian density between -3 and 3 standard deviations; like "average" it has no ratio.
    """
    kind, ratio = shape
    if kind not in KINDS:
        raise ValueError(f"unknown schedule {kind!r}; it must be one of {', '.join(KINDS)}")
    if grid not in GRIDS:
        raise ValueError(f"grid is {grid!r}; it must be {' or '.join(GRIDS)}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype is {dtype!r}; it must be float32 or float64")
    if steps < 1 or (steps == 1 and grid == "zero_one" and kind in ("increased", "decreased") and ratio > 0):
        raise ValueError(f"a schedule on the grid {grid} cannot have {steps} steps")
    if not 0 <= ratio < math.inf:
        raise ValueError(f"the ratio of a power function must be finite and not negative, got {ratio}")
    if kind == "average":
        return np.full(steps, 1 / steps, dtype)
    if kind == "normal":
        bell: Vector = np.exp(-(np.linspace(-3, 3, steps) ** 2) / 2)
        bell = bell / bell.sum()
        return bell.astype(dtype)
    x = np.arange(1, steps + 1).astype(dtype) if grid == "one_based" else _linspace(0, 1, steps, dtype)
    values: Vector = x ** np.dtype(dtype).type(ratio)
    values = values / values.sum()
    return values if kind == "increased" else np.flip(values).copy()


def ddim_betas(
    steps: int, kind: str = "linear", start: float = 1e-4, end: float = 0.02, dtype: str = "float64"
) -> Vector:
    """The betas of DDPM and DDIM, (T,): linear; scaled_linear, whose roots are; squaredcos_cap_v2, of neither end."""
    if kind == "linear":
        return _linspace(start, end, steps, dtype)
    if kind == "scaled_linear":
        roots = _linspace(start**0.5, end**0.5, steps, dtype)
        return roots * roots
    if kind == "squaredcos_cap_v2":  # Nichol and Dhariwal 2021, arXiv 2102.09672
        level: Vector = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas: Vector = 1 - level[1:] / level[:-1]
        return betas.clip(max=0.999).astype(dtype)
    raise ValueError(f"unknown betas {kind!r}; they must be one of {', '.join(BETAS)}")


def from_betas(betas: Vector, *, first: str = "exact", quirks: Quirks = Quirks()) -> ResidualSchedule:
    """The schedule that makes residual diffusion from nothing (degraded = 0) the DDPM or DDIM process of these betas.

    Computed in the precision of `betas`.
    """
    # Accumulated in double precision, then rounded: so does torch, and float32 schedules come out bit for bit.
    alphas_cumprod = np.cumprod((1 - betas).astype(np.float64)).astype(betas.dtype)
    return from_alphas_cumprod(alphas_cumprod, first=first, quirks=quirks)


def from_alphas_cumprod(alphas_cumprod: Vector, *, first: str = "exact", quirks: Quirks = Quirks()) -> ResidualSchedule:
    """Abar = 1 - sqrt(acp), Bbar^2 = 1 - acp, and their differences (arXiv 2308.13712, coefficient transformation).

    The start's noise has standard deviation 1, as in DDIM: images of unit variance have it at every t.
    first: alpha and beta^2 at index 0: "exact"; the published code has 0 when a model is made ("zero") and the values
    at index 1 at test time ("second").
    """
    if first not in FIRST:
        raise ValueError(f"first is {first!r}; it must be one of {', '.join(FIRST)}")
    if not ((alphas_cumprod > 0) & (alphas_cumprod <= 1)).all() or (np.diff(alphas_cumprod) > 0).any():
        raise ValueError("alphas_cumprod must fall within (0, 1]")
    # Differences of Abar and Bbar^2, not of acp itself: in float32 the published code's rounding errors are in them.
    alpha_bar, beta2_bar = 1 - np.sqrt(alphas_cumprod), 1 - alphas_cumprod
    alphas, betas2 = alpha_bar - _before(alpha_bar), beta2_bar - _before(beta2_bar)
    for values in (alphas, betas2):
        if first != "exact":
            values[0] = values[min(1, len(values) - 1)] if first == "second" else 0
    return ResidualSchedule(alphas, betas2, alpha_bar, beta2_bar, start_std=1.0, quirks=quirks)


def from_cumulative(
    alpha_bar: Vector, beta_bar: Vector, *, start_std: float | None = None, quirks: Quirks = Quirks()
) -> ResidualSchedule:
    """The schedule of given Abar and Bbar, such as a checkpoint's buffers; start_std is Bbar_T unless given."""
    alpha_bar, beta2_bar = np.asarray(alpha_bar), np.asarray(beta_bar) ** 2
    return ResidualSchedule(
        alpha_bar - _before(alpha_bar),
        np.maximum(beta2_bar - _before(beta2_bar), 0),
        alpha_bar,
        beta2_bar,
        start_std=float(beta_bar[-1]) if start_std is None else start_std,
        quirks=quirks,
    )


def readjusted(
    schedule: ResidualSchedule,
    *,
    alpha: Shape | None = None,
    beta2: Shape | None = None,
    sum_scale: float = 1.0,
    grid: str = "zero_one",
    keep_reading: bool = True,
) -> ResidualSchedule:
    """Another path through the same network: alpha or beta^2 replaced by power functions, without training.

    keep_reading: outputs are still read by the relation of the training (the residual follows from the noise by the
    old Abar), then moved along the new path; otherwise everything is of the new schedule.
    """
    dtype = schedule.alphas.dtype.name
    other = power(
        schedule.steps,
        alpha=alpha or ("average", 1.0),
        beta2=beta2 or ("average", 1.0),
        sum_scale=sum_scale,
        grid=grid,
        dtype=dtype,
        quirks=schedule.quirks,
    )
    if alpha:
        trained = schedule.reading_alpha_bar if keep_reading else None
        schedule = replace(schedule, alphas=other.alphas, alpha_bar=other.alpha_bar, trained_alpha_bar=trained)
    if beta2:
        schedule = replace(schedule, betas2=other.betas2, beta2_bar=other.beta2_bar, start_std=other.start_std)
    return schedule


def as_float32_buffers(schedule: ResidualSchedule) -> ResidualSchedule:
    """The schedule as a published model holds it: everything made in double precision, then rounded one by one."""
    names = [name for name, value in vars(ResidualSchedule).items() if isinstance(value, cached_property)]
    fields = ("alphas", "betas2", "alpha_bar", "beta2_bar")
    rounded = replace(schedule, **{name: getattr(schedule, name).astype(np.float32) for name in fields})
    vars(rounded).update({name: getattr(schedule, name).astype(np.float32) for name in names})
    return rounded


def from_ddim(alphas_cumprod: Any) -> tuple[Any, Any]:
    """DDIM's cumulative product -> (Abar, Bbar) of the same process, with degraded = 0."""
    return 1 - alphas_cumprod**0.5, (1 - alphas_cumprod) ** 0.5


def to_ddim(alpha_bar: Any, beta_bar: Any) -> tuple[Any, Any]:
    """(Abar, Bbar) of a generating process -> (alphas_cumprod, scale): scale x_t is DDIM's x_t.

    A schedule that came from DDIM has scale 1, since then (1 - Abar)^2 + Bbar^2 = 1. Where that is 0 there is none.
    """
    power_of_x = (1 - alpha_bar) ** 2 + beta_bar**2
    return (1 - alpha_bar) ** 2 / power_of_x, power_of_x**-0.5


def _cumulated(values: Vector, limit: float) -> Vector:
    """Running sums up to the limit, which rounding would pass; accumulated in double precision as torch does."""
    return np.minimum(np.cumsum(values, dtype=np.float64), limit).astype(values.dtype)


def _before(values: Vector, first: float = 0.0) -> Vector:
    """values shifted by one, `first` standing at index 0."""
    return np.concatenate([np.array([first], values.dtype), values[:-1]])


def _inverse(values: Vector) -> Vector:
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _linspace(start: float, end: float, steps: int, dtype: str) -> Vector:
    """In float32 as torch makes it: from both ends, each product and sum rounded once."""
    if dtype == "float64" or steps == 1:
        return np.linspace(start, end, steps).astype(dtype)
    first, last, i = np.float32(start), np.float32(end), np.arange(steps)
    step = np.float64((last - first) / np.float32(steps - 1))
    exact = np.where(i < steps // 2, np.float64(first) + step * i, np.float64(last) - step * i[::-1])
    return exact.astype(np.float32)
