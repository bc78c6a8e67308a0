from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.diffusion import purify
from restonnx.diffusion.blurs import Blur, CircularBlur, gaussian_kernel
from restonnx.diffusion.consistency import euler_step, integrate
from restonnx.diffusion.data_consistency import (
    adam,
    conjugate_gradient,
    descend,
    proximal,
    pull_from,
    rho_from,
    smooth_fit,
    step_from,
)
from restonnx.diffusion.dcdp import STYLES, dcdp, falling_levels, purify_latent, purify_reencoded, time_schedule
from restonnx.diffusion.operators import CustomOperator, Identity, Mask, box_mask
from restonnx.diffusion.resizing import Downsample

ABAR = purify.linear_abar()


def values(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def smooth(*shape: int, seed: int = 0) -> Any:
    """Images with values of about 0.5, of which a blur loses little."""
    return CircularBlur(gaussian_kernel(9, 2.0)).forward(values(*shape, seed=seed)) * 4


def gaussian_prior(mean: Any, variance: float) -> Callable[[Any, Any], Any]:
    """The exact denoiser of images that are normal around `mean`."""
    return lambda x, sigma: (variance * x + sigma**2 * mean) / (variance + sigma**2)


# Data consistency


@pytest.mark.parametrize("fit", ["descend", "adam", "proximal"])
def test_neither_the_batch_nor_the_size_of_the_image_changes_a_fit(fit: str) -> None:
    kernel, start = gaussian_kernel(5, 1.0), 0.0 * values(1, 1, 16, 16)
    y = smooth(1, 1, 16, 16)
    large, many = np.tile(y, (1, 1, 2, 3)), np.concatenate([y, values(1, 1, 16, 16, seed=1), 2 * y])

    def fitted(measured: Any) -> Any:
        begin, operator = np.zeros_like(measured), CircularBlur(kernel)
        if fit == "descend":
            return descend(operator, measured, begin, steps=7, step=0.5)
        if fit == "adam":
            return adam(operator, measured, begin, steps=7, learning_rate=0.05)
        pair = CustomOperator(operator.forward, operator.adjoint)  # no closed form
        return proximal(pair, measured, begin, 0.01, iterations=7)

    np.testing.assert_allclose(fitted(large)[..., :16, :16], fitted(y), atol=2e-5)
    np.testing.assert_allclose(fitted(many)[:1], fitted(y), atol=2e-5)
    assert np.abs(fitted(y) - start).max() > 0.1


def test_a_published_learning_rate_becomes_the_same_step_at_every_size() -> None:
    # 1000 for 3 x 64 x 64 measured values; the gradient of a mean is 2 / M that of half a sum.
    assert step_from(1000, values(1, 3, 64, 64)) == pytest.approx(0.1628, abs=1e-4)
    assert step_from(1000, values(5, 3, 64, 64)) == step_from(1000, values(1, 3, 64, 64))
    y, start = values(1, 3, 8, 8), values(1, 3, 16, 16, seed=1)
    weight, rate = 0.7, 3.0
    operator = Downsample(2)
    residual = operator.forward(start) - y
    after_one = start - rate * 2 / y.size * operator.adjoint(residual)
    after_two = after_one - rate * (
        2 / y.size * operator.adjoint(operator.forward(after_one) - y) + weight * 2 / start.size * (after_one - start)
    )
    options = {"step": step_from(rate, y), "momentum": 0.0, "pull": pull_from(weight, y, start)}
    np.testing.assert_allclose(descend(operator, y, start, steps=2, **options), after_two, atol=1e-6)


def test_momentum_and_adam_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    y, start = torch.from_numpy(values(1, 2, 6, 6)), torch.from_numpy(values(1, 2, 12, 12, seed=1))
    operator = Downsample(2)
    x = start.clone().requires_grad_()
    for optimiser in (torch.optim.SGD([x], lr=20.0, momentum=0.8), torch.optim.Adam([x], lr=0.03)):
        with torch.no_grad():
            x.copy_(start)
        for _ in range(9):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(operator.forward(x), y).backward()
            optimiser.step()
        if isinstance(optimiser, torch.optim.SGD):
            found = descend(operator, y, start, steps=9, step=step_from(20.0, y), momentum=0.8)
        else:
            found = adam(operator, y, start, steps=9, learning_rate=0.03, eps=1e-8 / step_from(1, y))
        np.testing.assert_allclose(found, x.detach(), atol=1e-5)


@pytest.mark.parametrize("fit", [descend, adam])
def test_the_descent_stops_for_each_sample_where_the_noise_explains_the_residual(fit: Any) -> None:
    sigma, noise = 0.1, values(2, 1, 24, 24, seed=1)
    clean = np.concatenate([smooth(1, 1, 24, 24), np.zeros((1, 1, 24, 24), np.float32)])
    y = clean + sigma * noise / np.sqrt((noise**2).mean((1, 2, 3), keepdims=True)) * np.float32(0.999)
    done: list[int] = []
    options: dict[str, Any] = {"step": 0.2, "momentum": 0.0} if fit is descend else {"learning_rate": 0.05}
    x = fit(Identity(), y, 0 * y, steps=300, noise_level=sigma, on_step=lambda step, x: done.append(step), **options)
    assert 1 < len(done) < 100
    assert np.sqrt(((x - y)[0] ** 2).mean()) <= sigma
    assert np.sqrt(((x - y)[0] ** 2).mean()) > 0.5 * sigma  # it stopped as soon as it could
    np.testing.assert_array_equal(x[1], 0 * y[1])  # zeros explained the second sample already


@given(st.floats(0.05, 5), st.integers(0, 99))
def test_conjugate_gradients_find_the_closed_form(rho: float, seed: int) -> None:
    blur = CircularBlur(np.abs(values(5, 3, seed=seed)) / 5)
    v, y = values(2, 1, 12, 14, seed=seed), values(2, 1, 12, 14, seed=seed + 1)
    found = conjugate_gradient(blur, y, v, rho, iterations=60, tolerance=1e-6)
    np.testing.assert_allclose(found, blur.proximal(y, v, rho), atol=2e-4)
    assert found.dtype == np.float32


@pytest.mark.parametrize("gain", [1e-3, 1.0, 1e3])
def test_a_first_image_fills_what_is_missing_smoothly_whatever_the_units_of_the_operator(gain: float) -> None:
    rows, cols = np.mgrid[:24, :20].astype(np.float32)
    ramps = np.stack([rows / 24, 1 - cols / 20])[None]
    mask = Mask(gain * box_mask(24, 20, 8, 14, 6, 12))
    found = smooth_fit(mask, mask.forward(ramps), iterations=100)
    np.testing.assert_allclose(found, ramps, atol=0.02)
    np.testing.assert_array_equal(smooth_fit(mask, 0 * ramps), 0 * ramps)


def test_a_first_image_is_the_same_in_torch() -> None:
    torch = pytest.importorskip("torch")
    y = np.random.default_rng(0).random((2, 3, 6, 5)).astype(np.float32)
    found = smooth_fit(Downsample(4), torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(found, smooth_fit(Downsample(4), y), atol=1e-4)


def test_a_fit_that_is_perfect_already_stays_finite() -> None:
    v = np.concatenate([values(1, 1, 8, 8), np.zeros((1, 1, 8, 8), np.float32)])
    operator = Blur(gaussian_kernel(3, 1.0))
    for rho in (0.0, 1.0):
        np.testing.assert_allclose(conjugate_gradient(operator, operator.forward(v), v, rho), v, atol=1e-6)


# Purification


def test_a_denoiser_and_an_eps_network_are_two_forms_of_one_prior() -> None:
    denoise = gaussian_prior(0.3, 0.5)
    eps = purify.eps_from(denoise, ABAR)
    again = purify.denoiser_from(eps, ABAR)
    x, sigmas = values(1, 1, 6, 6), purify.sigmas_of(ABAR)
    for t in (0, 10, 500, 999):
        np.testing.assert_allclose(again(x, float(sigmas[t])), denoise(x, float(sigmas[t])), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", [1, 2, 40, 400])
def test_one_step_of_ddim_tweedie_and_a_denoiser_agree(level: int) -> None:
    denoise, sigma = gaussian_prior(0.1, 0.3), float(purify.sigmas_of(ABAR)[level - 1])
    eps = purify.eps_from(denoise, ABAR)
    x, noise = values(2, 1, 6, 6), values(2, 1, 6, 6, seed=1)
    by_tweedie = purify.Tweedie(eps, ABAR)(x, noise, level)
    np.testing.assert_allclose(purify.Ddim(eps, ABAR, 1)(x, noise, level), by_tweedie, atol=1e-5)
    np.testing.assert_allclose(purify.Denoised(denoise)(x, noise, sigma), by_tweedie, atol=1e-5)


def test_ddim_is_the_probability_flow_of_the_denoiser() -> None:
    denoise, level = gaussian_prior(0.1, 0.3), 400
    eps, sigmas = purify.eps_from(denoise, ABAR), purify.sigmas_of(ABAR)
    x, noise = values(1, 1, 6, 6), values(1, 1, 6, 6, seed=1)
    found = purify.Ddim(eps, ABAR, 10, clip=None)(x, noise, level)
    path = [float(sigmas[t]) for t in reversed(purify.ddim_indices(level, 10))] + [0.0]
    np.testing.assert_allclose(found, integrate(denoise, x + path[0] * noise, path, euler_step), atol=1e-5)


def test_several_steps_of_a_denoiser_come_closer_to_the_probability_flow() -> None:
    # For a normal prior the flow scales the deviation from the mean by sqrt(variance / (variance + sigma^2)).
    denoise, x, noise, sigma = gaussian_prior(0.0, 0.25), values(1, 1, 8, 8), values(1, 1, 8, 8, seed=1), 1.5
    exact = (x + sigma * noise) * (0.25 / (0.25 + sigma**2)) ** 0.5
    errors = [np.abs(purify.Denoised(denoise, None, steps)(x, noise, sigma) - exact).max() for steps in (1, 4, 40)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_at_level_one_the_published_code_removes_noise_of_another_index_than_it_added() -> None:
    asked: list[int] = []

    def eps(x: Any, t: int) -> Any:
        asked.append(t)
        return 0 * x

    x = values(1, 1, 4, 4)
    for official in (False, True):
        purify.Ddim(eps, ABAR, 20, t1_from_index_1=official)(x, x, 1)
        purify.Tweedie(eps, ABAR, t1_from_index_1=official)(x, x, 1)
    assert asked == [0, 0, 1, 0, 1]


@given(st.integers(1, 1000), st.integers(1, 60))
def test_ddim_goes_down_from_where_the_noise_was_added(level: int, steps: int) -> None:
    indices = purify.ddim_indices(level, steps)
    assert len(indices) == min(level, steps)
    assert indices == sorted(set(indices))
    assert indices[-1] == level - 1
    assert indices[0] == 0 or len(indices) == 1


# The loop


@given(st.integers(2, 60), st.integers(60, 1000), st.integers(0, 60), st.sampled_from(STYLES[:-1]))
def test_a_schedule_runs_from_the_first_to_the_last_level(rounds: int, first: int, last: int, style: str) -> None:
    levels = time_schedule(rounds, first, last, style)
    assert len(levels) == rounds
    assert levels[0] == first
    assert levels[-1] == max(last, 1)
    assert (levels >= 1).all()
    if style != "reverse_cosine":
        assert (np.diff(levels) <= 0).all()


def test_an_impossible_schedule_is_refused() -> None:
    for arguments, match in (
        ((0, 400, 0), "rounds must be"),
        ((401, 400, 0), "rounds must be"),
        ((10, 400, 500), "last level"),
        ((10, 400, 0, "quadratic"), "bias_t1"),
    ):
        with pytest.raises(ValueError, match=match):
            time_schedule(*arguments)  # type: ignore[arg-type]


def test_the_loop_alternates_and_returns_both_ends_of_the_last_round() -> None:
    calls: list[Any] = []

    def fit(v: Any, k: int) -> Any:
        calls.append(("fit", k, v))
        return v + 1

    def purified(x: Any, noise: Any, level: float) -> Any:
        calls.append(("purify", level, x))
        return x + noise

    seen: list[Any] = []
    result = dcdp(0.0, fit, purified, [0.5, 0.25], [10.0, 20.0], on_step=lambda *step: seen.append(step))
    assert calls == [("fit", 0, 0.0), ("purify", 0.5, 1.0), ("fit", 1, 11.0), ("purify", 0.25, 12.0)]
    assert seen == [(0, 1.0, 11.0), (1, 12.0, 32.0)]
    assert (result.consistent, result.purified) == (12.0, 32.0)
    with pytest.raises(ValueError, match="shorter"):
        dcdp(0.0, fit, purified, [0.5, 0.25], [10.0])


@pytest.mark.parametrize("kind", ["descend", "proximal"])
def test_the_loop_inpaints_with_an_exact_prior(kind: str) -> None:
    clean = smooth(2, 1, 24, 24)
    mask = Mask(box_mask(24, 24, 6, 16, 4, 20))
    y = mask.forward(clean)
    denoise, levels = gaussian_prior(clean + 0.01, 1e-3), [2.0, 1.0, 0.5, 0.1, 0.02]

    def fit(v: Any, k: int) -> Any:
        if kind == "descend":
            return descend(mask, y, v, steps=30, step=0.2)
        return proximal(mask, y, v, rho_from(1e-3, levels[max(k - 1, 0)]))

    noise = [values(2, 1, 24, 24, seed=seed) for seed in range(5)]
    result = dcdp(np.zeros_like(clean), fit, purify.Denoised(denoise, None), levels, noise)
    np.testing.assert_allclose(result.consistent, clean, atol=0.08)
    np.testing.assert_allclose(result.purified, clean, atol=0.12)
    # The exact prior does not know the measurement, so the measured pixels are better before the last purification.
    known = mask.mask[None, None].repeat(2, 0) == 1
    assert np.abs(result.consistent - clean)[known].max() < 5e-3


def test_both_latent_loops_are_the_pixel_loop_where_the_autoencoder_is_a_change_of_scale() -> None:
    y, noise = smooth(1, 1, 12, 12), [values(1, 1, 12, 12, seed=seed) for seed in range(3)]
    blur, levels = Blur(gaussian_kernel(5, 1.0)), [1.0, 0.4, 0.1]
    purified = purify.Denoised(gaussian_prior(0.0, 0.3), None)

    def fit(v: Any, k: int) -> Any:
        return descend(blur, y, v, steps=10, step=0.5)

    expected = dcdp(0 * y, fit, purified, levels, noise).purified
    around: dict[str, Any] = {"encode": lambda x: x[..., ::-1], "decode": lambda z: z[..., ::-1]}
    flipped = [drawn[..., ::-1] for drawn in noise]
    in_pixels = dcdp(0 * y, fit, purify_latent(purified, **around), levels, flipped).purified
    np.testing.assert_allclose(in_pixels, expected, atol=1e-6)
    again = dcdp(0 * y, fit, purify_reencoded(purified, **around), levels, noise).purified
    np.testing.assert_allclose(again, expected, atol=1e-6)


def test_numpy_and_torch_walk_the_same_loop() -> None:
    torch = pytest.importorskip("torch")
    y, noise = values(2, 3, 6, 6), values(3, 2, 3, 24, 24, seed=1)
    eps = purify.eps_from(gaussian_prior(0.2, 0.3), ABAR)
    levels = [int(level) for level in time_schedule(3, 400, 0)]
    results = []
    for library in (np.asarray, torch.from_numpy):
        measured, drawn = library(y), library(noise)

        def fit(v: Any, k: int, measured: Any = measured) -> Any:
            if k == 1:
                return adam(Downsample(4), measured, v, steps=5, learning_rate=0.1, noise_level=0.1)
            if k == 2:
                return proximal(Downsample(4), measured, v, 0.1)
            return descend(Downsample(4), measured, v, steps=5, step=1.0, pull=0.1, noise_level=0.1)

        results.append(dcdp(0 * drawn[0], fit, purify.Ddim(eps, ABAR, 5), levels, drawn))
    np.testing.assert_allclose(results[0].consistent, results[1].consistent, atol=1e-4)
    np.testing.assert_allclose(results[0].purified, results[1].purified, atol=1e-4)
    assert results[0].purified.dtype == np.float32


@pytest.mark.parametrize("kind", ["descend", "adam", "proximal"])
def test_the_loop_with_its_operator_can_be_exported(kind: str) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 1, 3, padding=1)

    class Chain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, measured: Any, kernel: Any, noise: Any) -> Any:
            operator = Blur(kernel)

            def fit(v: Any, k: int) -> Any:
                if kind == "descend":
                    return descend(operator, measured, v, steps=2, step=0.5, noise_level=0.01)
                if kind == "adam":
                    return adam(operator, measured, v, steps=2, learning_rate=0.1, pull=0.1)
                return proximal(operator, measured, v, 0.1, iterations=2)

            purified = purify.Ddim(lambda x, t: self.network(x), ABAR, 2)
            drawn = noise.unbind(1)
            return dcdp(torch.zeros_like(measured), fit, purified, [300, 1], drawn).purified

    inputs = (
        torch.from_numpy(values(2, 1, 16, 16)),
        torch.from_numpy(gaussian_kernel(5, 1.0)),
        torch.from_numpy(values(2, 2, 1, 16, 16, seed=1)),
    )
    with torch.no_grad():
        program = torch.export.export(
            Chain(), inputs, dynamic_shapes=({0: torch.export.Dim("N")}, None, {0: torch.export.Dim("N")})
        )
        np.testing.assert_allclose(program.module()(*inputs), Chain()(*inputs), atol=1e-5)


def test_levels_fall_by_the_same_factor_to_the_noise_of_each_sample() -> None:
    levels = falling_levels(4, 0.8, 0.05, np.float64(0.1))
    np.testing.assert_allclose(levels, np.geomspace(0.8, 0.1, 4))
    several = falling_levels(4, 0.8, 0.05, np.array([0.0, 0.1, 3.0]))
    np.testing.assert_allclose(several, np.stack([np.geomspace(0.8, last, 4) for last in (0.05, 0.1, 0.8)], 1))
    np.testing.assert_allclose(falling_levels(1, 0.8, 0.05, np.float64(0.1)), [0.8])
    assert falling_levels(2, 0.01, 0.05, np.float64(0.1)) == [0.01, 0.01]
