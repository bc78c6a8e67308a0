"""A picture follows its pixels: alpha, resolution, depth."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from restonnx.errors import InputError
from restonnx.images import Picture, Resolution
from restonnx.images.picture import to_depth


@given(hnp.arrays(np.uint8, (3, 4)))
def test_eight_bits_survive_every_wider_dtype(values: np.ndarray) -> None:
    for wide in (np.uint16, np.uint32, np.float32, np.float64):
        np.testing.assert_array_equal(to_depth(to_depth(values, wide), np.uint8), values)


@given(hnp.arrays(np.uint16, (3, 4)))
def test_sixteen_bits_become_the_nearest_of_eight(values: np.ndarray) -> None:
    error = to_depth(values, np.uint8).astype(float) * 257 - values
    assert np.abs(error).max() <= 257 / 2


def test_floats_are_clipped_where_integers_are_wanted_and_kept_where_floats_are() -> None:
    values = np.array([-0.5, 0.5, 1.5])
    np.testing.assert_array_equal(to_depth(values, np.uint8), [0, 128, 255])
    np.testing.assert_array_equal(to_depth(values, np.float32), values.astype(np.float32))


@given(zoom=st.integers(1, 4), height=st.integers(1, 6), width=st.integers(1, 6))
def test_replacing_the_pixels_is_enough_for_any_zoom(zoom: int, height: int, width: int) -> None:
    alpha = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    resolution = Resolution(Fraction(300), Fraction(150), "inch")
    picture = Picture(np.zeros((height, width, 3), np.uint16), "YXS", alpha, resolution=resolution)
    larger = replace(picture, pixels=np.ones((height * zoom, width * zoom, 3), np.uint16))
    samples, axes = larger.with_alpha()
    assert axes == "YXS"
    np.testing.assert_array_equal(samples[..., 3], alpha.repeat(zoom, 0).repeat(zoom, 1))
    assert larger.fitted_resolution() == Resolution(Fraction(300 * zoom), Fraction(150 * zoom), "inch")
    assert picture.fitted_resolution() == resolution


def test_the_alpha_of_a_planar_stack_finds_its_plane() -> None:
    alpha = np.arange(2 * 5 * 6, dtype=np.uint8).reshape(2, 5, 6)
    samples, axes = Picture(np.zeros((2, 3, 5, 6), np.uint8), "ZSYX", alpha).with_alpha()
    assert (axes, samples.shape) == ("ZYXS", (2, 5, 6, 4))
    np.testing.assert_array_equal(samples[..., 3], alpha)


def test_a_last_axis_c_is_colour_and_one_before_the_pixels_is_not() -> None:
    assert Picture(np.zeros((5, 6, 3)), "YXC").color_axis == 2
    assert Picture(np.zeros((3, 5, 6)), "CYX").color_axis is None


@pytest.mark.parametrize("axes", ["YXS", "Y", "ZT"])
def test_axes_that_do_not_fit_are_refused(axes: str) -> None:
    with pytest.raises(InputError, match="do not fit pixels of shape"):
        Picture(np.zeros((5, 6)), axes)


def test_resolutions_are_the_same_in_every_unit() -> None:
    assert Resolution(Fraction(100), Fraction(100), "centimeter").per("inch") == (254, 254)
    assert Resolution(Fraction(254), Fraction(254), "inch").per("meter") == (10_000, 10_000)
    assert Resolution(Fraction(1), Fraction(2), "none").per("inch") is None
