from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.diffusion import consistency
from restonnx.diffusion.consistency import Preconditioning, karras_sigmas
from restonnx.diffusion.consistency_training import WEIGHTS, Curriculum, loss_weight, pair

SPREAD = 0.5
readings = st.builds(
    Preconditioning, st.floats(0.1, 2), st.floats(1e-3, 0.1), st.floats(1, 100), boundary=st.booleans()
)
levels = st.floats(1e-3, 100)
curricula = st.builds(
    lambda start, more, decay, adaptive: Curriculum(start, start + more, decay, adaptive),
    st.integers(2, 20),
    st.integers(0, 200),
    st.floats(0, 0.999),
    st.booleans(),
)


def images(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def wiggly(u: Any, level: Any) -> Any:
    return 0.7 * u + 0.2 * (u * u + 1) ** 0.5 - 0.1 * level


def gaussian(x: Any, sigma: Any) -> Any:
    """The exact denoiser of images whose pixels are N(0, SPREAD^2)."""
    column = consistency.column(sigma, x)
    return x * SPREAD**2 / (SPREAD**2 + column**2)


def along_the_path(x: Any, sigma: Any, sigma_next: Any) -> Any:
    """Where the exact denoiser's ODE takes x."""
    start, end = consistency.column(sigma, x), consistency.column(sigma_next, x)
    return x * ((end**2 + SPREAD**2) / (start**2 + SPREAD**2)) ** 0.5


@given(readings)
def test_a_consistency_model_returns_an_image_of_the_least_noise_as_it_is(reading: Preconditioning) -> None:
    x = images(2, 1, 3, 3)
    at_boundary = replace(reading, boundary=True).denoise(wiggly, x, reading.sigma_min)
    np.testing.assert_allclose(at_boundary, x, rtol=1e-12)


@given(readings, levels)
def test_what_the_network_sees_and_what_it_must_say_have_unit_variance(reading: Preconditioning, sigma: float) -> None:
    reading = replace(reading, boundary=False)
    spread, skip = reading.sigma_data, reading.c_skip(sigma)
    assert reading.c_in(sigma) ** 2 * (spread**2 + sigma**2) == pytest.approx(1)
    error = (1 - skip) ** 2 * spread**2 + skip**2 * sigma**2  # of c_skip x against the clean image
    assert error == pytest.approx(reading.c_out(sigma) ** 2)
    assert loss_weight(sigma, "karras", spread) * reading.c_out(sigma) ** 2 == pytest.approx(1)


@given(readings, levels, levels)
def test_a_level_per_sample_equals_each_sample_alone(reading: Preconditioning, first: float, second: float) -> None:
    x = images(2, 3, 4, 4)
    together = reading.denoise(wiggly, x, np.array([first, second]))
    for k, sigma in enumerate((first, second)):
        np.testing.assert_allclose(together[k : k + 1], reading.denoise(wiggly, x[k : k + 1], sigma), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_network_hears_its_level_in_the_shape_and_type_of_the_images(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    heard: list[Any] = []

    def network(u: Any, level: Any) -> Any:
        heard.append(level)
        return u * 0

    x, reading = images(2, 3, 4, 4).astype(dtype), Preconditioning()
    for sigma in (2, 2.0, np.float64(2), np.array(2.0), np.array([2.0]), np.array([2.0, 2.0])):
        assert reading.denoise(network, x, sigma).dtype == x.dtype
    for sigma in (2.0, torch.tensor(2.0), torch.tensor([2.0]), torch.tensor([2.0, 2.0], dtype=torch.float64)):
        assert reading.denoise(network, torch.from_numpy(x), sigma).dtype == torch.from_numpy(x).dtype
    for level in heard:
        assert level.shape == (2, 1, 1, 1)
        assert str(level.dtype).endswith(dtype)
        np.testing.assert_allclose(np.asarray(level), np.log(2) / 4, rtol=1e-6)


@given(st.integers(2, 300), st.floats(1e-3, 0.1), st.floats(1, 100), st.floats(1, 10))
def test_a_grid_of_levels_falls_from_the_greatest_to_the_least(n: int, low: float, high: float, rho: float) -> None:
    grid = karras_sigmas(n, sigma_min=low, sigma_max=high, rho=rho)
    assert len(grid) == n
    assert (grid[0], grid[-1]) == (high, low)
    assert np.all(np.diff(grid) < 0)
    np.testing.assert_allclose(np.diff(grid ** (1 / rho), n=2), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("step", "order"), [(consistency.euler_step, 1), (consistency.heun_step, 2), (consistency.dpm_step, 2)]
)
def test_a_solver_of_the_ode_errs_by_its_order(step: Any, order: int) -> None:
    x = images(1, 1, 4, 4)
    errors = []
    for points in (40, 80):
        grid = karras_sigmas(points, sigma_min=0.1, sigma_max=10)
        found = consistency.integrate(gaussian, x, grid, step)
        errors.append(np.abs(found - along_the_path(x, 10.0, 0.1)).max())
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


def test_every_image_of_a_batch_can_have_levels_of_its_own() -> None:
    x, levels = images(2, 1, 4, 4), Preconditioning().between(np.array([0.3, 0.6]))
    for step in (consistency.euler_step, consistency.heun_step, consistency.dpm_step):
        together = consistency.integrate(gaussian, x, consistency.falling(levels, (0, 0.5)), step)
        for i, level in enumerate(levels):
            alone = consistency.integrate(gaussian, x[i : i + 1], consistency.falling(level, (0, 0.5)), step)
            np.testing.assert_allclose(together[i : i + 1], alone)


def test_the_ode_ends_at_the_estimate_of_the_clean_image() -> None:
    x = images(1, 1, 4, 4)
    for step in (consistency.euler_step, consistency.heun_step):
        np.testing.assert_allclose(consistency.integrate(gaussian, x, (0.3, 0.0), step), gaussian(x, 0.3))


def test_the_ode_shows_every_step_and_keeps_to_its_bounds() -> None:
    seen: list[Any] = []
    x = 3 * images(1, 1, 4, 4)
    found = consistency.integrate(
        lambda x, sigma: 2 * x, x, (1.0, 0.5, 0.25), clip=(-0.5, 0.5), on_step=lambda k, x: seen.append((k, x))
    )
    assert [k for k, _ in seen] == [0, 1]
    np.testing.assert_array_equal(seen[0][1], x)
    assert np.abs(found).max() <= 0.5


@given(st.lists(st.floats(0.01, 80), min_size=1, max_size=4, unique=True))
def test_an_exact_consistency_model_keeps_the_spread_of_the_data_at_every_level(levels: list[float]) -> None:
    sigmas = [*sorted(levels, reverse=True), 0.002]
    x = (sigmas[0] ** 2 + SPREAD**2) ** 0.5 * images(1, 1, 32, 32)
    noise = images(len(levels) - 1, 1, 1, 32, 32, seed=1)
    found = consistency.sample(lambda x, sigma: along_the_path(x, sigma, 0.002), x, sigmas, noise)
    assert np.std(found) == pytest.approx(SPREAD, rel=0.15)


def test_a_chain_can_be_left_at_a_noise_level() -> None:
    x, noise = images(1, 1, 4, 4), images(2, 1, 1, 4, 4, seed=1)
    steps: list[Any] = []
    found = consistency.sample(
        lambda x, sigma: 0.5 * x, x, (9.0, 5.0, 3.0), noise, sigma_min=0.5, on_step=lambda *step: steps.append(step)
    )
    np.testing.assert_allclose(steps[1][1], 0.5 * x + (25 - 0.25) ** 0.5 * noise[0])
    np.testing.assert_allclose(found, steps[1][2] + (9 - 0.25) ** 0.5 * noise[1])
    assert [k for k, *_ in steps] == [0, 1]


def test_every_estimate_and_the_result_keep_to_the_bounds() -> None:
    x, noise = 9 * images(1, 1, 4, 4), images(2, 1, 1, 4, 4, seed=1)
    estimates: list[Any] = []
    found = consistency.sample(
        lambda x, sigma: x, x, (9.0, 5.0, 3.0), noise, clip=(-1, 1), on_step=lambda k, x, clean: estimates.append(clean)
    )
    assert max(np.abs(image).max() for image in (*estimates, found)) <= 1


def test_a_single_step_needs_no_noise() -> None:
    x = images(1, 1, 4, 4)
    np.testing.assert_array_equal(consistency.sample(gaussian, x, (80.0, 0.002)), gaussian(x, 80.0))


def test_numpy_and_torch_walk_the_same_paths() -> None:
    torch = pytest.importorskip("torch")
    x, noise = 3 * images(2, 3, 8, 8), images(2, 2, 3, 8, 8, seed=1)
    denoise = Preconditioning(boundary=True).denoiser(wiggly)
    sigmas = consistency.multistep_sigmas((0, 8, 17), 18)
    kinds = [(x, noise), (torch.from_numpy(x), torch.from_numpy(noise))]
    here, there = (consistency.sample(denoise, start, sigmas, draws) for start, draws in kinds)
    np.testing.assert_allclose(here, there, rtol=1e-12)
    for step in (consistency.euler_step, consistency.heun_step, consistency.dpm_step):
        here, there = (consistency.integrate(denoise, start, karras_sigmas(6), step) for start, _ in kinds)
        np.testing.assert_allclose(here, there, rtol=1e-12)


def test_sampling_can_be_traced_for_export() -> None:
    torch = pytest.importorskip("torch")

    class Sampler(torch.nn.Module):
        def forward(self, x: Any, noise: Any, sigma: Any) -> Any:
            denoise = Preconditioning(boundary=True).denoiser(wiggly)
            return consistency.sample(denoise, x, (2.0, 0.5, 0.002), noise) + denoise(x, sigma)

    arguments = (torch.randn(2, 3, 8, 8), torch.randn(1, 2, 3, 8, 8), torch.tensor(0.7))
    batch = torch.export.Dim("batch", min=2, max=64)
    traced = torch.export.export(Sampler(), arguments, dynamic_shapes=({0: batch}, {1: batch}, None))
    more = (torch.randn(5, 3, 8, 8), torch.randn(1, 5, 3, 8, 8), torch.tensor(0.3))
    torch.testing.assert_close(traced.module()(*more), Sampler()(*more))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_teachers_pair_lies_on_its_path_and_a_pair_without_one_shares_its_noise(library: str) -> None:
    clean, noise, index = images(3, 1, 4, 4), images(3, 1, 4, 4, seed=1), np.array([0, 30, 78])
    if library == "torch":
        torch = pytest.importorskip("torch")
        clean, noise, index = (torch.from_numpy(array) for array in (clean, noise, index))
    grid = karras_sigmas(80)
    taught, alone = pair(clean, noise, grid, index, gaussian), pair(clean, noise, grid, index)
    np.testing.assert_allclose(taught.x_next, along_the_path(taught.x, taught.sigma, taught.sigma_next), rtol=1e-3)
    np.testing.assert_array_equal(alone.x, taught.x)
    for k, i in enumerate((0, 30, 78)):
        np.testing.assert_allclose(alone.x[k], clean[k] + float(grid[i]) * noise[k])
        np.testing.assert_allclose(alone.x_next[k], clean[k] + float(grid[i + 1]) * noise[k])


@given(curricula, st.floats(0, 1), st.floats(0, 1))
def test_a_curriculum_only_grows_finer_and_its_target_slower(one: Curriculum, early: float, late: float) -> None:
    early, late = sorted((early, late))
    assert one.end is not None
    assert one.start <= one.points(early) <= one.points(late) <= one.end + 1
    assert one.target_decay(early) <= one.target_decay(late) < 1


@pytest.mark.parametrize("kind", [kind for kind in WEIGHTS if kind != "gap"])
def test_a_weight_is_of_the_kind_of_its_level(kind: str) -> None:
    torch = pytest.importorskip("torch")
    sigma = np.array([0.1, 3.0], np.float32)
    found = loss_weight(sigma, kind)
    assert found.dtype == np.float32
    np.testing.assert_allclose(loss_weight(torch.from_numpy(sigma), kind), found)
    np.testing.assert_allclose([loss_weight(float(s), kind) for s in sigma], found, rtol=1e-6)


def test_the_weight_of_a_gap_is_of_two_levels_alone() -> None:
    with pytest.raises(ValueError, match="pair of noise levels"):
        loss_weight(1.0, "gap")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Preconditioning(sigma_data=0.0), "sigma_data"),
        (lambda: Preconditioning(sigma_min=2.0, sigma_max=1.0), "sigma_min"),
        (lambda: karras_sigmas(0), "at least one point"),
        (lambda: consistency.multistep_sigmas((0, 40), 40), "rising within 0..39"),
        (lambda: consistency.multistep_sigmas((0, 5, 5), 40), "rising"),
        (lambda: consistency.multistep_sigmas((-1, 5), 40), "rising"),
        (lambda: consistency.sample(gaussian, images(1, 1, 2, 2), (80.0,)), "one to end at"),
        (lambda: loss_weight(1.0, "snr2"), "truncated-snr"),
        (lambda: Curriculum(1), "2 points"),
        (lambda: Curriculum(20, 10), "2 points"),
        (lambda: Curriculum(decay=1.0), "decay"),
    ],
)
def test_nonsense_is_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)
