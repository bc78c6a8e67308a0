from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.diffusion import resshift
from restonnx.diffusion.schedules import ShiftSchedule, exponential, respace

schedules = st.builds(
    exponential,
    st.integers(2, 20),
    kappa=st.floats(0.02, 4),
    min_noise_level=st.floats(0.005, 0.5),
    etas_end=st.floats(0.9, 0.999),
    power=st.floats(0.2, 3),
)


def images(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


@given(schedules)
def test_a_step_back_from_the_marginal_lands_on_the_marginal_before(schedule: ShiftSchedule) -> None:
    # x_t = x_0 + eta_t e + kappa sqrt(eta_t) n; its posterior must have the mean and variance of x_{t-1}.
    clean, degraded, nothing = images(2, 1, 3, 3), images(2, 1, 3, 3, seed=1), np.zeros((2, 1, 3, 3))
    for t in range(1, schedule.steps):
        mean = resshift.posterior_mean(resshift.forward(clean, degraded, nothing, schedule, t), clean, schedule, t)
        np.testing.assert_allclose(mean, resshift.forward(clean, degraded, nothing, schedule, t - 1), atol=1e-12)
        carried = schedule.posterior_mean_coef1[t] ** 2 * schedule.kappa**2 * schedule.etas[t]
        variance = carried + schedule.posterior_variance[t]
        np.testing.assert_allclose(variance, schedule.kappa**2 * schedule.etas[t - 1], rtol=1e-9)


@given(schedules, st.sampled_from(resshift.PARAMETERISATIONS))
def test_the_clean_image_comes_back_from_every_target(schedule: ShiftSchedule, kind: str) -> None:
    clean, degraded, noise = (images(3, 2, 4, 4, seed=seed) for seed in range(3))
    t = np.array([0, schedule.steps // 2, schedule.steps - 1])
    x_t = resshift.forward(clean, degraded, noise, schedule, t)
    target = resshift.target(clean, degraded, noise, schedule, t, kind)
    np.testing.assert_allclose(resshift.clean_from(target, x_t, degraded, schedule, t, kind), clean, atol=1e-8)


@pytest.mark.parametrize("last", [-1, 4, 9])
def test_a_last_step_beyond_the_chain_is_refused(last: int) -> None:
    schedule = exponential(4, kappa=2.0, min_noise_level=0.2)
    with pytest.raises(ValueError, match=rf"last must lie in 0\.\.3, the steps of the chain, not be {last}"):
        resshift.sample(lambda x, t: x, images(1, 3, 4, 4), images(4, 1, 3, 4, 4), schedule, last=last)


@pytest.mark.parametrize("kind", resshift.PARAMETERISATIONS)
def test_a_perfect_network_leads_the_chain_to_the_clean_image(kind: str) -> None:
    schedule = exponential(4, kappa=2.0, min_noise_level=0.2)
    clean, degraded, noise = images(1, 3, 4, 4), images(1, 3, 4, 4, seed=1), images(4, 1, 3, 4, 4, seed=2)
    now: dict[str, Any] = {}

    def perfect(scaled: Any, t: int) -> Any:
        x_t = scaled * schedule.input_divisor("latent")[t]
        now["noise"] = (x_t - clean - schedule.etas[t] * (degraded - clean)) / (schedule.kappa * schedule.sqrt_etas[t])
        return resshift.target(clean, degraded, now["noise"], schedule, t, kind)

    restored = resshift.sample(perfect, degraded, noise, schedule, resshift.Reading(kind, "latent"))
    np.testing.assert_allclose(restored, clean, atol=1e-9)


def test_numpy_and_torch_walk_the_same_chain() -> None:
    torch = pytest.importorskip("torch")
    schedule = respace(exponential(15, kappa=2.0, min_noise_level=0.04), 5)
    degraded, noise = images(2, 3, 8, 8), images(5, 2, 3, 8, 8, seed=1)
    results = [
        resshift.sample(lambda x, t, y=y: 0.7 * x + 0.2 * y - 0.01 * t, y, n, schedule)
        for y, n in ((degraded, noise), (torch.from_numpy(degraded), torch.from_numpy(noise)))
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-12)


def test_a_chain_cut_short_ends_with_that_steps_estimate() -> None:
    schedule = exponential(4, kappa=1.0, min_noise_level=0.1)
    degraded, noise = images(1, 1, 4, 4), images(4, 1, 1, 4, 4, seed=1)
    seen: list[Any] = []

    def network(x: Any, t: int) -> Any:
        return np.tanh(x) - t

    resshift.sample(network, degraded, noise, schedule, on_step=lambda t, x, clean: seen.append(clean))
    for last in range(4):
        np.testing.assert_array_equal(resshift.sample(network, degraded, noise, schedule, last=last), seen[3 - last])


def test_what_runs_between_steps_is_what_the_next_step_sees() -> None:
    schedule = exponential(3, kappa=1.0, min_noise_level=0.1)
    degraded, noise = images(1, 1, 4, 4), images(3, 1, 1, 4, 4, seed=1)
    seen: list[Any] = []
    resshift.sample(
        lambda x, t: x, degraded, noise, schedule, between=np.zeros_like, on_step=lambda t, x, clean: seen.append(x)
    )
    assert seen[0].any()
    assert not seen[1].any()
    assert not seen[2].any()


@pytest.mark.parametrize("steps", [0, 5])
def test_respacing_keeps_at_least_one_step_and_no_more_than_there_are(steps: int) -> None:
    with pytest.raises(ValueError, match="cannot keep"):
        respace(exponential(4, kappa=1.0, min_noise_level=0.1), steps)


@pytest.mark.parametrize(
    ("roots", "kappa"), [([0.5, 0.4], 1.0), ([0.0, 0.5], 1.0), ([0.5, 1.1], 1.0), ([], 1.0), ([0.5], -1.0)]
)
def test_an_impossible_schedule_is_refused(roots: list[float], kappa: float) -> None:
    with pytest.raises(ValueError, match=r"sqrt_etas|kappa"):
        ShiftSchedule(np.array(roots), kappa, np.arange(len(roots)))


def test_unknown_names_are_refused_with_the_right_ones() -> None:
    schedule = exponential(3, kappa=1.0, min_noise_level=0.1)
    with pytest.raises(ValueError, match="epsilon_scale"):
        resshift.Reading("noise")
    with pytest.raises(ValueError, match="latent, pixel or none"):
        schedule.input_divisor("sigma")
