"""DDIM written in RDDM's coefficients: any noise-predicting network, moved along (Abar, Bbar) (arXiv 2308.13712).

With degraded = 0 the residual is -clean, and x_t = (1 - Abar_t) clean + Bbar_t noise is DDPM's x_t where
Abar = 1 - sqrt(acp), Bbar = sqrt(1 - acp). One step is then DDIM's (Song et al. 2020, arXiv 2010.02502), exactly.

Clipping parts the two. DDIM rebuilds x_s from the clipped clean estimate; RDDM moves the unclipped x_t by a clipped
residual, so that what was cut off stays in x: a step differs by sqrt(acp_t) (clean - clip(clean)), and the result
may leave the bounds. Published comparisons of the two were made with clipping on, hence their differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from restonnx.diffusion.rddm import Array, Bounds, Prediction, draw, level
from restonnx.diffusion.rddm_schedules import ResidualSchedule

FORMS = ("rddm", "ddim")


def ddim_grid(total: int, steps: int) -> tuple[int, ...]:
    """DDIM's "leading" indices, falling by total // steps down to 0, then -1: 900, 800, .. 0, -1 for ten of 1000."""
    if not 1 <= steps <= total:
        raise ValueError(f"cannot take {steps} steps through {total}; they must lie in 1..{total}")
    return (*(k * (total // steps) for k in reversed(range(steps))), -1)


def ddim_std(schedule: ResidualSchedule, t: int, s: int, eta: float) -> float:
    """DDIM's standard deviation between t and s; eta = 1 is DDPM's. RDDM's own variance is acp_s times its square."""
    now, then = _retained(schedule, t) ** 2, _retained(schedule, s) ** 2
    return eta * math.sqrt(max((1 - then) / (1 - now) * (1 - now / then), 0.0))


def sample_converted(
    predict: Callable[[Array, int], Array],
    noise: Any,
    schedule: ResidualSchedule,
    *,
    times: int | Sequence[int],
    eta: float = 0.0,
    clip: Bounds | None = None,
    form: str = "rddm",
    on_step: Callable[[int, Array, Prediction], None] | None = None,
) -> Array:
    """Generate with a DDPM or DDIM network.

    predict:  callable (x_t, t) -> the noise in x_t.
    noise:    (K, N, C, H, W) standard normal; noise[0] starts the chain; with eta > 0 the k-th step adds noise[k],
              except the last, so K is then the number of steps.
    schedule: of `from_betas` or `from_alphas_cumprod`, or `readjusted` from one: the residual is then still found by
              the network's own relation, and moved along the new path.
    times:    a number of steps (DDIM's leading grid), or the descending indices themselves, ending with -1.
    eta:      multiplies the standard deviation, as in DDIM.
    clip:     bounds for the clean image and the residual; what it does depends on the form, see above.
    form:     rddm; or ddim, for comparison, which knows the network's own schedule only.
    on_step:  called with (t, x_t, its Prediction).
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be {' or '.join(FORMS)}")
    grid = ddim_grid(schedule.steps, times) if isinstance(times, int) else tuple(int(t) for t in times)
    if len(grid) < 2 or grid[0] >= schedule.steps or grid[-1] != -1 or any(a <= b for a, b in pairwise(grid)):
        raise ValueError(f"times must fall from at most {schedule.steps - 1} to -1, got {list(grid)}")
    x = schedule.start_std * noise[0]
    for k, (t, s) in enumerate(pairwise(grid), start=1):
        predicted = predict(x, t)
        a_t, a_s = level(schedule.alpha_bar, t, x), level(schedule.alpha_bar, s, x)
        b_t, b_s = level(schedule.beta_bar, t, x), level(schedule.beta_bar, s, x)
        std = ddim_std(schedule, t, s, eta)
        kept = math.sqrt(max(b_s**2 - std**2, 0.0))
        residual = (b_t * predicted - x) / _retained(schedule, t)
        clean = -residual if form == "ddim" else x - a_t * residual - b_t * predicted
        if clip is not None:
            clean, residual = clean.clip(*clip), residual.clip(*clip)
        if on_step:
            on_step(t, x, Prediction(residual, predicted, clean))
        if form == "ddim":
            x = _retained(schedule, s) * clean + kept * predicted
        else:
            x = x - (a_t - a_s) * residual - (b_t - kept) * predicted
        if std:
            x = x + std * draw(noise, k)
    return x


def _retained(schedule: ResidualSchedule, t: int) -> float:
    """sqrt(acp_t) of the network's own schedule, 1 for t = -1: what 1 - Abar was in training."""
    return 1.0 if t < 0 else 1 - float(schedule.reading_alpha_bar[t])
