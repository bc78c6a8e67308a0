"""RDDM: residual denoising diffusion (Liu et al. 2024, arXiv 2308.13712).

x_t = clean + Abar_t residual + Bbar_t noise, residual = degraded - clean; the two are removed together or one after
the other. Images are (N, C, H, W), numpy or torch; degraded is None in generation and counts as 0. t is an int, or in
training an integer array (N,); -1 stands for the clean end. Published models work in [-1, 1].

A network has one head or two, read in one of these ways ("prediction"):
    pred_res_noise      the residual, and the noise                     (SM-Res-N)
    pred_res            the residual; noise follows                     (SM-Res)
    pred_noise          the noise; the residual follows                 (SM-N)
    pred_x0_noise       the clean image, and the noise
    pred_res_add_noise  the residual, and residual + noise
    pred_x0_add_noise   the clean image, and clean + noise
Of a network with two heads pred_res reads the first alone, pred_noise the last alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from restonnx.diffusion.rddm_schedules import ResidualSchedule, Vector
from restonnx.diffusion.schedules import at

Array = Any
Bounds = tuple[float, float]
Predict = Callable[..., Any]
"""(x_t, (time of the residual, time of the noise)) -> a head's output or a sequence of them."""
Watch = Callable[[Any, Array, "Prediction"], None]
PREDICTIONS = (
    "pred_res_noise",
    "pred_res",
    "pred_noise",
    "pred_x0_noise",
    "pred_res_add_noise",
    "pred_x0_add_noise",
)
FORMS = ("use_pred_noise", "use_x_start", "special_eta_0", "special_eta_1")


@dataclass(frozen=True)
class Reading:
    """How a network is spoken to: what its heads mean, and what it is told of the time."""

    prediction: str = "pred_res_noise"
    time: str = "index"
    """index: both heads hear t; cumulative: the residual's hears T Abar_t, the noise's T Bbar_t."""
    clip_clean: Bounds | None = None
    """Bounds for every estimate of the clean image."""
    clip_residual: Bounds | None = None
    """Bounds for every estimate of the residual, before anything else is made of it. The published code has [-1, 1],
    though a residual of images in [-1, 1] reaches 2: strong degradations lose by it."""
    self_condition: bool = False
    """The network also takes the clean image as the step before estimated it, None at first: predict gets it third."""

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(_unknown(self.prediction))
        if self.time not in ("index", "cumulative"):
            raise ValueError(f"time is {self.time!r}; it must be index or cumulative")

    @property
    def heads(self) -> int:
        return 1 if self.prediction in ("pred_res", "pred_noise") else 2


DEFAULT = Reading()


@dataclass(frozen=True)
class Prediction:
    """What one call of the network says about x_t, each (N, C, H, W), bounded as the reading asks."""

    residual: Array
    noise: Array
    clean: Array


def level(values: Vector, t: Any, like: Array) -> Any:
    """values[t] ready to multiply `like`, and 0 for the int t = -1."""
    return 0.0 if isinstance(t, int) and t < 0 else at(values, t, like)


def forward(clean: Array, degraded: Array | None, noise: Array, schedule: ResidualSchedule, t: Any) -> Array:
    """Draw x_t from q(x_t | clean, residual)."""
    shifted = clean + level(schedule.alpha_bar, t, clean) * _residual(clean, degraded)
    return shifted + level(schedule.beta_bar, t, clean) * noise


def prior(degraded: Array | None, noise: Array, schedule: ResidualSchedule) -> Array:
    """Where the sampler starts: the degraded image plus the last step's noise."""
    return _given(degraded) + schedule.start_std * noise


def targets(clean: Array, degraded: Array | None, noise: Array, prediction: str) -> tuple[Array, ...]:
    """What each head's output is compared with in training."""
    residual = _residual(clean, degraded)
    wanted = {
        "pred_res_noise": (residual, noise),
        "pred_res": (residual,),
        "pred_noise": (noise,),
        "pred_x0_noise": (clean, noise),
        "pred_res_add_noise": (residual, residual + noise),
        "pred_x0_add_noise": (clean, clean + noise),
    }
    if prediction not in wanted:
        raise ValueError(_unknown(prediction))
    return wanted[prediction]


def time_inputs(schedule: ResidualSchedule, t: Any, reading: Reading, like: Array, t_noise: Any = None) -> Any:
    """(time of the residual, time of the noise) as the network hears them: numbers for an int t, else each (N,).

    A network of one head hears its own time in both places.
    """
    t_noise = t if t_noise is None else t_noise
    if reading.time == "cumulative":
        t, t_noise = (_scaled(v, i, like) for v, i in ((schedule.alpha_bar, t), (schedule.beta_bar, t_noise)))
    own = {"pred_res": (t, t), "pred_noise": (t_noise, t_noise)}
    return own.get(reading.prediction, (t, t_noise))


