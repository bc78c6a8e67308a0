"""The user's axes, dtypes and values go to the network and come back unchanged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from restonnx import arrays
from restonnx.errors import InputError

DTYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    ">u2",
    ">f4",
]


def copied(
    image: Any, axes: str | None = None, *, color: bool | None = None, domain: str = "display_rgb"
) -> np.ndarray:
    """The image sent through windows of 3x4 pixels, the network's range and back."""
    plan = arrays.layout(image, axes, color=color)
    scaling = arrays.value_range(image, plan, domain)
    out = arrays.allocate(image, plan)
    for plane in plan.planes:
        for y in range(0, plan.height, 3):
            for x in range(0, plan.width, 4):
                window = slice(y, min(y + 3, plan.height)), slice(x, min(x + 4, plan.width))
                values = arrays.read_window(image, plan, plane, *window)
                assert values.shape[0] == plan.channels
                arrays.write_window(out, plan, plane, *window, scaling.from_unit(scaling.to_unit(values)))
    return out


def ramp(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((7, 9), None),
        ((7, 9, 3), None),
        ((7, 9, 4), None),
        ((2, 7, 9), "ZYX"),
        ((2, 3, 5, 6), "TCYX"),
        ((3, 7, 9), "CYX"),
        ((5, 4, 6), "XCY"),
        ((1, 1), None),
    ],
)
def test_every_dtype_and_axis_order_comes_back_as_it_went_in(
    dtype: str, shape: tuple[int, ...], axes: str | None
) -> None:
    image = ramp(shape, dtype)
    out = copied(image, axes)
    assert out.dtype == (image.dtype if image.dtype.kind in "iu" else np.float32)
    np.testing.assert_allclose(out.astype(np.float64), image.astype(np.float64), atol=1e-3, rtol=1e-6)


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int16]), hnp.array_shapes(min_dims=2, max_dims=4, max_side=6))
)
def test_integers_of_up_to_16_bits_come_back_bit_exact(image: np.ndarray) -> None:
    np.testing.assert_array_equal(copied(image), image)


