"""The crops that a training sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')

from PIL import Image

from restonnx.training.data import Crops, load_clean


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """One photograph of 64 x 96 with a wave of 16 pixels."""
    wave = (127 + 100 * np.sin(np.arange(96) * 2 * np.pi / 16)).astype(np.uint8)
    Image.fromarray(np.broadcast_to(wave[None, :, None], (64, 96, 3)).copy()).save(tmp_path / "stripes.png")
    return tmp_path


def test_photographs_are_there_again_at_the_fractions_that_leave_enough_of_them(stripes: Path) -> None:
    whole, half = load_clean(stripes, channels=3, smallest=32, reduced=(0.5, 0.25))
    assert (whole.shape, half.shape) == ((64, 96, 3), (32, 48, 3))
    np.testing.assert_array_equal(whole, np.asarray(Image.open(stripes / "stripes.png")))
    period = np.argmax(np.abs(np.fft.rfft(half[0, :, 0] - 127.0)))
    assert period == 48 / 8


def test_a_batch_follows_from_the_seed_and_the_iteration(stripes: Path) -> None:
    images = load_clean(stripes, channels=3, smallest=16)
    first, again, next_one, other = (
        Crops(images, 16, seed).batch(iteration, 4) for seed, iteration in ((0, 3), (0, 3), (0, 4), (1, 3))
    )
    assert first.shape == (4, 3, 16, 16)
    assert bool((first == again).all())
    assert not bool((first == next_one).all())
    assert not bool((first == other).all())
