from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.diffusion import rddm_schedules
from restonnx.diffusion.rddm_schedules import Quirks, ResidualSchedule

shapes = st.tuples(st.sampled_from(rddm_schedules.KINDS), st.floats(0, 5))
schedules = st.builds(
    rddm_schedules.power,
    st.integers(2, 40),
    alpha=shapes,
    beta2=shapes,
    sum_scale=st.sampled_from([0.01, 0.5, 1.0, 2.5]),
    grid=st.sampled_from(rddm_schedules.GRIDS),
)


@given(schedules)
def test_alphas_sum_to_one_and_betas_to_the_scale_of_the_noise(schedule: ResidualSchedule) -> None:
    assert schedule.alpha_bar[-1] == pytest.approx(1)
    assert schedule.beta2_bar[-1] == pytest.approx(schedule.start_std**2)
    assert (np.diff(schedule.alpha_bar) >= 0).all()
    assert (np.diff(schedule.beta2_bar) >= 0).all()


@given(schedules)
def test_any_generating_schedule_is_a_ddim_schedule_after_scaling(schedule: ResidualSchedule) -> None:
    inside = (1 - schedule.alpha_bar) ** 2 + schedule.beta_bar**2 > 0  # where x_t is 0 for any image, nothing scales it
    acp, scale = rddm_schedules.to_ddim(schedule.alpha_bar[inside], schedule.beta_bar[inside])
    np.testing.assert_allclose(scale * (1 - schedule.alpha_bar[inside]), acp**0.5, atol=1e-12)
    np.testing.assert_allclose(scale * schedule.beta_bar[inside], (1 - acp) ** 0.5, atol=1e-7)


@given(st.lists(st.floats(1e-5, 0.5), min_size=1, max_size=30))
def test_the_coefficients_return_from_their_transform(betas: list[float]) -> None:
    acp = np.cumprod(1 - np.array(betas))
    back, scale = rddm_schedules.to_ddim(*rddm_schedules.from_ddim(acp))
    np.testing.assert_allclose(back, acp, rtol=1e-9)
    np.testing.assert_allclose(scale, 1, rtol=1e-9)


def test_a_readjusted_schedule_still_reads_the_network_by_its_training() -> None:
    trained = rddm_schedules.from_betas(rddm_schedules.ddim_betas(100))
    new = rddm_schedules.readjusted(trained, alpha=("decreased", 0.3))
    np.testing.assert_array_equal(new.reading_alpha_bar, trained.alpha_bar)
    np.testing.assert_array_equal(new.beta2_bar, trained.beta2_bar)
    assert new.alpha_bar[-1] == pytest.approx(1)
    again = rddm_schedules.readjusted(new, alpha=("average", 1), beta2=("average", 1), sum_scale=0.5)
    np.testing.assert_array_equal(again.reading_alpha_bar, trained.alpha_bar)
    assert again.beta2_bar[-1] == pytest.approx(0.5)
    forgetful = rddm_schedules.readjusted(trained, alpha=("decreased", 0.3), keep_reading=False)
    np.testing.assert_array_equal(forgetful.reading_alpha_bar, forgetful.alpha_bar)


def test_saved_cumulative_sums_give_the_schedule_back() -> None:
    schedule = rddm_schedules.power(50, sum_scale=0.2)
    back = rddm_schedules.from_cumulative(schedule.alpha_bar, schedule.beta_bar)
    np.testing.assert_allclose(back.alphas, schedule.alphas, atol=1e-12)
    np.testing.assert_allclose(back.betas2, schedule.betas2, atol=1e-12)
    assert back.start_std == pytest.approx(schedule.start_std)


def test_float32_buffers_are_each_rounded_once() -> None:
    schedule = rddm_schedules.power(1000)
    rounded = rddm_schedules.as_float32_buffers(schedule)
    for name in ("alphas", "beta_bar", "gap", "inverse_beta_bar", "posterior_mean_coef2", "posterior_variance"):
        assert getattr(rounded, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(rounded, name), getattr(schedule, name).astype(np.float32))
    assert rounded.start_std == schedule.start_std


def test_quirks_are_off_unless_asked_for() -> None:
    betas = rddm_schedules.ddim_betas(1000)
    correct = rddm_schedules.from_betas(betas)
    assert correct.gap[-1] == pytest.approx(6.35e-3, rel=1e-3)
    assert correct.alphas[0] == pytest.approx(5.0e-5, rel=1e-3)
    assert correct.betas2[0] == pytest.approx(1e-4)
    assert (correct.alpha_bar_prev[0], correct.beta2_bar_prev[0]) == (0, 0)
    published = rddm_schedules.from_betas(betas, first="zero", quirks=Quirks(True, True, "one"))
    assert published.gap[-1] == 1e-6
    assert (published.alphas[0], published.betas2[0]) == (0, 0)
    assert (published.alpha_bar_prev[0], published.beta2_bar_prev[0]) == (1, 1)
    tested = rddm_schedules.from_betas(betas, first="second", quirks=Quirks(previous="second"))
    assert tested.alphas[0] == tested.alphas[1]
    assert tested.alpha_bar_prev[0] == tested.alpha_bar[1]
    assert rddm_schedules.power(10, sum_scale=4).beta2_bar[-1] == pytest.approx(4)
    assert rddm_schedules.power(10, sum_scale=4, quirks=Quirks(clip_cumulative=True)).beta2_bar[-1] == 1


def test_the_published_values_of_the_two_grids_differ_as_reported() -> None:
    restoration, generation = (rddm_schedules.power(1000, grid=grid) for grid in rddm_schedules.GRIDS)
    assert restoration.alpha_bar[499] == pytest.approx(0.749750, abs=1e-6)
    assert restoration.beta2_bar[499] == pytest.approx(0.250250, abs=1e-6)
    assert generation.alpha_bar[499] == pytest.approx(0.750250, abs=1e-6)
    assert generation.beta2_bar[499] == pytest.approx(0.249750, abs=1e-6)
    assert generation.betas2[0] == generation.alphas[-1] == 0


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        rddm_schedules.power(10, sum_scale=-1)
    with pytest.raises(ValueError, match="cannot have 0 steps"):
        rddm_schedules.power(0)
    with pytest.raises(ValueError, match="ratio"):
        rddm_schedules.power(10, alpha=("increased", -1))
    with pytest.raises(ValueError, match="must fall within"):
        rddm_schedules.from_alphas_cumprod(np.array([0.5, 0.6]))
    one = np.ones(3)
    with pytest.raises(ValueError, match="one length"):
        ResidualSchedule(one, one, one, np.ones(2), 1.0)
    with pytest.raises(ValueError, match="finite"):
        ResidualSchedule(one, one, one, one * np.nan, 1.0)
    with pytest.raises(ValueError, match="standard deviation"):
        ResidualSchedule(one, one, one, one, -1.0)
