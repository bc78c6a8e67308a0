"""PSNR, SSIM, colour difference and shift say what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx.training.evaluation.measures import Quality, fitted, mean, quality, rounded

RNG = np.random.default_rng(0)
PHOTOGRAPH = (
    (0.5 + 0.3 * np.sin(np.mgrid[:40, :56][0] / 6)[..., None] + 0.02 * RNG.standard_normal((40, 56, 3)))
    .astype(np.float32)
    .clip(0, 1)
)


def test_a_constant_error_has_the_psnr_of_its_square() -> None:
    found = quality(PHOTOGRAPH * 0 + np.float32(0.6), PHOTOGRAPH * 0 + np.float32(0.5))
    assert found.psnr == pytest.approx(20.0, abs=0.05)  # rounded to 8 bit
    assert found.low_frequency_shift == pytest.approx(25.5, abs=0.6)


def test_noise_is_an_error_but_hardly_a_shift_of_the_low_frequencies() -> None:
    noisy = (PHOTOGRAPH + 0.1 * RNG.standard_normal(PHOTOGRAPH.shape)).astype(np.float32)
    tinted = (PHOTOGRAPH * np.array([1.1, 1, 0.9])).astype(np.float32)
    of_noise, of_tint = quality(noisy, PHOTOGRAPH), quality(tinted, PHOTOGRAPH)
    assert of_noise.psnr < of_tint.psnr
    assert of_noise.low_frequency_shift < of_tint.low_frequency_shift / 4


def test_equal_colours_do_not_differ_and_grey_has_none() -> None:
    exact = (np.rint(PHOTOGRAPH * 255) / 255).astype(np.float32)
    assert quality(exact, exact).ciede2000 == pytest.approx(0, abs=1e-4)
    assert quality(exact[..., 0], exact[..., 0]).ciede2000 is None


def test_luma_is_that_of_published_tables_and_leaves_the_border_out() -> None:
    """A border that is wrong does not count, and Y spans 219 of 255 levels."""
    spoilt = PHOTOGRAPH.copy()
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 0, 0, 0
    assert quality(spoilt, PHOTOGRAPH, luma_border=4).psnr_y > 55
    brighter = quality(PHOTOGRAPH * 0.5 + np.float32(0.1), PHOTOGRAPH * 0.5, luma_border=4)
    assert brighter.psnr_y - brighter.psnr == pytest.approx(20 * np.log10(255 / 219), abs=0.05)
    gray = np.repeat(PHOTOGRAPH[..., :1], 3, axis=2) * 0.5
    of_gray = quality(gray + np.float32(0.1), gray, luma_border=4, gray=True)
    assert of_gray.psnr_y == pytest.approx(of_gray.psnr, abs=0.05)


@given(gain=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_gain_and_offset_do_not_count_where_the_scale_is_free(gain: float, offset: float) -> None:
    truth = PHOTOGRAPH[..., 0]
    noisy = truth + 0.05 * PHOTOGRAPH[::-1, :, 1]
    plain = quality(noisy, truth, free_scale=True)
    changed = quality((gain * noisy + offset).astype(np.float32), truth, free_scale=True)
    assert changed.psnr == pytest.approx(plain.psnr, abs=0.01)


def test_a_fit_never_makes_it_worse() -> None:
    truth = PHOTOGRAPH[..., 0]
    restored = 0.5 * truth + 0.3
    fit, scaled = fitted(restored, truth)
    np.testing.assert_allclose(fit, scaled, atol=1e-4)


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        quality(PHOTOGRAPH[1:], PHOTOGRAPH)


def test_a_mean_lacks_what_one_image_lacks() -> None:
    found = mean([Quality(30, 0.9, ciede2000=1), Quality(20, 0.7)])
    assert rounded(found) == {"psnr": 25.0, "ssim": 0.8}
