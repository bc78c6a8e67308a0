"""restore(): the same axes and dtype out, one result whatever the tiles, every promise of its arguments."""

import threading
import time
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import tiny_model

from restonnx import noise
from restonnx.errors import Cancelled
from restonnx.model import read
from restonnx.moments import Moments
from restonnx.restore import BYTES_PER_PIXEL, DCDP_BYTES_PER_PIXEL, MEMORY_SHARE, Restorer
from restonnx.session import LANES, Session
from restonnx.tiles import worthwhile_tile

LARGE = 100_000
"""A tile that holds every image of these tests as a whole."""


@pytest.fixture
def color(tiny: Path) -> Restorer:
    return Restorer(tiny, device="cpu", tile=64)


@pytest.fixture
def gray(tiny_gray: Path) -> Restorer:
    return Restorer(tiny_gray, device="cpu", tile=64)


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """Draws no noise and changes nothing: what goes in must come out."""
    return Restorer(tiny_model(tmp_path_factory.mktemp("still"), name="still", draws=0, blur=False), device="cpu")


@pytest.fixture(scope="session")
def only_noise(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """Adds 0.01 times the sum of two draws, and does nothing else."""
    return Restorer(tiny_model(tmp_path_factory.mktemp("noisy"), name="noisy", blur=False), device="cpu", tile=48)


def image_of(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    return (values * np.iinfo(dtype).max).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


# One result, whatever the tiles


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 120), width=st.integers(1, 120), tile=st.integers(28, 100), seed=st.integers(0, 99))
def test_the_tiled_result_equals_that_of_the_whole(tiny: Path, height: int, width: int, tile: int, seed: int) -> None:
    image = image_of((height, width, 3))
    whole = loaded(tiny, LARGE)(image, seed=seed)
    np.testing.assert_allclose(loaded(tiny, tile)(image, seed=seed), whole, atol=2e-6)


@pytest.mark.parametrize(("multiple", "halo"), [(1, 2), (2, 3), (16, 5)])
def test_tiles_equal_the_whole_for_other_multiples_and_halos(tmp_path: Path, multiple: int, halo: int) -> None:
    path = tiny_model(tmp_path, multiple=multiple, halo=halo)
    image = image_of((75, 61, 3))
    whole = Restorer(path, device="cpu", tile=LARGE)(image)
    np.testing.assert_allclose(Restorer(path, device="cpu", tile=32)(image), whole, atol=2e-6)


def test_a_halo_below_the_receptive_radius_would_be_seen(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, halo=0, multiple=4)
    image = image_of((75, 61, 3))
    whole = Restorer(path, device="cpu", tile=LARGE)(image)
    assert np.abs(Restorer(path, device="cpu", tile=32)(image) - whole).max() > 0.01


def test_tiles_equal_the_whole_where_the_model_enlarges(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, scale=2)
    image = image_of((45, 61, 3))
    whole = Restorer(path, device="cpu", tile=LARGE)(image)
    assert whole.shape == (90, 122, 3)
    np.testing.assert_allclose(Restorer(path, device="cpu", tile=28)(image), whole, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (5, 8), (13, 50)])
