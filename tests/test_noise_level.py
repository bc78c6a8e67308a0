"""The noise level of an image from the image alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.noise_level import estimate


def noisy(height: int, width: int, sigma: float, seed: int = 0) -> np.ndarray:
    """(1, height, width): a ramp and an edge under noise."""
    ramp = np.linspace(0, 100, width)[None] + np.linspace(0, 50, height)[:, None]
    ramp[height // 2 :] += 80
    return (ramp + np.random.default_rng(seed).normal(0, sigma, ramp.shape))[None]


@given(height=st.integers(5, 70), width=st.integers(5, 70), sigma=st.floats(0.1, 50))
def test_it_is_what_scikit_image_estimates(height: int, width: int, sigma: float) -> None:
    pytest.importorskip("pywt")
    from skimage.restoration import estimate_sigma

    image = noisy(height, width, sigma)
    assert estimate(image) == pytest.approx(estimate_sigma(image[0]), rel=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 5, 50])
def test_it_finds_the_noise_under_ramps_and_edges(sigma: float) -> None:
    assert estimate(noisy(200, 300, sigma)) == pytest.approx(sigma, rel=0.05)


def test_channels_have_one_noise_level_their_median() -> None:
    image = np.concatenate([noisy(100, 100, sigma) for sigma in (1, 9, 4)])
    assert estimate(image) == estimate(image[2:])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 9), (1, 2, 3), (1, 64, 64)])
def test_an_image_without_detail_has_no_noise(shape: tuple[int, ...]) -> None:
    assert estimate(np.full(shape, 7, np.float32)) < 1e-9
    assert estimate(np.random.default_rng(0).random(shape, np.float32)) >= 0


def test_the_values_may_be_of_any_scale() -> None:
    image = noisy(80, 80, 3)
    assert estimate(image * 1000 - 5e4) == pytest.approx(1000 * estimate(image))