@given(shape=hnp.array_shapes(min_dims=2, max_dims=5, max_side=5), data=st.data())
def test_windows_cover_every_value_once_for_any_order_of_named_axes(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    axes = "".join(data.draw(st.permutations("YXTZC"[: len(shape)])))
    image = ramp(shape, "uint8")
    color = data.draw(st.sampled_from([None, True, False]))
    plan = arrays.layout(image, axes, color=color)
    windows = [arrays.read_window(image, plan, p, slice(0, plan.height), slice(0, plan.width)) for p in plan.planes]
    values = sum(int(w.sum()) for w in windows)
    alpha = int(np.take(image, 3, plan.channel).sum()) if plan.alpha and plan.channel is not None else 0
    assert values + alpha == int(image.sum())
    np.testing.assert_array_equal(copied(image, axes, color=color), image)


@pytest.mark.parametrize(
    ("shape", "axes", "color", "expected"),
    [
        ((8, 9, 3), None, None, ("YXC", True, False, 1)),
        ((8, 9, 4), None, None, ("YXC", True, True, 1)),
        ((8, 9, 4), None, False, ("YXC", False, True, 3)),
        ((8, 9, 2), None, None, ("ZYX", False, False, 8)),
        ((3, 8, 9), None, None, ("ZYX", False, False, 3)),
        ((2, 5, 8, 9), None, None, ("TZYX", False, False, 10)),
        ((3, 8, 9), "CYX", None, ("CYX", False, False, 3)),
        ((3, 8, 9), "CYX", True, ("CYX", True, False, 1)),
        ((3, 8, 9), "syx", None, ("SYX", True, False, 1)),
        ((4, 8, 9), "CYX", True, ("CYX", False, False, 4)),
        ((2, 4, 8, 9), "TCYX", True, ("TCYX", False, False, 8)),
        ((4, 8, 9), "SYX", True, ("SYX", True, True, 1)),
        ((8, 9, 4), "YXC", True, ("YXC", True, True, 1)),
        ((8, 9, 3), "YXC", None, ("YXC", True, False, 1)),
        ((8, 9, 4), "YXC", False, ("YXC", False, False, 4)),
        ((8, 9, 4), "YXS", False, ("YXS", False, True, 3)),
        ((3, 8, 9, 4), "CYXS", True, ("CYXS", True, True, 3)),
        ((2, 8, 9), "CYX", True, ("CYX", False, False, 2)),
        ((8, 9, 3), "YXZ", True, ("YXZ", False, False, 3)),
    ],
)
def test_axes_decide_what_is_colour_and_what_is_a_stack(
    shape: Any, axes: str | None, color: bool | None, expected: Any
) -> None:
    plan = arrays.layout(np.zeros(shape, np.uint8), axes, color=color)
    assert (plan.axes, plan.color, plan.alpha, len(plan.planes)) == expected


def test_alpha_is_carried_over_untouched_and_repeated_for_a_larger_result() -> None:
    image = ramp((4, 5, 4), "uint16")
    plan = arrays.layout(image)
    out = arrays.allocate(image, plan, scale=2)
    assert out.shape == (8, 10, 4)
    np.testing.assert_array_equal(out[..., 3], image[..., 3].repeat(2, 0).repeat(2, 1))


def test_alpha_of_a_window_is_copied_to_the_scaled_window() -> None:
    image, plan = ramp((2, 6, 6, 4)), arrays.layout(ramp((2, 6, 6, 4)))
    out = np.zeros(arrays.result_shape(plan, 3), np.uint8)
    arrays.copy_alpha(image, out, plan, (1,), slice(2, 4), slice(3, 6), scale=3)
    np.testing.assert_array_equal(out[1, 6:12, 9:18, 3], image[1, 2:4, 3:6, 3].repeat(3, 0).repeat(3, 1))
    assert out[0].max() == 0
    assert out[1, :6].max() == 0


def test_a_window_is_a_copy_so_that_the_users_image_cannot_change() -> None:
    image = np.zeros((4, 4), np.float32)
    arrays.read_window(image, arrays.layout(image), (), slice(0, 4), slice(0, 4))[:] = 7
    assert image.max() == 0


def test_integers_are_rounded_half_to_even_and_clipped() -> None:
    values = np.array([-3, 0.5, 1.5, 2.5, 254.6, 300], np.float32)
    np.testing.assert_array_equal(arrays.to_dtype(values, np.dtype(np.uint8)), [0, 0, 2, 2, 255, 255])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_clipping_never_wraps_around(dtype: str) -> None:
    low, high = arrays.to_dtype(np.array([-1e30, 1e30], np.float32), np.dtype(dtype))
    info = np.iinfo(dtype)
    assert int(low) == info.min
    assert int(high) > info.max * 0.999


@given(
    seed=st.integers(0, 99),
    a=st.floats(0.01, 1000),
    b=st.floats(-100, 100),
)
def test_the_scaling_of_grey_floats_follows_any_change_of_brightness(seed: int, a: float, b: float) -> None:
    x = np.random.default_rng(seed).gamma(2.0, size=(3, 20, 20))
    first, second = (arrays.value_range(v, arrays.layout(v)) for v in (x, a * x + b))
    assert second.gain == pytest.approx(a * first.gain, rel=1e-9)
    assert second.offset == pytest.approx(a * first.offset + b, rel=1e-6, abs=1e-6 * a)


@pytest.mark.parametrize(
    ("dtype", "shape", "domain", "expected"),
    [
        ("uint8", (5, 6), "display_gray", (0, 255)),
        ("uint8", (5, 6, 3), "display_rgb", (0, 255)),
        ("uint16", (5, 6, 3), "display_rgb", (0, 65535)),
        ("float32", (5, 6, 3), "display_rgb", (0, 1)),
        ("float32", (5, 6), "cfa", (0, 1)),
        ("uint16", (5, 6), "cfa", (0, 65535)),
    ],
)
def test_values_with_a_fixed_meaning_keep_it(
    dtype: str, shape: Any, domain: str, expected: tuple[float, float]
) -> None:
    image = ramp(shape, dtype)
    scaling = arrays.value_range(image, arrays.layout(image), domain)
    assert (scaling.offset, scaling.gain) == expected


def test_a_constant_image_has_gain_one() -> None:
    image = np.full((3, 9, 9), 7.0)
    assert arrays.value_range(image, arrays.layout(image)) == arrays.Scaling(7.0, 1.0)


def test_a_few_bright_spots_on_an_empty_field_are_scaled_by_the_extremes() -> None:
    image = np.zeros((200, 200), np.float32)
    image[5, 5] = 40
    assert arrays.value_range(image, arrays.layout(image)) == arrays.Scaling(0.0, 40.0)


def test_the_percentiles_of_a_large_stack_come_from_few_values_spread_over_all_planes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrays, "SAMPLED_VALUES", 5000)
    stack = np.random.default_rng(0).random((40, 100, 90)) + np.linspace(0, 10, 40)[:, None, None]
    plan = arrays.layout(stack)
    assert arrays._sample(stack, plan).size <= 5000
    few = arrays.value_range(stack, plan)
    low, high = np.percentile(stack, (0.1, 99.9))
    assert few.offset == pytest.approx(low, abs=0.2)
    assert few.offset + few.gain == pytest.approx(high, abs=0.4)
    stripes = np.tile([0.0, 1.0], (100, 100))  # period 2 along x
    assert arrays.value_range(stripes, arrays.layout(stripes)).gain == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("color", [True, False])
