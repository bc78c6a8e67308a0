"""ResShift: diffusion from a degraded image to the clean one (Yue et al. 2023, arXiv 2307.12348).

clean, degraded, x_t and noise are (N, C, H, W), numpy or torch; t is an int, or an integer array (N,).
A network's output is read in one of four ways ("parameterisation"):
    xstart          the clean image
    residual        degraded - clean
    epsilon         the noise in x_t
    epsilon_scale   the noise times kappa sqrt(eta_t)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from restonnx.diffusion.schedules import ShiftSchedule, at

Array = Any
PARAMETERISATIONS = ("xstart", "residual", "epsilon", "epsilon_scale")


@dataclass(frozen=True)
class Reading:
    """How a network is spoken to: what its output means, and how x_t is scaled for it."""

    parameterisation: str = "xstart"
    normalize: str = "latent"
    """As in `ShiftSchedule.input_divisor`."""

    def __post_init__(self) -> None:
        if self.parameterisation not in PARAMETERISATIONS:
            raise ValueError(_unknown(self.parameterisation))


def forward(clean: Array, degraded: Array, noise: Array, schedule: ShiftSchedule, t: Any) -> Array:
    """Draw x_t from q(x_t | x_0, y): the clean image shifted towards the degraded one, with noise."""
    shift = at(schedule.etas, t, clean)
    return clean + shift * (degraded - clean) + at(schedule.kappa * schedule.sqrt_etas, t, clean) * noise


def prior(degraded: Array, noise: Array, schedule: ShiftSchedule) -> Array:
    """Where the chain starts at test time: the degraded image plus the last step's noise, none where kappa is 0."""
    if schedule.kappa == 0:
        return degraded
    return degraded + float(schedule.kappa * schedule.sqrt_etas[-1]) * noise


def posterior_mean(x_t: Array, clean: Array, schedule: ShiftSchedule, t: Any) -> Array:
    """Mean of q(x_{t-1} | x_t, x_0); the degraded image does not appear in it."""
    return at(schedule.posterior_mean_coef1, t, x_t) * x_t + at(schedule.posterior_mean_coef2, t, x_t) * clean


def scale_input(x_t: Array, schedule: ShiftSchedule, t: Any, normalize: str = "latent") -> Array:
    """x_t as the network sees it; the posterior goes on with the unscaled one."""
    return x_t / at(schedule.input_divisor(normalize), t, x_t)


def target(
    clean: Array, degraded: Array, noise: Array, schedule: ShiftSchedule, t: Any, parameterisation: str
) -> Array:
    """What the network's output is compared with in training."""
    if parameterisation == "xstart":
        return clean
    if parameterisation == "residual":
        return degraded - clean
    if parameterisation == "epsilon":
        return noise
    if parameterisation == "epsilon_scale":
        return at(schedule.kappa * schedule.sqrt_etas, t, noise) * noise
    raise ValueError(_unknown(parameterisation))


def squared_error(
    output: Array,
    wanted: Array,
    schedule: ShiftSchedule,
    t: Any,
    parameterisation: str,
    *,
    weighted: bool = False,
) -> Array:
    """The published loss of each sample, (N,): mean square over C, H, W; epsilon_scale is brought to unit noise.

    weighted: with the weights of the variational bound; the paper reports that leaving them out works better.
    """
    error = (output - wanted) ** 2
    if parameterisation == "epsilon_scale":
        error = error / at(schedule.kappa**2 * schedule.etas, t, error)
    if weighted:
        error = error * at(schedule.loss_weight(parameterisation), t, error)
    return error.reshape(len(error), -1).mean(-1)


def clean_from(
    output: Array, x_t: Array, degraded: Array, schedule: ShiftSchedule, t: Any, parameterisation: str
) -> Array:
    """The estimate of the clean image that a network's output stands for."""
    if parameterisation == "xstart":
        return output
    if parameterisation == "residual":
        return degraded - output
    if parameterisation == "epsilon":
        noise = at(schedule.kappa * schedule.sqrt_etas, t, x_t) * output
    elif parameterisation == "epsilon_scale":
        noise = output
    else:
        raise ValueError(_unknown(parameterisation))
    etas = at(schedule.etas, t, x_t)
    return (x_t - noise - etas * degraded) / (1 - etas)


def estimate(
    predict: Callable[[Array, int], Array],
    x_t: Array,
    degraded: Array,
    schedule: ShiftSchedule,
    t: Any,
    reading: Reading,
) -> Array:
    """One call of the network: scale x_t, tell it the timestep, read its output as a clean image."""
    timestep = int(schedule.timesteps[t]) if isinstance(t, int) else at_index(schedule, t)
    output = predict(scale_input(x_t, schedule, t, reading.normalize), timestep)
    return clean_from(output, x_t, degraded, schedule, t, reading.parameterisation)


def at_index(schedule: ShiftSchedule, t: Any) -> Any:
    """The network's timesteps of an integer array t (N,), of t's own kind."""
    return t.new_tensor(schedule.timesteps)[t] if hasattr(t, "new_tensor") else schedule.timesteps[np.asarray(t)]


def sample(
    predict: Callable[[Array, int], Array],
    degraded: Array,
    noise: Array,
    schedule: ShiftSchedule,
    reading: Reading = Reading(),
    *,
    clip: tuple[float, float] | None = None,
    last: int = 0,
    between: Callable[[Array], Array] | None = None,
    on_step: Callable[[int, Array, Array], None] | None = None,
) -> Array:
    """The backward process: from the degraded image plus noise to the restored one.

    predict:  callable (scaled x_t, timestep) -> the network's output, same shape as degraded.
    degraded: (N, C, H, W) at the size and in the range of the result.
    noise:    (T, N, C, H, W) standard normal; noise[0] starts the chain, noise[k] is added after its k-th step.
              Not looked at where kappa is 0.
    clip:     bounds for every estimate of the clean image (the published code clips to [-1, 1] in pixel space).
    last:     the step whose estimate is returned; 0 completes the chain, a greater one cuts it short.
    between:  applied to x_t between the steps (training detaches it there).
    on_step:  called with (t, x_t, estimate of the clean image).
    """
    if not 0 <= last < schedule.steps:
        raise ValueError(f"last must lie in 0..{schedule.steps - 1}, the steps of the chain, not be {last}")
    x = prior(degraded, noise[0] if schedule.kappa else None, schedule)
    for t in reversed(range(last, schedule.steps)):
        clean = estimate(predict, x, degraded, schedule, t, reading)
        if clip is not None:
            clean = clean.clip(*clip)
        if on_step:
            on_step(t, x, clean)
        if t > last:
            x = posterior_mean(x, clean, schedule, t)
            if schedule.kappa:
                x = x + float(np.sqrt(schedule.posterior_variance[t])) * noise[schedule.steps - t]
            x = between(x) if between else x
    return clean  # at t = 0 the posterior's weights are (0, 1) and its variance is 0: the sample is the estimate


def _unknown(parameterisation: str) -> str:
    return f"unknown parameterisation {parameterisation!r}; it must be one of {', '.join(PARAMETERISATIONS)}"
