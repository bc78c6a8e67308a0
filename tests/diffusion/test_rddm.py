from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from restonnx.diffusion import rddm, rddm_ddim, rddm_paths, rddm_schedules
from restonnx.diffusion.rddm import Reading
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


def images(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def perfect(schedule: ResidualSchedule, clean: Any, degraded: Any, kind: str) -> Any:
    """A network that knows the clean image, and finds the noise that leads from it to x at the times it hears."""

    def predict(x: Any, times: Any) -> Any:
        a, b = (rddm.level(v, t, x) for v, t in zip((schedule.alpha_bar, schedule.beta_bar), times, strict=True))
        noise = (x - clean - a * (degraded - clean)) / b if b else np.zeros_like(x)
        return rddm.targets(clean, degraded, noise, kind)

    return predict


@given(schedules)
def test_a_step_back_from_the_marginal_has_mean_and_variance_of_the_marginal_before(schedule: ResidualSchedule) -> None:
    clean, degraded, nothing = images(2, 1, 3, 3), images(2, 1, 3, 3, seed=1), np.zeros((2, 1, 3, 3))
    known = rddm.Prediction(degraded - clean, nothing, clean)
    for t in range(1, schedule.steps):
        x_t = rddm.forward(clean, degraded, nothing, schedule, t)
        mean = rddm.posterior_mean(x_t, known, schedule, t)
        np.testing.assert_allclose(mean, rddm.forward(clean, degraded, nothing, schedule, t - 1), atol=1e-9)
        carried = schedule.posterior_mean_coef1[t] ** 2 * schedule.beta2_bar[t]
        np.testing.assert_allclose(carried + schedule.posterior_variance[t], schedule.beta2_bar[t - 1], atol=1e-9)


@given(schedules, st.sampled_from([0.0, 0.4, 1.0]), st.data())
def test_a_step_to_any_earlier_time_keeps_the_marginal(schedule: ResidualSchedule, eta: float, data: Any) -> None:
    t = data.draw(st.integers(1, schedule.steps - 1))
    s = data.draw(st.integers(0, t - 1))
    clean, degraded = images(1, 1, 3, 3), images(1, 1, 3, 3, seed=1)
    noise, drawn = np.ones((1, 1, 3, 3)), np.zeros((1, 1, 3, 3))
    x_t = rddm.forward(clean, degraded, noise, schedule, t)
    moved = rddm.step(
        x_t, rddm.Prediction(degraded - clean, noise, clean), schedule, t, s, eta=eta, noise=drawn
    ) - rddm.forward(clean, degraded, drawn, schedule, s)
    variance = moved**2 + rddm.step_std(schedule, t, s, eta) ** 2
    np.testing.assert_allclose(variance, schedule.beta2_bar[s], atol=1e-9)


@given(schedules, st.sampled_from(rddm.PREDICTIONS))
def test_residual_noise_and_clean_image_come_back_from_every_target(schedule: ResidualSchedule, kind: str) -> None:
    clean, degraded, noise = (images(2, 2, 4, 4, seed=seed) for seed in range(3))
    middle = schedule.steps // 2
    assume(schedule.gap[middle] > 1e-3 and schedule.beta_bar[middle] > 1e-6)  # 0/0, which no reading can undo
    t = np.array([middle, middle])
    x_t = rddm.forward(clean, degraded, noise, schedule, t)
    found = rddm.read(rddm.targets(clean, degraded, noise, kind), x_t, degraded, schedule, t, Reading(kind))
    np.testing.assert_allclose(found.clean, clean, atol=1e-6)
    np.testing.assert_allclose(found.residual, degraded - clean, atol=1e-6)
    np.testing.assert_allclose(found.noise, noise, atol=1e-6)


@pytest.mark.parametrize("kind", rddm.PREDICTIONS)
@pytest.mark.parametrize("form", rddm.FORMS)
def test_a_perfect_network_leads_to_the_clean_image(kind: str, form: str) -> None:
    schedule = rddm_schedules.power(20)
    clean, degraded, noise = images(1, 3, 4, 4), images(1, 3, 4, 4, seed=1), images(5, 1, 3, 4, 4, seed=2)
    eta = float(form == "special_eta_1")
    # pred_noise learns nothing of the clean image where Abar = 1, so it starts one step later.
    times = [18, 12, 6, 2, -1] if kind == "pred_noise" else 5
    restored = rddm.sample(
        perfect(schedule, clean, degraded, kind),
        degraded,
        noise,
        schedule,
        Reading(kind),
        times=times,
        eta=eta,
        form=form,
    )
    np.testing.assert_allclose(restored, clean, atol=1e-6)


def test_the_four_forms_of_a_step_agree() -> None:
    schedule, noise = rddm_schedules.power(50), images(6, 1, 1, 4, 4)
    degraded = images(1, 1, 4, 4, seed=1)

    def run(form: str, eta: float) -> Any:
        return rddm.sample(network, degraded, noise, schedule, times=6, eta=eta, form=form)

    def network(x: Any, times: Any) -> Any:
        return np.tanh(x) - 0.1, np.cos(x)

    for eta, special in ((0.0, "special_eta_0"), (1.0, "special_eta_1")):
        np.testing.assert_allclose(run("use_x_start", eta), run("use_pred_noise", eta), atol=1e-9)
        np.testing.assert_allclose(run(special, eta), run("use_pred_noise", eta), atol=1e-9)
        with pytest.raises(ValueError, match="goes with eta"):
            run(special, 0.5)


def test_numpy_and_torch_walk_the_same_chains() -> None:
    torch = pytest.importorskip("torch")
    schedule, reading = rddm_schedules.power(30, sum_scale=0.1), Reading(time="cumulative")
    degraded, noise = images(2, 3, 4, 4), images(30, 2, 3, 4, 4, seed=1)
    samplers: list[Any] = [
        lambda *inputs: rddm.sample(*inputs, times=5, eta=1.0),
        lambda *inputs: rddm.sample_ancestral(*inputs),
        lambda *inputs: rddm_paths.sample_decoupled(*inputs, times=5, eta=0.5, order="noise_first"),
        lambda *inputs: rddm_paths.sample_decoupled(*inputs, times=5, eta=0.5, as_published=True),
    ]
    for sampler in samplers:
        results = [
            sampler(lambda x, t, y=y: (0.5 * (y - x), 0.7 * x + t[1] / 60), y, n, schedule, reading)
            for y, n in ((degraded, noise), (torch.from_numpy(degraded), torch.from_numpy(noise)))
        ]
        np.testing.assert_allclose(results[0], results[1], atol=1e-12)


def test_training_times_come_per_sample_and_as_the_reading_asks() -> None:
    torch = pytest.importorskip("torch")
    schedule, t = rddm_schedules.power(10, sum_scale=0.04), np.array([0, 4, 9])
    like = images(3, 1, 2, 2)
    residual, noise = rddm.time_inputs(schedule, t, Reading(time="cumulative"), like)
    np.testing.assert_allclose(residual, 10 * schedule.alpha_bar[t])
    np.testing.assert_allclose(noise, 10 * schedule.beta_bar[t])
    for found in rddm.time_inputs(
        schedule, torch.from_numpy(t), Reading("pred_noise", "cumulative"), torch.from_numpy(like)
    ):
        np.testing.assert_allclose(found, noise)
    assert rddm.time_inputs(schedule, 4, Reading(), like) == (4, 4)


def test_generation_is_restoration_of_nothing() -> None:
    schedule, noise = rddm_schedules.power(20), images(4, 1, 1, 4, 4)

    def network(x: Any, times: Any) -> Any:
        return -np.tanh(x), 0.5 * x

    for kind in ("pred_res_noise", "pred_res", "pred_noise"):
        reading = Reading(kind, clip_clean=(-1, 1))
        generated = rddm.sample(network, None, noise, schedule, reading, times=4)
        restored = rddm.sample(network, np.zeros((1, 1, 4, 4)), noise, schedule, reading, times=4)
        np.testing.assert_array_equal(generated, restored)


def test_without_noise_the_path_is_straight_and_nothing_is_divided_by_zero() -> None:
    schedule = rddm_schedules.power(8, alpha=("average", 1), sum_scale=0)
    clean, degraded = images(1, 1, 4, 4), images(1, 1, 4, 4, seed=1)
    seen: list[Any] = []
    restored = rddm.sample(
        lambda x, t: degraded - clean,
        degraded,
        images(4, 1, 1, 4, 4),
        schedule,
        Reading("pred_res"),
        times=4,
        eta=1.0,
        on_step=lambda t, x, prediction: seen.append(x),
    )
    np.testing.assert_allclose(restored, clean)
    for k, x in enumerate(seen):
        np.testing.assert_allclose(x, degraded + k / 4 * (clean - degraded), atol=1e-12)


def test_bounds_cut_the_residual_before_all_else_is_made_of_it() -> None:
    schedule, x, degraded = rddm_schedules.power(10), images(1, 1, 4, 4), images(1, 1, 4, 4, seed=1)
    outputs = (3 * images(1, 1, 4, 4, seed=2), images(1, 1, 4, 4, seed=3))
    bounded = Reading(clip_clean=(-1, 1), clip_residual=(-0.5, 0.5))
    found = rddm.read(outputs, x, degraded, schedule, 5, bounded)
    same = rddm.read((outputs[0].clip(-0.5, 0.5), outputs[1]), x, degraded, schedule, 5, Reading(clip_clean=(-1, 1)))
    assert abs(found.residual).max() == 0.5
    np.testing.assert_array_equal(found.clean, same.clean)


def test_a_self_conditioned_network_sees_what_it_said_last() -> None:
    schedule, seen, said = rddm_schedules.power(10), [], []

    def network(x: Any, times: Any, previous: Any) -> Any:
        seen.append(previous)
        return 0.1 * x, 0.2 * x

    rddm.sample(
        network,
        images(1, 1, 4, 4),
        images(1, 1, 1, 4, 4),
        schedule,
        Reading(self_condition=True),
        times=3,
        on_step=lambda t, x, prediction: said.append(prediction.clean),
    )
    assert seen[0] is None
    assert seen[1] is said[0]
    assert seen[2] is said[1]


def test_time_grids_are_evenly_spaced_and_truncated() -> None:
    assert rddm.time_grid(1000, 2) == (999, 499, -1)
    assert rddm.time_grid(1000, 5) == (999, 799, 599, 399, 199, -1)
    assert rddm.time_grid(1000, 3) == (999, 665, 332, -1)
    assert rddm.time_grid(4, 4) == (3, 2, 1, 0, -1)
    assert rddm_ddim.ddim_grid(1000, 3) == (666, 333, 0, -1)


@pytest.mark.parametrize("steps", [0, 11])
def test_a_grid_needs_at_least_one_step_and_no_more_than_there_are(steps: int) -> None:
    for grid in (rddm.time_grid, rddm_ddim.ddim_grid):
        with pytest.raises(ValueError, match=r"1\.\.10"):
            grid(10, steps)


@pytest.mark.parametrize("times", [[5], [5, 3], [3, 5, -1], [10, -1], [5, 5, -1]])
def test_times_that_do_not_fall_to_the_end_are_refused(times: list[int]) -> None:
    schedule, noise = rddm_schedules.power(10), images(1, 1, 1, 2, 2)
    for sampler in (rddm.sample, rddm_paths.sample_decoupled):
        with pytest.raises(ValueError, match="times must fall"):
            sampler(lambda x, t: (x, x), None, noise, schedule, times=times)
    with pytest.raises(ValueError, match="times must fall"):
        rddm_ddim.sample_converted(lambda x, t: x, noise, schedule, times=times)


def test_too_little_noise_is_refused() -> None:
    for sampler in (rddm.sample, rddm_paths.sample_decoupled):
        with pytest.raises(ValueError, match="more than 2 noise images"):
            sampler(lambda x, t: (x, x), None, images(2, 1, 1, 2, 2), rddm_schedules.power(10), times=4, eta=1.0)


def test_unknown_names_are_refused_with_the_right_ones() -> None:
    schedule, x = rddm_schedules.power(10), images(1, 1, 2, 2)
    with pytest.raises(ValueError, match="pred_res_noise"):
        Reading("residual")
    with pytest.raises(ValueError, match="index or cumulative"):
        Reading(time="t")
    with pytest.raises(ValueError, match="pred_x0_noise"):
        rddm.targets(x, x, x, "x0")
    with pytest.raises(ValueError, match="use_x_start"):
        rddm.step(x, rddm.Prediction(x, x, x), schedule, 5, 4, form="ddpm")
    with pytest.raises(ValueError, match="reads 2 heads, but the network gave 1"):
        rddm.read(x, x, x, schedule, 5, Reading())
    with pytest.raises(ValueError, match="residual_first"):
        rddm_paths.path([9, -1], "alternating")
    with pytest.raises(ValueError, match="residuals first"):
        rddm_paths.sample_decoupled(
            lambda x, t: (x, x), None, x[None], schedule, times=2, order="noise_first", as_published=True
        )
    with pytest.raises(ValueError, match="rddm or ddim"):
        rddm_ddim.sample_converted(lambda x, t: x, x[None], schedule, times=2, form="ddpm")
    with pytest.raises(ValueError, match="squaredcos_cap_v2"):
        rddm_schedules.ddim_betas(10, "cosine")
    with pytest.raises(ValueError, match="exact"):
        rddm_schedules.from_betas(np.full(3, 0.1), first="one")
    with pytest.raises(ValueError, match="one_based"):
        rddm_schedules.power(10, grid="centred")
    with pytest.raises(ValueError, match="increased"):
        rddm_schedules.power(10, alpha=("linear", 1))
    with pytest.raises(ValueError, match="float64"):
        rddm_schedules.power(10, dtype="float16")
    with pytest.raises(ValueError, match="zero, one or second"):
        Quirks(previous="two")
