"""Means of the colours: what is mended of a restored frame, and what is left to the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from raw_files import photograph, with_noise

from restonnx.isp.means import with_means_of
from restonnx.isp.strips import VALUES, by_rows, strips

A, B = 1e-3, 1e-5
ALL = np.ones((192, 256), np.bool_)


@pytest.fixture(scope="module")
def clean() -> Any:
    return photograph(*ALL.shape) ** 2


@pytest.fixture(scope="module")
def noisy(clean: Any) -> Any:
    return with_noise(clean, A, B)


def too_dark(image: Any) -> Any:
    """As a model makes the dark that has learnt from less noise."""
    return image - 1e-3


def colour_means(image: Any) -> Any:
    return image.mean((0, 1), dtype=np.float64)


def mended(noisy: Any, restored: Any, **options: Any) -> Any:
    return with_means_of(noisy, restored.astype(np.float32), ALL, None, "model", **options)


def test_what_is_too_dark_in_the_dark_is_mended_there_and_not_in_the_bright(clean: Any, noisy: Any) -> None:
    dark = clean < np.quantile(clean, 0.2)
    result, scaled = mended(noisy, too_dark(clean)), mended(noisy, too_dark(clean), offset=False)
    for image in (result, scaled):
        assert colour_means(image) == pytest.approx(colour_means(noisy), rel=1e-5)
    assert abs((result - clean)[dark].mean()) < 1e-4
    assert abs((scaled - clean)[dark].mean()) > 5e-4, "a gain cannot do it"


def test_an_image_that_is_right_keeps_its_black(clean: Any, noisy: Any) -> None:
    result = mended(noisy, clean)
    gain = colour_means(noisy) / colour_means(clean)
    assert result == pytest.approx(clean * gain, abs=1e-7)


def test_contrast_that_a_model_means_to_change_is_left_to_it(clean: Any, noisy: Any) -> None:
    hazy = 0.8 * noisy + 0.04
    hazy[0, 0] = -0.01  # as a sensor that keeps its noise
    result = mended(hazy, clean)
    gain = colour_means(hazy) / colour_means(clean)
    assert result == pytest.approx(clean * gain, abs=1e-5), "without the haze"


def test_where_noise_below_black_was_cut_off_the_dark_is_not_lifted_to_it(clean: Any, noisy: Any) -> None:
    cut = np.maximum(noisy, 0)
    dark = clean < np.quantile(clean, 0.2)
    assert (cut - clean)[dark].mean() > 1e-3
    assert abs((mended(cut, clean) - clean)[dark].mean()) < 1e-4


@pytest.mark.parametrize("shape", [(1030, 256), (40, 9), (9, 40)])
def test_images_of_any_size_keep_their_means(shape: tuple[int, int]) -> None:
    given = with_noise(np.full((*shape, 3), 0.05, np.float32), 4e-3, 4e-4)
    assert given.min() < 0
    result = with_means_of(given, np.full_like(given, 0.04), np.ones(shape, np.bool_), None, "model")
    assert colour_means(result) == pytest.approx(colour_means(given), rel=1e-5)


def test_strips_cover_an_array_once_in_whole_periods() -> None:
    image = np.zeros((1000, 1500), np.bool_)
    found = list(strips(image, multiple=6))
    assert [part.start for part in found[1:]] == [part.stop for part in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, 1000)
    assert len(found) > 3
    assert all((part.stop - part.start) % 6 == 0 for part in found[:-1])
    assert found[0].stop * 1500 <= VALUES
    wide = np.arange(2 * VALUES * 3, dtype=np.float32).reshape(3, -1)
    assert np.array_equal(by_rows(np.sqrt, wide), np.sqrt(wide))
    assert by_rows(np.sqrt, wide, out=wide) is wide