def test_an_image_of_odd_size_is_mirrored_to_whole_multiples(tiny: Path, size: tuple[int, int]) -> None:
    image = image_of((*size, 3))
    height, width = (-(-side // 4) * 4 for side in size)
    padded = np.pad(image, ((0, height - size[0]), (0, width - size[1]), (0, 0)), mode="symmetric")
    feeds = {
        "image": padded.transpose(2, 0, 1)[None],
        "noise": noise.normal(5, 2, 3, slice(0, height), slice(0, width))[None],
    }
    expected = Session(read(tiny), device="cpu").run(feeds)[0].transpose(1, 2, 0)[: size[0], : size[1]]
    np.testing.assert_allclose(Restorer(tiny, device="cpu")(image, seed=5), expected, atol=1e-6)


def test_the_number_of_threads_changes_nothing_but_rounding(tiny: Path) -> None:
    one, two = (Restorer(tiny, device="cpu", threads=n)(image_of((70, 90, 3))) for n in (1, 2))
    np.testing.assert_allclose(one, two, atol=2e-6)


# Noise, seeds and samples


def test_the_noise_of_every_pixel_is_keyed_by_seed_plane_and_place(only_noise: Restorer) -> None:
    stack = image_of((2, 70, 90, 3))
    restored = only_noise(stack, seed=3)
    for plane in range(2):
        drawn = noise.normal(3, 2, 3, slice(0, 70), slice(0, 90), plane=plane)
        np.testing.assert_allclose(restored[plane], stack[plane] + 0.01 * of_draws(drawn), atol=1e-6)


def test_different_seeds_give_different_results(color: Restorer) -> None:
    image = image_of((30, 40, 3))
    assert np.array_equal(color(image, seed=1), color(image, seed=1))
    assert np.abs(color(image, seed=1) - color(image, seed=2)).max() > 0.01


def test_samples_give_their_mean_and_standard_deviation(only_noise: Restorer) -> None:
    image = image_of((70, 50, 3))
    window = slice(0, 70), slice(0, 50)
    each = [image + 0.01 * of_draws(noise.normal(9, 2, 3, *window, sample=sample)) for sample in range(5)]
    mean, std = only_noise(image, seed=9, samples=5, return_std=True)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)
    np.testing.assert_allclose(std, np.std(each, axis=0), atol=1e-6)
    np.testing.assert_allclose(only_noise(image, seed=9), each[0], atol=1e-6)


def test_the_standard_deviation_is_in_the_units_of_the_image(color: Restorer) -> None:
    image = image_of((40, 40, 4), np.uint16)
    _, std = color(image, samples=3, return_std=True, strength=0)
    _, of_unit = color((image / 65535).astype(np.float32), samples=3, return_std=True)
    assert std.dtype == np.float32
    assert std.shape == image.shape
    np.testing.assert_allclose(std, of_unit * 65535, rtol=1e-2, atol=1)
    assert std[..., :3].min() > 0
    assert (std[..., 3] == 0).all()


@given(arrays=st.lists(st.integers(-1000, 1000), min_size=1, max_size=20))
def test_moments_are_mean_and_standard_deviation(arrays: list[int]) -> None:
    moments = Moments()
    for value in arrays:
        moments.add(np.full((2, 3), value, np.float32))
    np.testing.assert_allclose(moments.mean, np.mean(arrays), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(moments.std, np.std(arrays), rtol=1e-4, atol=1e-2)


# Strength


def test_strength_blends_linearly(color: Restorer) -> None:
    image = image_of((50, 70, 3))
    full = color(image)
    for strength in (0.25, 0.5, 0.9):
        expected = (1 - strength) * image + strength * full
        np.testing.assert_allclose(color(image, strength=strength), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strength_zero_gives_the_image_back(color: Restorer, dtype: type) -> None:
    image = image_of((50, 70, 3), dtype)
    assert np.array_equal(color(image, strength=0), image)


def test_the_blend_is_made_before_rounding(color: Restorer) -> None:
    image = image_of((50, 70, 3), np.uint8)
    unit = image.astype(np.float32) / 255
    exact = 0.5 * image + 0.5 * 255 * color(unit)
    np.testing.assert_array_equal(color(image, strength=0.5), np.rint(np.clip(exact, 0, 255)).astype(np.uint8))


# Any image in, the same kind of image out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((37, 50), None),
        ((37, 50, 3), None),
        ((37, 50, 4), None),
        ((2, 37, 50), None),
        ((2, 3, 37, 50), "TCYX"),
        ((3, 37, 50), "CYX"),
        ((50, 3, 37), "XCY"),
        ((37, 1), None),
        ((1, 50, 3), "YXC"),
        ((37, 2, 50), "YZX"),
    ],
)
def test_what_a_model_that_changes_nothing_returns_is_the_image(
    still: Restorer, shape: tuple[int, ...], axes: str | None, dtype: type
) -> None:
    image = image_of(shape, dtype)
    restored = still(image, axes=axes)
    assert restored.shape == image.shape
    assert restored.dtype == (dtype if np.dtype(dtype).kind in "iu" else np.float32)
    np.testing.assert_allclose(restored, image, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_axes_does_not_matter(color: Restorer) -> None:
    image = image_of((2, 37, 50, 3))
    restored = color(image, axes="ZYXC")
    moved = color(np.ascontiguousarray(image.transpose(3, 2, 0, 1)), axes="CXZY")
    np.testing.assert_allclose(moved.transpose(2, 3, 1, 0), restored, atol=1e-6)


def test_the_domain_s_range_is_that_of_the_metadata(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, metadata={"range": [-1, 1]}, blur=False)
    image = image_of((20, 20, 3))
    drawn = of_draws(noise.normal(0, 2, 3, slice(0, 20), slice(0, 20)))
    np.testing.assert_allclose(Restorer(path, device="cpu")(image), image + 0.005 * drawn, atol=1e-6)


def test_a_grey_image_goes_through_a_model_of_three_channels(only_noise: Restorer) -> None:
    image = image_of((20, 30), np.uint8)
    drawn = of_draws(noise.normal(0, 2, 3, slice(0, 20), slice(0, 30))).mean(axis=-1)
    expected = np.clip(np.rint(image + 255 * 0.01 * drawn), 0, 255)
    assert np.abs(only_noise(image).astype(int) - expected).max() <= 1
    assert (only_noise(image) == expected).mean() > 0.99


def test_colours_go_through_a_model_of_one_channel_one_by_one_with_their_own_noise(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, channels=1, blur=False)
    image = image_of((20, 30, 3), np.float32)
    drawn = of_draws(noise.normal(0, 2, 3, slice(0, 20), slice(0, 30)))
    np.testing.assert_allclose(Restorer(path, device="cpu")(image), image + 0.01 * drawn, atol=1e-6)


def test_colour_floats_are_never_clipped(still: Restorer) -> None:
    image = (image_of((20, 30, 3)) - 0.5) * 10
    np.testing.assert_allclose(still(image), image, atol=1e-5)


@given(gain=st.floats(0.01, 1e4), offset=st.floats(-1e4, 1e4))
@settings(max_examples=20, deadline=None)
def test_grey_floats_may_have_any_scale(tiny_gray: Path, gain: float, offset: float) -> None:
    gray, image = loaded(tiny_gray, 40), image_of((50, 40))
    scaled = gain * image.astype(np.float64) + offset
    expected = gain * gray(image).astype(np.float64) + offset
    np.testing.assert_allclose(gray(scaled), expected, rtol=1e-5, atol=1e-4 * gain + 1e-6 * abs(offset))


def test_a_stack_is_scaled_as_a_whole(gray: Restorer) -> None:
    stack = image_of((3, 40, 40)) * np.array([1, 10, 100], np.float32)[:, None, None]
    only_dim = gray(stack[:1])
    assert np.abs(gray(stack)[0] - only_dim[0]).max() > 0.1  # noise of the whole stack's scale, 0.01 of it


def test_alpha_is_carried_through(color: Restorer) -> None:
    image = image_of((30, 40, 4), np.uint8)
    restored = color(image)
    assert np.array_equal(restored[..., 3], image[..., 3])
    assert np.array_equal(restored[..., :3], color(image[..., :3]))


def test_the_image_given_is_not_changed(color: Restorer) -> None:
    image = image_of((30, 40, 3))
    before = image.copy()
    color(image, strength=0.5)
    assert np.array_equal(image, before)


def test_arrays_of_other_kinds_give_the_same(tiny: Path, tmp_path: Path) -> None:
    restorer = loaded(tiny, 40)
    image = image_of((2, 50, 70, 3), np.uint16)
    expected = restorer(image)
    np.save(tmp_path / "image.npy", image)
    backwards = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    assert not backwards.flags.c_contiguous
    assert np.array_equal(restorer(np.load(tmp_path / "image.npy", mmap_mode="r")), expected)
    assert np.array_equal(restorer(backwards), expected)
    assert np.array_equal(restorer(np.asfortranarray(image)), expected)
    assert np.array_equal(restorer(image.tolist(), axes="ZYXC"), restorer(image.astype(np.int64), axes="ZYXC"))


def test_a_dask_array_gives_the_same(tiny: Path) -> None:
    array = pytest.importorskip("dask.array")
    image = image_of((2, 50, 70, 3), np.uint8)
    assert np.array_equal(loaded(tiny, 40)(array.from_array(image, chunks=(1, 32, 32, 3))), loaded(tiny, 40)(image))


def test_a_zarr_array_gives_the_same(tiny: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    image = image_of((2, 50, 70, 3), np.uint8)
    stored = zarr.open_array(
        str(tmp_path / "image.zarr"), mode="w", shape=image.shape, dtype="u1", chunks=(1, 32, 32, 3)
    )
    stored[:] = image
    assert np.array_equal(loaded(tiny, 40)(stored), loaded(tiny, 40)(image))


def test_an_image_is_read_in_windows_no_larger_than_a_tile(tiny: Path) -> None:
    image = Recording(image_of((200, 300, 3), np.uint8))
    loaded(tiny, 40)(image)
    assert image.largest <= 40 * 40 * 3


def test_a_wide_halo_gets_larger_tiles_where_there_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = tiny_model(tmp_path / "wide.onnx", halo=48, preferred=100)
    blended = tiny_model(tmp_path / "blended.onnx", halo=48, preferred=100, whole=True, blur=False)
    monkeypatch.setattr("restonnx.session.memory", lambda: 2**34)
    assert Restorer(wide, device="cpu").tile == worthwhile_tile(48) // 4 * 4 > 900
    assert Restorer(blended, device="cpu").tile == 100
    monkeypatch.setattr("restonnx.session.memory", lambda: 10**9)
    solver = tiny_model(tmp_path / "solver.onnx", halo=48, preferred=100, family="dcdp")
    for path, per_pixel in ((wide, BYTES_PER_PIXEL), (solver, DCDP_BYTES_PER_PIXEL)):
        most = 10**9 * MEMORY_SHARE / (LANES * per_pixel)
        assert most * 0.95 < Restorer(path, device="cpu").tile ** 2 <= most


def test_memory_does_not_grow_by_more_than_the_result(gray: Restorer) -> None:
    image = image_of((1000, 1500), np.uint8)
    gray(image[:100])  # imports what is imported late
    tracemalloc.start()
    gray(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes + 1e6


# Progress and cancel


def test_progress_counts_every_tile_of_every_sample_once(color: Restorer) -> None:
    seen: list[tuple[int, int]] = []
    color(image_of((2, 100, 100, 3)), samples=3, progress=lambda done, total: seen.append((done, total)))
    total = 2 * 4 * 3
    assert seen == [(done, total) for done in range(total + 1)]


def test_a_cancel_from_another_thread_ends_within_a_second_without_a_result(tmp_path: Path) -> None:
    restorer = Restorer(tiny_model(tmp_path, convs=100, preferred=512), device="cpu")
    cancel, result, stopped = threading.Event(), [], []
    threading.Timer(0.5, lambda: (stopped.append(time.perf_counter()), cancel.set())).start()
    with pytest.raises(Cancelled):
        result.append(restorer(image_of((512, 1024, 3)), cancel=cancel))
    assert time.perf_counter() - stopped[0] < 1
    assert not result
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("restonnx")]


def test_a_cancel_is_seen_between_tiles_and_at_the_end(color: Restorer) -> None:
    for stop_at in (0, 1, 4):
        cancel = threading.Event()

        def progress(done: int, total: int, at: int = stop_at, cancel: threading.Event = cancel) -> None:
            assert done <= at
            if done == at:
                cancel.set()

        with pytest.raises(Cancelled):
            color(image_of((100, 100, 3)), progress=progress, cancel=cancel)


@cache
def loaded(path: Path, tile: int) -> Restorer:
    return Restorer(path, device="cpu", tile=tile)


def of_draws(drawn: np.ndarray) -> np.ndarray:
    """The sum of draws (K, C, H, W) as (H, W, C)."""
    return drawn.sum(axis=0).transpose(1, 2, 0)


class Recording:
    """An image that is not in memory, and remembers the largest part that was asked for."""

    def __init__(self, image: np.ndarray) -> None:
        self._image, self.shape, self.dtype, self.largest = image, image.shape, image.dtype, 0

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self._image[index]
        self.largest = max(self.largest, part.size)
        return part
