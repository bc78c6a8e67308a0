"""k-sigma and the generalised Anscombe transform: what the noise is after them, and that the way back is unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.isp.stabilise import KSigma, Stabiliser

PROFILES = [(1e-4, 1e-6), (1e-3, 4e-6), (4e-3, 4e-5), (1.2e-2, 2e-4), (0.0, 1e-4)]
LEVELS = [0.0, 0.001, 0.02, 0.5, 0.9]


def samples(a: float, b: float, x: float, count: int = 200_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    photons = a * rng.poisson(x / a, count) if a else np.full(count, x)
    return (photons + np.sqrt(b) * rng.standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize(("a", "b"), PROFILES)
@pytest.mark.parametrize("x", LEVELS)
def test_stabilised_noise_is_the_same_at_every_level(a: float, b: float, x: float) -> None:
    stabiliser = Stabiliser(a, b)
    assert stabiliser.forward(samples(a, b, x)).std() / stabiliser.sigma == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("a", "b"), PROFILES)
@pytest.mark.parametrize("x", LEVELS)
def test_the_inverse_of_the_mean_is_the_expectation_where_the_algebraic_one_is_biased(
    a: float, b: float, x: float
) -> None:
    stabiliser = Stabiliser(a, b)
    mean = stabiliser.forward(samples(a, b, x)).mean(keepdims=True)
    error = float(stabiliser.inverse(mean)[0]) - x
    assert abs(error) < 0.12 * np.sqrt(a * x + b) * 0.5 + 2e-5


def test_black_and_saturation_become_0_and_1() -> None:
    ends = np.array([0, 1], np.float32)
    for a, b in PROFILES:
        assert Stabiliser(a, b).forward(ends) == pytest.approx([0, 1], abs=1e-6)


def test_colours_of_different_noise_get_the_same_noise_from_one_span() -> None:
    span = max(Stabiliser(a, b).own_span for a, b in PROFILES[:2])
    for a, b in PROFILES[:2]:
        stabiliser = Stabiliser(a, b, span)
        assert stabiliser.sigma == 1 / span
        assert stabiliser.forward(samples(a, b, 0.3)).std() == pytest.approx(1 / span, rel=0.03)


@given(
    a=st.floats(1e-5, 1e-2), b=st.floats(1e-8, 1e-3), values=st.lists(st.floats(-0.05, 1.3), min_size=2, max_size=20)
)
def test_both_transforms_rise_and_k_sigma_is_inverted_exactly(a: float, b: float, values: list[float]) -> None:
    x = np.unique(np.array(values, np.float32))
    assert (np.diff(Stabiliser(a, b).forward(x)) >= 0).all()
    k_sigma = KSigma(a, b, (1e-3, 4e-6))
    assert k_sigma.inverse(k_sigma.forward(x)) == pytest.approx(x, abs=2e-4)


@pytest.mark.parametrize(("a", "b"), PROFILES[:4])
@pytest.mark.parametrize("x", [0.02, 0.5])
def test_k_sigma_gives_every_frame_the_noise_of_the_anchor(a: float, b: float, x: float) -> None:
    anchor = (1e-3, 3.2e-6)
    seen = KSigma(a, b, anchor).forward(samples(a, b, x)).astype(np.float64)
    assert seen.var() == pytest.approx(anchor[0] * seen.mean() + anchor[1], rel=0.02)


def test_k_sigma_is_what_pmrid_computes() -> None:
    """In its own numbers at ISO 3200: x / k + s / k^2 for both sensors, and back to ISO 1600."""

    def k(iso: float) -> float:
        return 0.0005995267 * iso + 0.00868861

    def s(iso: float) -> float:
        return 7.11772e-7 * iso**2 + 6.514934e-4 * iso + 0.11492713

    white, value = 959.0, np.float32(0.3)
    scaled = value * white / k(3200) + s(3200) / k(3200) ** 2
    expected = (scaled - s(1600) / k(1600) ** 2) * k(1600) / white
    profile = k(3200) / white, s(3200) / white**2
    anchor = k(1600) / white, s(1600) / white**2
    assert KSigma(*profile, anchor).forward(np.array([value]))[0] == pytest.approx(expected, rel=1e-5)
