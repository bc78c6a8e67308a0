"""RDDM along other paths: residual and noise removed at different times (arXiv 2308.13712, path independence).

x at the point (i, j) is clean + Abar_i residual + Bbar_j noise; a sampler walks from (T-1, T-1) to (-1, -1). Where the
residual's head depends on Abar alone and the noise's on Bbar alone the end does not depend on the path. That asks for
two networks and Reading(time="cumulative"), and holds in part only: networks are not ideal, and extreme schedules
change what is generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from restonnx.diffusion.rddm import (
    DEFAULT,
    Array,
    Predict,
    Reading,
    Watch,
    call,
    draw,
    indices,
    level,
    prior,
    read,
    step_std,
    time_inputs,
)
from restonnx.diffusion.rddm_schedules import ResidualSchedule

Point = tuple[int, int]
ORDERS = ("residual_first", "noise_first", "together")


def path(times: Sequence[int], order: str) -> tuple[Point, ...]:
    """The points of a walk through descending indices: along one side and then the other, or along the diagonal."""
    times = tuple(times)
    if order == "residual_first":
        return tuple((t, times[0]) for t in times) + tuple((times[-1], t) for t in times[1:])
    if order == "noise_first":
        return tuple((times[0], t) for t in times) + tuple((t, times[-1]) for t in times[1:])
    if order == "together":
        return tuple((t, t) for t in times)
    raise ValueError(f"order is {order!r}; it must be one of {', '.join(ORDERS)}")


def sample_path(
    predict: Predict,
    degraded: Array | None,
    noise: Any,
    schedule: ResidualSchedule,
    reading: Reading = DEFAULT,
    *,
    points: Sequence[Point],
    eta: float = 0.0,
    on_step: Watch | None = None,
) -> Array:
    """Walk the points (i, j), each index falling or standing still, the last (-1, -1); otherwise as `rddm.sample`.

    noise: noise[0] starts the chain; with eta > 0 every step that takes noise away, except down to -1, adds one more.
    A step that removes the residual alone tells both heads its i, one that removes noise alone its j: the head in use
    hears its own level, and a network of a single time works too.
    on_step: called with ((i, j), x, its Prediction).
    """
    _check(points, schedule)
    x, clean, drawn = prior(degraded, noise[0], schedule), None, 0
    for (i, j), (i_next, j_next) in pairwise(points):
        told = (i if i > i_next else j, j if j > j_next else i)
        heard = time_inputs(schedule, told[0], reading, x, told[1])
        outputs = call(predict, x, heard, reading, clean)
        prediction = read(outputs, x, degraded, schedule, i, reading, j)
        clean = prediction.clean
        if on_step:
            on_step((i, j), x, prediction)
        if i > i_next == -1 and j > j_next == -1:
            return clean
        if i > i_next:
            x = x - _fall(schedule.alpha_bar, i, i_next, x) * prediction.residual
        if j > j_next:
            std = step_std(schedule, j, j_next, eta)
            kept = math.sqrt(max(level(schedule.beta2_bar, j_next, x) - std**2, 0.0))
            x = x - (level(schedule.beta_bar, j, x) - kept) * prediction.noise
            if eta and j_next >= 0:
                drawn += 1
                x = x + std * draw(noise, drawn)
    return x if reading.clip_clean is None else x.clip(*reading.clip_clean)


def sample_decoupled(
    predict: Predict,
    degraded: Array | None,
    noise: Any,
    schedule: ResidualSchedule,
    reading: Reading = DEFAULT,
    *,
    times: int | Sequence[int],
    order: str = "residual_first",
    eta: float = 0.0,
    as_published: bool = False,
    on_step: Watch | None = None,
) -> Array:
    """First all of the one, then all of the other, with twice the evaluations of `rddm.sample`.

    as_published: as the authors' code does it, residual first only. Each pass ends at the (bounded) clean estimate,
    so the first already takes away the noise of its last index and cuts what is still very noisy to the bounds; both
    passes read the network as if residual and noise stood at the same index; with eta > 0 both add noise, so that it
    takes 2 steps - 1 draws, on_step then hears t alone.
    """
    grid = indices(schedule, times)
    if not as_published:
        points = path(grid, order)
        return sample_path(predict, degraded, noise, schedule, reading, points=points, eta=eta, on_step=on_step)
    if order != "residual_first":
        raise ValueError(f"the published sampler removes residuals first; order is {order!r}")
    x, clean, drawn = prior(degraded, noise[0], schedule), None, 0
    for removed in ("residual", "noise"):
        for t, s in pairwise(grid):
            outputs = call(predict, x, time_inputs(schedule, t, reading, x), reading, clean)
            prediction = read(outputs, x, degraded, schedule, t, reading)
            clean = prediction.clean
            if on_step:
                on_step(t, x, prediction)
            if s < 0:
                x = clean
                break
            std = step_std(schedule, t, s, eta)
            if removed == "residual":
                x = x - _fall(schedule.alpha_bar, t, s, x) * prediction.residual
            else:
                kept = math.sqrt(max(level(schedule.beta2_bar, s, x) - std**2, 0.0))
                x = x - (level(schedule.beta_bar, t, x) - kept) * prediction.noise
            if eta:
                drawn += 1
                x = x + std * draw(noise, drawn)
    return x


def _fall(values: Any, i: int, i_next: int, like: Array) -> float:
    return float(level(values, i, like) - level(values, i_next, like))


def _check(points: Sequence[Point], schedule: ResidualSchedule) -> None:
    falling = all(a >= c and b >= d and (a, b) != (c, d) for (a, b), (c, d) in pairwise(points))
    if len(points) < 2 or tuple(points[-1]) != (-1, -1) or not falling or max(points[0]) >= schedule.steps:
        raise ValueError(f"a path must fall from at most {schedule.steps - 1} to (-1, -1), got {list(points)}")
