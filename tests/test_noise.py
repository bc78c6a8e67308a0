"""Noise keyed by place: windows agree, keys are independent, values are standard normal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx import noise
from restonnx.errors import InputError

starts = st.integers(0, 200)
lengths = st.integers(1, 150)


@given(top=starts, left=starts, height=lengths, width=lengths)
def test_a_window_is_the_same_however_it_is_cut(top: int, left: int, height: int, width: int) -> None:
    whole = noise.normal(7, 1, 2, slice(0, 350), slice(0, 350), plane=3, sample=1)
    window = noise.normal(7, 1, 2, slice(top, top + height), slice(left, left + width), plane=3, sample=1)
    assert np.array_equal(window, whole[:, :, top : top + height, left : left + width])


def test_draws_may_be_taken_in_part() -> None:
    window = slice(10, 90), slice(0, 64)
    assert np.array_equal(noise.normal(1, range(2, 5), 3, *window), noise.normal(1, 6, 3, *window)[2:5])
    assert noise.normal(1, 0, 3, *window).shape == (0, 3, 80, 64)


def test_the_first_channels_do_not_depend_on_how_many_are_drawn() -> None:
    window = slice(0, 70), slice(60, 70)
    assert np.array_equal(noise.normal(1, 2, 1, *window), noise.normal(1, 2, 3, *window)[:, :1])


def test_values_are_standard_normal() -> None:
    values = noise.normal(0, 2, 3, slice(0, 512), slice(0, 512)).ravel().astype(float)
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / values.size)
    assert abs((values**3).mean()) < 4 * np.sqrt(15 / values.size)
    assert abs((values**4).mean() - 3) < 4 * np.sqrt(96 / values.size)


def test_values_lie_symmetric_about_zero_and_as_far_as_the_normal_distribution_reaches() -> None:
    values = np.sort(noise.normal(0, 2, 3, slice(0, 512), slice(0, 512)).ravel())
    np.testing.assert_allclose(np.unique(np.abs(values)), np.unique(values[values > 0]), rtol=0)
    for sigmas, share in [(1, 0.15866), (2, 0.02275), (3, 0.00135), (4, 0.0000317)]:
        beyond = values.size * share
        assert abs(np.count_nonzero(values > sigmas) - beyond) < 4 * np.sqrt(beyond)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"sample": 1},
        {"plane": 1},
        {"draws": range(1, 2)},
        {"rows": slice(64, 128)},
        {"cols": slice(64, 128)},
        {"rows": slice(64 * 2**20, 64 * 2**20 + 64)},
        {"seed": 2**63 - 1},
    ],
    ids=str,
)
def test_another_key_is_independent_noise(other: dict[str, object]) -> None:
    base: dict[str, object] = {
        "seed": 0,
        "draws": 1,
        "channels": 4,
        "rows": slice(0, 64),
        "cols": slice(0, 64),
    }
    first = noise.normal(**base).ravel()  # type: ignore[arg-type]
    second = noise.normal(**{**base, **other}).ravel()  # type: ignore[arg-type]
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(first.size)


def test_rows_channels_and_columns_are_independent_of_each_other() -> None:
    values = noise.normal(0, 1, 3, slice(0, 256), slice(0, 256))[0]
    bound = 5 / np.sqrt(256 * 256)
    assert abs(np.corrcoef(values[0].ravel(), values[1].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(values[0, :-1].ravel(), values[0, 1:].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(values[0, :, :-1].ravel(), values[0, :, 1:].ravel())[0, 1]) < bound


def test_a_seed_gives_the_same_noise_in_every_release() -> None:
    values = noise.normal(2026, 2, 2, slice(100, 102), slice(63, 65), plane=5, sample=2)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[1, 1].ravel(), GOLDEN, atol=1e-6)


GOLDEN = [-0.6031665, 0.7948911, -1.0727204, 0.5065089]


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "1"])
def test_a_seed_out_of_range_is_refused(seed: object) -> None:
    with pytest.raises(InputError, match=r"seed must be an integer from 0 to 2\*\*63 - 1"):
        noise.normal(seed, 1, 1, slice(0, 1), slice(0, 1))  # type: ignore[arg-type]
