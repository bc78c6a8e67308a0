"""The crops that a training sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')

from PIL import Image

from restonnx.errors import InputError
from restonnx.images import Picture, write
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


@pytest.mark.parametrize(("suffix", "dtype"), [("png", "u2"), ("tif", "u2"), ("tif", "f4")])
def test_deep_grey_files_are_scaled_between_their_black_and_white(tmp_path: Path, suffix: str, dtype: str) -> None:
    ramp = np.linspace(1000, 5000, 64 * 64).reshape(64, 64).astype(dtype)
    write(tmp_path / f"ramp.{suffix}", Picture(ramp, "YX"))
    for channels in (1, 3):
        (image,) = load_clean(tmp_path, channels=channels, smallest=16)
        assert image.shape == (64, 64, channels)
        wanted = np.clip((ramp - ramp.min()) / (ramp.max() - ramp.min()) * 255, 0, 255)
        assert np.abs(image[..., 0] - wanted).max() < 1.5


def test_files_that_cannot_be_learned_from_are_named(tmp_path: Path) -> None:
    write(tmp_path / "stack.tif", Picture(np.zeros((3, 64, 64), np.uint16), "ZYX"))
    with pytest.raises(InputError, match=r"stack\.tif holds a stack"):
        load_clean(tmp_path, channels=1, smallest=16)
    (tmp_path / "stack.tif").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"stack\.tif"):
        load_clean(tmp_path, channels=1, smallest=16)