def test_a_value_that_is_not_finite_is_refused_with_its_position(value: float, color: bool) -> None:
    image = np.zeros((2, 6, 7, 3), np.float64)
    image[1, 4, 5, 2] = value
    plan = arrays.layout(image, "ZYXC", color=color)
    plane = plan.planes[-1]
    with pytest.raises(InputError, match=r"Z=1.* Y=4, X=5.*nan_to_num"):
        arrays.read_window(image, plan, plane, slice(2, 6), slice(3, 7))
    if not color:
        with pytest.raises(InputError, match=r"Z=1, Y=4, X=5, C=2"):
            arrays.value_range(image, plan)


def test_a_float64_beyond_float32_is_refused() -> None:
    image = np.full((3, 3), 1e300)
    with pytest.raises(InputError, match="1e\\+300"):
        arrays.read_window(image, arrays.layout(image), (), slice(0, 3), slice(0, 3))


@pytest.mark.parametrize(
    ("image", "axes", "message"),
    [
        (np.zeros((0, 5)), None, "no rows"),
        (np.float32(3), None, "no rows and columns"),
        (np.zeros(5), None, "one axis"),
        (np.zeros((3, 3), complex), None, "numpy.abs"),
        (np.zeros((3, 3), bool), None, "astype"),
        (np.array([["a", "b"]]), None, "array of numbers"),
        (np.array([[None, 1]]), None, "astype"),
        ([[1, 2], [3]], None, "numpy cannot read"),
        (np.zeros((3, 3)), "YXC", "should have 2 letters"),
        (np.zeros((3, 3)), "ZX", "with Y and X"),
        (np.zeros((3, 3, 3)), "YYX", "each once"),
        (np.zeros((3, 3)), "Y1", "letters"),
    ],
)
def test_an_image_that_cannot_be_restored_is_refused_in_one_line(image: Any, axes: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        arrays.layout(image, axes)
    assert "\n" not in str(caught.value)


def test_a_list_of_lists_is_an_image_too() -> None:
    image = arrays.as_array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(copied(image), image, rtol=1e-6)


def test_a_view_with_strides_is_read_like_its_copy() -> None:
    image = ramp((20, 30, 3))[::-2, 3::3]
    np.testing.assert_array_equal(copied(image), image)


def test_a_memory_mapped_image_is_read_in_place(tmp_path: Path) -> None:
    image = np.lib.format.open_memmap(tmp_path / "stack.npy", mode="w+", dtype=np.uint16, shape=(3, 7, 8))
    image[:] = ramp((3, 7, 8), "uint16")
    assert arrays.as_array(image) is image
    np.testing.assert_array_equal(copied(image), image)


def test_only_the_windows_of_a_dask_image_are_computed() -> None:
    dask_array = pytest.importorskip("dask.array")
    computed: list[tuple[int, ...]] = []

    def load(block: np.ndarray) -> np.ndarray:
        computed.append(block.shape)
        return block

    image = dask_array.from_array(ramp((4, 8, 8)), chunks=(1, 4, 4)).map_blocks(
        load, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)
    )
    plan = arrays.layout(image)
    window = arrays.read_window(image, plan, (2,), slice(0, 4), slice(0, 4))
    assert computed == [(1, 4, 4)]
    np.testing.assert_array_equal(window[0], ramp((4, 8, 8))[2, :4, :4])


def test_a_zarr_array_is_read_and_written_window_by_window() -> None:
    zarr = pytest.importorskip("zarr")
    image = zarr.create_array(zarr.storage.MemoryStore(), data=ramp((2, 9, 10), "uint16"), chunks=(1, 4, 4))
    plan = arrays.layout(image, "ZYX")
    out = zarr.create_array(zarr.storage.MemoryStore(), shape=(2, 9, 10), dtype="uint16", chunks=(1, 4, 4))
    assert arrays.value_range(image, plan).gain > 0
    for plane in plan.planes:
        window = slice(0, 9), slice(0, 10)
        arrays.write_window(out, plan, plane, *window, arrays.read_window(image, plan, plane, *window))
    np.testing.assert_array_equal(out[:], ramp((2, 9, 10), "uint16"))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.sampled_from([1, 3]), st.integers(1, 4), st.integers(1, 4)),
        elements=st.floats(-4, 4, width=32),
    )
)
def test_channels_fit_any_model_and_come_back(window: np.ndarray) -> None:
    for channels in (1, 3):
        batch = arrays.to_channels(window, channels)
        assert batch.shape[1] == channels
        np.testing.assert_allclose(arrays.from_channels(batch, len(window)), window, atol=1e-6)


def test_grey_through_a_colour_model_is_the_mean_of_its_channels() -> None:
    batch = np.stack([np.full((2, 2), v, np.float32) for v in (1, 2, 6)])[None]
    np.testing.assert_array_equal(arrays.from_channels(batch, 1), np.full((1, 2, 2), 3, np.float32))
