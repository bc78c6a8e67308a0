from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.diffusion import rddm, rddm_paths, rddm_schedules
from restonnx.diffusion.rddm import Reading


def images(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("order", rddm_paths.ORDERS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_with_a_perfect_network_every_path_ends_at_the_clean_image(order: str, eta: float) -> None:
    schedule = rddm_schedules.power(20)
    clean, degraded, noise = images(1, 3, 4, 4), images(1, 3, 4, 4, seed=1), images(5, 1, 3, 4, 4, seed=2)
    state: dict[str, Any] = {}

    def predict(x: Any, times: Any) -> Any:
        return state["outputs"](x)

    points = rddm_paths.path(rddm.indices(schedule, 5), order)
    walk = iter(points)

    def outputs(x: Any) -> Any:
        i, j = next(walk)
        level = rddm.level(schedule.beta_bar, j, x)
        shift = rddm.level(schedule.alpha_bar, i, x) * (degraded - clean)
        return degraded - clean, (x - clean - shift) / level if level else 0 * x

    state["outputs"] = outputs
    found = rddm_paths.sample_path(predict, degraded, noise, schedule, points=points, eta=eta)
    np.testing.assert_allclose(found, clean, atol=1e-9)


def test_the_diagonal_path_is_the_coupled_sampler() -> None:
    schedule, noise, degraded = rddm_schedules.power(20), images(5, 1, 1, 4, 4), images(1, 1, 4, 4, seed=1)
    points = rddm_paths.path(rddm.indices(schedule, 5), "together")

    def network(x: Any, times: Any) -> Any:
        return np.tanh(x) + times[0] / 40, 0.5 * x - times[1] / 30

    for kind in ("pred_res_noise", "pred_x0_noise", "pred_res"):
        for eta in (0.0, 0.7):
            options = {"eta": eta}
            along = rddm_paths.sample_path(network, degraded, noise, schedule, Reading(kind), points=points, **options)
            together = rddm.sample(network, degraded, noise, schedule, Reading(kind), times=5, **options)
            np.testing.assert_allclose(along, together, atol=1e-12)


@given(st.permutations("rrrrnnnn"))
def test_where_each_head_depends_on_its_own_level_alone_the_path_does_not_matter(moves: list[str]) -> None:
    schedule, noise, degraded = rddm_schedules.power(40), images(1, 1, 1, 4, 4), images(1, 1, 4, 4, seed=1)
    levels, pattern = rddm.time_grid(40, 4), images(1, 1, 4, 4, seed=2)

    def separate(x: Any, times: Any) -> Any:
        return pattern * times[0], pattern + times[1] ** 2

    i = j = 0
    points = [(levels[0], levels[0])]
    for move in moves:
        i, j = i + (move == "r"), j + (move == "n")
        points.append((levels[i], levels[j]))
    reading = Reading(time="cumulative")
    found = rddm_paths.sample_path(separate, degraded, noise, schedule, reading, points=points)
    coupled = rddm.sample(separate, degraded, noise, schedule, reading, times=4)
    np.testing.assert_allclose(found, coupled, rtol=1e-9)


def test_the_published_decoupled_sampler_cuts_the_noisy_image_between_its_passes() -> None:
    schedule, noise, degraded = rddm_schedules.power(20), images(1, 1, 1, 8, 8), images(1, 1, 8, 8, seed=1)
    reading = Reading(time="cumulative", clip_clean=(-1, 1))
    seen: dict[bool, list[Any]] = {True: [], False: []}
    for as_published, states in seen.items():
        rddm_paths.sample_decoupled(
            lambda x, times: (0.1 * x, 0.1 * x),
            degraded,
            noise,
            schedule,
            reading,
            times=4,
            as_published=as_published,
            on_step=lambda t, x, prediction, states=states: states.append(x),
        )
    assert abs(seen[True][4]).max() <= 1
    assert abs(seen[False][4]).max() > 1
    for published, clean in zip(seen[True][:4], seen[False][:4], strict=True):
        np.testing.assert_allclose(published, clean, atol=1e-12)


@pytest.mark.parametrize(
    "points", [[(9, 9)], [(9, 9), (9, 9), (-1, -1)], [(9, 9), (-1, 0)], [(9, 3), (3, 9), (-1, -1)]]
)
def test_a_path_that_does_not_fall_to_the_end_is_refused(points: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="a path must fall"):
        rddm_paths.sample_path(
            lambda x, t: (x, x), None, images(1, 1, 1, 2, 2), rddm_schedules.power(10), points=points
        )
