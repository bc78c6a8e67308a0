"""Networks that see the whole tile at once: their tiles fade into each other, and memory stays flat."""

from __future__ import annotations

import tracemalloc
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spans import spans
from tiny_model import tiny_model

from restonnx import noise
from restonnx.errors import InputError
from restonnx.restore import Restorer
from restonnx.session import Session

TILE, FADE = 48, 16


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overlap")


@cache
def restorer(folder: Path, scale: int = 1, draws: int = 0, channels: int = 3, tile: int | None = None) -> Restorer:
    """Adds to each tile the mean over that tile, and nothing else but noise."""
    name = f"whole-{scale}-{draws}-{channels}"
    options: dict[str, Any] = {"whole": True, "blur": False, "halo": FADE, "preferred": TILE}
    path = tiny_model(folder, name=name, scale=scale, draws=draws, channels=channels, **options)
    return Restorer(path, device="cpu", tile=tile)


def image_of(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    values = np.random.default_rng(0).random(shape)
    values[..., :, : shape[-2] // 2, :] *= 0.2  # the means of the tiles differ
    return (values * np.iinfo(dtype).max).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


def starts_of(length: int) -> list[int]:
    """Where the tiles of a padded side begin: as few as share FADE pixels, spread evenly, at multiples of 4."""
    if length <= TILE:
        return [0]
    count = -(-(length - FADE) // (TILE - FADE))
    return [n * (length - TILE) // (count - 1) // 4 * 4 for n in range(count)]


def weights_of(length: int) -> list[np.ndarray]:
    """For each tile of a side its weight at every pixel."""
    starts, side = starts_of(length), min(TILE, length)
    rising = [np.ones(length)]
    for left, right in pairwise(starts):
        middle = (right + left + side) // 2
        rising.append(np.clip((np.arange(length) + 0.5 - middle + FADE / 2) / FADE, 0, 1))
    return [own * (1 - following) for own, following in zip(rising, [*rising[1:], np.zeros(length)], strict=True)]


def expected_of(image: np.ndarray) -> np.ndarray:
    """The blend written down directly, for (H, W, 3) floats."""
    height, width = (-(-side // 4) * 4 for side in image.shape[:2])
    padded = np.pad(
        image, ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)), mode="symmetric"
    ).astype(np.float64)
    result = np.zeros_like(padded)
    for top, down in zip(starts_of(height), weights_of(height), strict=True):
        for left, across in zip(starts_of(width), weights_of(width), strict=True):
            mean = padded[top : top + TILE, left : left + TILE].mean(axis=(0, 1))
            result += (down[:, None] * across)[..., None] * (padded + mean)
    return result[: image.shape[0], : image.shape[1]]


@settings(max_examples=30)
@given(height=st.integers(1, 130), width=st.integers(1, 130))
def test_the_result_is_the_weighted_sum_of_the_tiles(folder: Path, height: int, width: int) -> None:
    image = image_of((height, width, 3))
    np.testing.assert_allclose(restorer(folder)(image), expected_of(image), atol=3e-6)


@settings(max_examples=30)
@given(st.tuples(spans(3), spans(101), spans(130)), st.integers(1, 2))
def test_a_part_is_what_the_whole_result_has_there(folder: Path, where: tuple[slice, ...], scale: int) -> None:
    stack = image_of((3, 101, 130, 3))
    part = restorer(folder, scale)(stack, region=(*where, slice(0, 3)))
    rows, cols = (slice(scale * span.start, scale * span.stop) for span in where[1:])
    assert np.array_equal(part, restorer(folder, scale)(stack)[where[0], rows, cols])


def test_of_a_part_those_tiles_are_computed_that_have_a_say_in_it(folder: Path) -> None:
    of_all, of_part = [], []
    image = image_of((101, 130, 3))
    restorer(folder)(image, progress=lambda _, total: of_all.append(total))
    where = (slice(0, 10), slice(0, 10), slice(0, 3))
    restorer(folder)(image, region=where, progress=lambda _, total: of_part.append(total))
    assert of_all[-1] == len(starts_of(104)) * len(starts_of(132))
    assert of_part[-1] == 1


def test_between_tiles_there_is_a_ramp_and_no_seam(folder: Path) -> None:
    image = np.zeros((TILE, 80, 3), np.float32)
    image[:, 40:] = 1
    added = (restorer(folder)(image) - image)[0, :, 0]
    assert np.ptp(added) > 0.3
    assert np.abs(np.diff(added)).max() <= np.ptp(added) / FADE + 1e-6


def test_where_the_model_enlarges_the_ramps_are_as_much_wider(folder: Path) -> None:
    image = image_of((75, 101, 3))
    expected = expected_of(image)
    enlarged = restorer(folder, scale=2)(image)
    assert enlarged.shape == (150, 202, 3)
    # The ramp is twice as long: two of its pixels have the weight of one of the image's on average.
    np.testing.assert_allclose(enlarged.reshape(75, 2, 101, 2, 3).mean(axis=(1, 3)), expected, atol=3e-6)


def test_every_plane_of_a_stack_is_joined_on_its_own(folder: Path) -> None:
    stack = image_of((3, 75, 101, 3))
    restored = restorer(folder)(stack)
    for plane in range(3):
        np.testing.assert_allclose(restored[plane], restorer(folder)(stack[plane]), atol=1e-6)


def test_alpha_is_carried_through(folder: Path) -> None:
    image = image_of((75, 101, 4), np.uint8)
    restored = restorer(folder)(image)
    assert np.array_equal(restored[..., 3], image[..., 3])
    assert np.array_equal(restored[..., :3], restorer(folder)(image[..., :3]))


def test_colours_go_through_a_model_of_one_channel_one_by_one(folder: Path) -> None:
    image = image_of((75, 101, 3))
    np.testing.assert_allclose(restorer(folder, channels=1)(image), expected_of(image), atol=3e-6)


def test_images_of_a_batch_run_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, run = set(), Session.run
    monkeypatch.setattr(
        Session, "run", lambda self, feeds, cancel, **_: sizes.add(len(feeds["image"])) or run(self, feeds)
    )
    grey = restorer(folder, draws=2, channels=1)
    image = image_of((75, 101, 3))
    drawn = noise.normal(0, 2, 3, slice(0, 75), slice(0, 101)).sum(axis=0).transpose(1, 2, 0) * 0.01
    np.testing.assert_allclose(grey(image), expected_of(image) + drawn, atol=3e-6)
    planes = grey.run(np.moveaxis(image, -1, 0)[:, None])
    assert planes.shape == (3, 1, 75, 101)
    assert sizes == {1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_strength_zero_gives_the_image_back(folder: Path, dtype: type) -> None:
    image = image_of((75, 101, 3), dtype)
    assert np.array_equal(restorer(folder)(image, strength=0), image)


def test_strength_blends_linearly(folder: Path) -> None:
    image = image_of((75, 101, 3))
    expected = 0.7 * image + 0.3 * restorer(folder)(image)
    np.testing.assert_allclose(restorer(folder)(image, strength=0.3), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
def test_samples_give_their_mean_and_standard_deviation(folder: Path, scale: int) -> None:
    image = image_of((75, 101, 3))
    window = slice(0, 75 * scale), slice(0, 101 * scale)
    drawn = [noise.normal(7, 2, 3, *window, sample=n).sum(axis=0).transpose(1, 2, 0) * 0.01 for n in range(3)]
    mean, std = restorer(folder, scale, draws=2)(image, seed=7, samples=3, return_std=True)
    np.testing.assert_allclose(mean, restorer(folder, scale)(image) + np.mean(drawn, axis=0), atol=3e-6)
    np.testing.assert_allclose(std, np.std(drawn, axis=0), atol=3e-6)


def test_the_noise_of_a_pixel_does_not_depend_on_the_tiles(folder: Path) -> None:
    image = image_of((75, 101, 3))
    for tile in (32, TILE, 200):
        noisy, plain = (restorer(folder, draws=draws, tile=tile)(image, seed=3) for draws in (2, 0))
        drawn = noise.normal(3, 2, 3, slice(0, 75), slice(0, 101)).sum(axis=0).transpose(1, 2, 0)
        np.testing.assert_allclose(noisy - plain, 0.01 * drawn, atol=3e-6)


def test_an_image_no_larger_than_a_tile_is_seen_as_a_whole(folder: Path) -> None:
    image = image_of((TILE, TILE - 3, 3))
    padded = np.pad(image, ((0, 0), (0, 3), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(restorer(folder)(image), image + padded.mean(axis=(0, 1)), atol=1e-6)


def test_a_tile_must_have_room_for_a_fade(folder: Path) -> None:
    with pytest.raises(InputError, match="tile must be an integer of at least 20 pixels for whole-1-0-3, not 19"):
        restorer(folder, tile=19)
    assert restorer(folder, tile=20)(image_of((60, 60, 3))).shape == (60, 60, 3)


def test_memory_does_not_grow_with_the_number_of_rows(folder: Path) -> None:
    gray = restorer(folder, channels=1)

    def beside_the_result(rows: int) -> int:
        image = np.zeros((rows, 200), np.uint8)
        tracemalloc.start()
        gray(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - image.nbytes

    beside_the_result(200)  # imports what is imported late
    # The plan's 500 bytes or so for each tile, and not the 1.1 MB of 1400 rows of floats.
    assert beside_the_result(1600) < beside_the_result(200) + 4e5


def test_progress_counts_the_tiles(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    restorer(folder)(image_of((80, 112, 3)), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(7)]