def read(
    outputs: Any,
    x_t: Array,
    degraded: Array | None,
    schedule: ResidualSchedule,
    t: Any,
    reading: Reading,
    t_noise: Any = None,
) -> Prediction:
    """Residual, noise and clean image from the heads' outputs; t_noise where the noise's level is not that of t.

    Where Abar_t = 1, pred_noise has nothing to take the clean image from and divides by 1e-6: bound it by clip_clean.
    """
    outputs = tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
    if len(outputs) < reading.heads:
        raise ValueError(f"{reading.prediction} reads {reading.heads} heads, but the network gave {len(outputs)}")
    t_noise = t if t_noise is None else t_noise
    given, kind, first, last = _given(degraded), reading.prediction, outputs[0], outputs[-1]
    noise_level = level(schedule.beta_bar, t_noise, x_t)
    if kind == "pred_noise":
        share = level(schedule.reading_alpha_bar, t, x_t)
        gap = 1.0 if isinstance(t, int) and t < 0 else at(schedule.gap, t, x_t)
        clean = _bounded((x_t - share * given - noise_level * last) / gap, reading.clip_clean)
        return Prediction(_bounded(given - clean, reading.clip_residual), last, clean)
    if kind in ("pred_x0_noise", "pred_x0_add_noise"):
        residual = _bounded(given - first, reading.clip_residual)
        noise = last if kind == "pred_x0_noise" else last - first
        return Prediction(residual, noise, _bounded(first, reading.clip_clean))
    residual = _bounded(first, reading.clip_residual)
    if kind == "pred_res":
        remaining = 1 - level(schedule.reading_alpha_bar, t, x_t)
        noise = (x_t - given + remaining * residual) * level(schedule.inverse_beta_bar, t_noise, x_t)
        return Prediction(residual, noise, _bounded(given - residual, reading.clip_clean))
    noise = last if kind == "pred_res_noise" else last - first
    clean = x_t - level(schedule.alpha_bar, t, x_t) * residual - noise_level * noise
    return Prediction(residual, noise, _bounded(clean, reading.clip_clean))


def step_std(schedule: ResidualSchedule, t: int, s: int, eta: float) -> float:
    """Standard deviation of the noise drawn between t and s < t: eta multiplies the variance, unlike in DDIM."""
    if s < 0 or not eta:
        return 0.0
    now, then = float(schedule.beta2_bar[t]), float(schedule.beta2_bar[s])
    return math.sqrt(eta * max(now - then, 0.0) * then / now) if now else 0.0


def step(
    x_t: Array,
    prediction: Prediction,
    schedule: ResidualSchedule,
    t: int,
    s: int,
    *,
    eta: float = 0.0,
    noise: Array | None = None,
    form: str = "use_pred_noise",
) -> Array:
    """One step of the reverse process, from t to any s in -1..t-1.

    form: use_pred_noise moves x_t by residual and noise; use_x_start mixes x_t with the clean estimate, the same
    unless that was bounded; special_eta_0 and special_eta_1 are the first as it simplifies for these two eta.
    """
    a_t, a_s = level(schedule.alpha_bar, t, x_t), level(schedule.alpha_bar, s, x_t)
    b_t, b_s = level(schedule.beta_bar, t, x_t), level(schedule.beta_bar, s, x_t)
    if form == "special_eta_0":
        return x_t - (a_t - a_s) * prediction.residual - (b_t - b_s) * prediction.noise
    if form == "special_eta_1":
        added = max(b_t**2 - b_s**2, 0.0)
        moved = x_t - (a_t - a_s) * prediction.residual - (added / b_t if b_t else 0.0) * prediction.noise
        return _added(moved, math.sqrt(added) * b_s / b_t if b_t else 0.0, noise)
    std = step_std(schedule, t, s, eta)
    kept = math.sqrt(max(b_s**2 - std**2, 0.0))
    if form == "use_x_start":
        q = kept / b_t if b_t else 0.0
        moved = q * x_t + (1 - q) * prediction.clean + (a_s - q * a_t) * prediction.residual
    elif form == "use_pred_noise":
        moved = x_t - (a_t - a_s) * prediction.residual - (b_t - kept) * prediction.noise
    else:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")
    return _added(moved, std, noise)


