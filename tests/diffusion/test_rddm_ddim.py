from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from restonnx.diffusion import rddm, rddm_ddim, rddm_schedules
from restonnx.diffusion.rddm import Reading
from restonnx.diffusion.rddm_schedules import Quirks


def images(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def bases() -> list[Any]:
    ends = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "squaredcos_cap_v2": (0.0, 0.0)}
    return [pytest.param(rddm_schedules.ddim_betas(1000, kind, *ends[kind]), id=kind) for kind in ends]


def stand_in(x: Any, t: int) -> Any:
    return 0.8 * x + 0.1 * np.cos(2 * x + t / 1000)


@pytest.mark.parametrize("betas", bases())
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 8, 10, 50])
def test_rddm_with_transformed_coefficients_is_ddim(betas: Any, eta: float, steps: int) -> None:
    schedule = rddm_schedules.from_betas(betas)
    noise = images(steps, 1, 1, 8, 8).astype(np.float32)
    results = [
        rddm_ddim.sample_converted(stand_in, noise, schedule, times=steps, eta=eta, form=form)
        for form in rddm_ddim.FORMS
    ]
    assert results[0].dtype == np.float32
    np.testing.assert_allclose(results[0], results[1], rtol=2e-6, atol=2e-5)


def test_the_general_sampler_reading_noise_is_ddim_too_without_the_published_overwrite() -> None:
    betas = rddm_schedules.ddim_betas(1000)
    times = rddm_ddim.ddim_grid(1000, 10)
    times = (999, *times[1:])
    noise = images(10, 1, 1, 8, 8)
    results = [
        rddm.sample(
            lambda x, t: stand_in(x, t[0]),
            None,
            noise,
            rddm_schedules.from_betas(betas, quirks=Quirks(overwrite_last_gap=overwrite)),
            Reading("pred_noise"),
            times=times,
        )
        for overwrite in (False, True)
    ]
    ddim = rddm_ddim.sample_converted(stand_in, noise, rddm_schedules.from_betas(betas), times=times, form="ddim")
    np.testing.assert_allclose(results[0], ddim, rtol=1e-6, atol=1e-8)
    assert abs(results[1] - ddim).max() > 100


def test_clipping_parts_ddim_and_rddm_by_what_was_cut_off() -> None:
    schedule, noise = rddm_schedules.from_betas(rddm_schedules.ddim_betas(1000)), images(1, 1, 1, 8, 8)
    moved, cut = [], []
    for form in rddm_ddim.FORMS:
        states: list[Any] = []
        rddm_ddim.sample_converted(
            stand_in,
            noise,
            schedule,
            times=[500, 300, -1],
            clip=(-1, 1),
            form=form,
            on_step=lambda t, x, p, states=states: states.append((x, p)),
        )
        moved.append(states[1][0])
        cut.append(states[0][1].clean)
    estimate = (noise[0] - schedule.beta_bar[500] * stand_in(noise[0], 500)) / (1 - schedule.alpha_bar[500])
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-12)
    expected = (1 - schedule.alpha_bar[500]) * (estimate - estimate.clip(-1, 1))
    np.testing.assert_allclose(moved[0] - moved[1], expected, atol=1e-12)


def test_rddms_own_variance_is_ddims_times_what_is_left_of_the_image() -> None:
    schedule = rddm_schedules.from_betas(rddm_schedules.ddim_betas(1000))
    own, theirs = rddm.step_std(schedule, 700, 500, 1.0), rddm_ddim.ddim_std(schedule, 700, 500, 1.0)
    assert own == pytest.approx(theirs * (1 - schedule.alpha_bar[500]))
