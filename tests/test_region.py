"""A part of an image comes back as it is in the whole result, and results go where the caller wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spans import spans

from restonnx import InputError, Restorer, arrays
from restonnx.region import region


@pytest.fixture(scope="module")
def restorer(tiny: Path) -> Restorer:
    return Restorer(tiny, device="cpu")


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (3, 101, 83), dtype=np.uint16)


@settings(max_examples=25)
@given(st.tuples(spans(3), spans(101), spans(83)))
def test_a_part_is_what_the_whole_result_has_there(
    restorer: Restorer, stack: np.ndarray, where: tuple[slice, ...]
) -> None:
    whole = restorer(stack, axes="ZYX", seed=5).astype(int)[where]
    part = restorer(stack, axes="ZYX", seed=5, region=where)
    assert part.dtype == np.uint16
    assert part.shape == whole.shape
    assert np.abs(part - whole).max() <= 1  # of 65535: sums in another order


def test_a_part_of_a_colour_image_with_alpha_keeps_its_alpha_and_its_deviation(restorer: Restorer) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    where = (slice(5, 30), slice(20, 60), slice(0, 4))
    whole, spread = restorer(image, samples=2, return_std=True)
    part, part_spread = restorer(image, samples=2, return_std=True, region=where)
    assert np.array_equal(part[..., 3], image[where][..., 3])
    assert np.abs(part.astype(int) - whole[where]).max() <= 1
    assert np.allclose(part_spread, spread[where], atol=1e-3)
    assert part_spread[..., :3].min() > 0


def test_a_known_scaling_spares_looking_at_the_whole_image(restorer: Restorer, stack: np.ndarray) -> None:
    layout = arrays.layout(stack, "ZYX")
    scaling = arrays.value_range(stack, layout, restorer.metadata.domain)
    assert np.array_equal(restorer(stack, axes="ZYX", scaling=scaling), restorer(stack, axes="ZYX"))
    doubled = arrays.Scaling(scaling.offset, 2 * scaling.gain)
    assert not np.array_equal(restorer(stack, axes="ZYX", scaling=doubled), restorer(stack, axes="ZYX"))


def test_the_result_goes_into_the_array_that_is_given(restorer: Restorer, stack: np.ndarray, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    out = zarr.create_array(tmp_path / "out.zarr", shape=stack.shape, dtype="uint16", chunks=(1, 64, 64))
    std = zarr.create_array(tmp_path / "std.zarr", shape=stack.shape, dtype="float32", chunks=(1, 64, 64))
    back = restorer(stack, axes="ZYX", samples=2, return_std=True, out=(out, std))
    assert back[0] is out
    assert back[1] is std
    wanted, spread = restorer(stack, axes="ZYX", samples=2, return_std=True)
    assert np.array_equal(out[:], wanted)
    assert np.array_equal(std[:], spread)


def test_an_array_of_another_kind_is_refused_before_the_run(restorer: Restorer, stack: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"out must be of uint16 and shape \(3, 101, 83\), not float32"):
        restorer(stack, axes="ZYX", out=np.zeros(stack.shape, np.float32))
    with pytest.raises(InputError, match="out must be of float32"):
        restorer(stack, axes="ZYX", samples=2, return_std=True, out=(np.zeros_like(stack), np.zeros_like(stack)))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ((slice(0, 5), slice(0, 5)), "3 slices"),
        ((slice(0, 5), 3, slice(0, 3)), "3 slices"),
        ((slice(0, 5), slice(4, 4), slice(0, 3)), "nothing of axis 1"),
        ((slice(0, 9, 2), slice(0, 5), slice(0, 3)), "without a step"),
        ((slice(0, 5), slice(0, 5), slice(0, 1)), "all colours"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(where: tuple[slice, ...], message: str) -> None:
    layout = arrays.layout(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(InputError, match=message):
        region(layout, where, context=8, multiple=4)


def test_only_the_surroundings_of_a_part_are_read() -> None:
    layout = arrays.layout(np.zeros((100, 200), np.uint8))
    part = region(layout, (slice(50, 60), slice(190, 200)), context=8, multiple=8)
    assert (part.rows, part.cols) == (slice(40, 72), slice(176, 200))
    assert part.inside == (32, 24)