def time_grid(total: int, steps: int) -> tuple[int, ...]:
    """steps + 1 indices from total - 1 down to -1, evenly spaced and truncated: 999, 499, -1 for two steps of 1000."""
    if not 1 <= steps <= total:
        raise ValueError(f"cannot take {steps} steps through {total}; they must lie in 1..{total}")
    return tuple(i * total // steps - 1 for i in range(steps, -1, -1))


def sample(
    predict: Predict,
    degraded: Array | None,
    noise: Any,
    schedule: ResidualSchedule,
    reading: Reading = DEFAULT,
    *,
    times: int | Sequence[int],
    eta: float = 0.0,
    form: str = "use_pred_noise",
    on_step: Watch | None = None,
) -> Array:
    """Residual and noise removed together: from the degraded image plus noise to the clean one.

    predict:  callable (x_t, (time of the residual, time of the noise)) -> head or heads, each of x_t's shape.
    noise:    (K, N, C, H, W) standard normal; noise[0] starts the chain. With eta > 0 the k-th step that has a next
              one adds noise[k], so K = `draws`; else K = 1.
    times:    a number of steps, or the descending indices themselves, ending with -1.
    eta:      0 is deterministic, 1 has the variance of the true posterior.
    on_step:  called with (t, x_t, its Prediction) before x_t is moved.
    """
    if (form == "special_eta_0" and eta != 0) or (form == "special_eta_1" and eta != 1):
        raise ValueError(f"{form} goes with eta = {form[-1]}, not {eta}")
    x, drawn, clean = prior(degraded, noise[0], schedule), 0, None
    for t, s in pairwise(indices(schedule, times)):
        prediction = _ask(predict, x, degraded, schedule, t, reading, clean)
        clean = prediction.clean
        if on_step:
            on_step(t, x, prediction)
        if s < 0:
            break
        drawn += eta > 0
        x = step(x, prediction, schedule, t, s, eta=eta, noise=draw(noise, drawn) if eta else None, form=form)
    return clean


def draws(steps: int, eta: float) -> int:
    """How many noise images `sample` consumes, and `sample_decoupled` too unless it does as published (2 steps - 1)."""
    return steps if eta else 1


def sample_ancestral(
    predict: Predict,
    degraded: Array | None,
    noise: Any,
    schedule: ResidualSchedule,
    reading: Reading = DEFAULT,
    *,
    on_step: Watch | None = None,
) -> Array:
    """All T steps through the exact posterior; noise: (T, N, C, H, W), the first to start with."""
    x, clean = prior(degraded, noise[0], schedule), None
    for t in reversed(range(schedule.steps)):
        prediction = _ask(predict, x, degraded, schedule, t, reading, clean)
        clean = prediction.clean
        if on_step:
            on_step(t, x, prediction)
        mean = posterior_mean(x, prediction, schedule, t)
        x = mean + float(np.sqrt(schedule.posterior_variance[t])) * draw(noise, schedule.steps - t) if t else mean
    return x


def posterior_mean(x_t: Array, prediction: Prediction, schedule: ResidualSchedule, t: Any) -> Array:
    """Mean of q(x_{t-1} | x_t, clean, residual)."""
    from_x = at(schedule.posterior_mean_coef1, t, x_t) * x_t
    from_residual = at(schedule.posterior_mean_coef2, t, x_t) * prediction.residual
    return from_x + from_residual + at(schedule.posterior_mean_coef3, t, x_t) * prediction.clean


def _ask(
    predict: Predict,
    x: Array,
    degraded: Array | None,
    schedule: ResidualSchedule,
    t: int,
    reading: Reading,
    previous: Array | None,
) -> Prediction:
    outputs = call(predict, x, time_inputs(schedule, t, reading, x), reading, previous)
    return read(outputs, x, degraded, schedule, t, reading)


def call(predict: Predict, x: Array, times: Any, reading: Reading, previous: Array | None) -> Any:
    """The network's outputs; it is given the previous clean estimate where it is self-conditioned."""
    return predict(x, times, previous) if reading.self_condition else predict(x, times)


def indices(schedule: ResidualSchedule, times: int | Sequence[int]) -> tuple[int, ...]:
    """The indices that a sampler visits, ending with -1."""
    if isinstance(times, int):
        return time_grid(schedule.steps, times)
    grid = tuple(int(t) for t in times)
    if len(grid) < 2 or grid[0] >= schedule.steps or grid[-1] != -1 or any(a <= b for a, b in pairwise(grid)):
        raise ValueError(f"times must fall from at most {schedule.steps - 1} to -1, got {list(grid)}")
    return grid


def draw(noise: Any, k: int) -> Array:
    """The k-th noise image."""
    if k >= len(noise):
        raise ValueError(f"the sampler needs more than {len(noise)} noise images")
    return noise[k]


def _added(x: Array, std: float, noise: Array | None) -> Array:
    if not std:
        return x
    if noise is None:
        raise ValueError("a step with eta > 0 needs noise")
    return x + std * noise


def _scaled(values: Vector, t: Any, like: Array) -> Any:
    found = level(values, t, like) * len(values)
    return found if isinstance(found, float) else found.reshape(-1)


def _residual(clean: Array, degraded: Array | None) -> Array:
    return -clean if degraded is None else degraded - clean


def _given(degraded: Array | None) -> Any:
    return 0.0 if degraded is None else degraded


def _bounded(values: Array, bounds: Bounds | None) -> Array:
    return values if bounds is None else values.clip(*bounds)


def _unknown(prediction: str) -> str:
    return f"unknown prediction {prediction!r}; it must be one of {', '.join(PREDICTIONS)}"
