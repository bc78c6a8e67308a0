"""Noise level, mask, kernel and reference: what reaches the network, and what is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import EXTRA, tiny_model

from restonnx import extra_inputs, noise_level, restore
from restonnx.errors import InputError
from restonnx.model import InputSpec
from restonnx.restore import Restorer

LARGE = 100_000


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extra")


@cache
def restorer(folder: Path, *extra: str, tile: int = 40, **options: Any) -> Restorer:
    """A model that adds its noise level and its kernel's first value, and multiplies by its mask; see `tiny_model`."""
    name = "-".join((*extra, *(f"{key}-{value}" for key, value in options.items()))).replace("_", "-") or "plain"
    path = tiny_model(folder, name=name, extra=extra, blur=False, draws=0, **options)
    return Restorer(path, device="cpu", tile=tile)


def image_of(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(shape)
    return (values * np.iinfo(dtype).max / 2).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


# The noise level: it comes back as what the model adds


@pytest.mark.parametrize("range_", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(50, 70, 3), (50, 70)])
def test_the_noise_level_is_in_the_values_of_the_image(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, range_: tuple[float, float]
) -> None:
    image = image_of(shape, dtype)
    path = tiny_model(tmp_path, extra=("noise_level",), blur=False, draws=0, metadata={"range": range_})
    level = 0.1 * (np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1)
    restored = Restorer(path, device="cpu", tile=40)(image, noise_level=level)
    tolerance = 1 if np.dtype(dtype).kind in "iu" else 1e-5
    np.testing.assert_allclose(restored.astype(float), image + level, atol=tolerance)


@settings(max_examples=20)
@given(gain=st.floats(0.01, 1e4), offset=st.floats(-1e4, 1e4))
def test_grey_floats_and_their_noise_may_have_any_scale(folder: Path, gain: float, offset: float) -> None:
    image = image_of((50, 40)).astype(np.float64) * gain + offset
    restored = restorer(folder, "noise_level", channels=1)(image, noise_level=0.2 * gain)
    np.testing.assert_allclose(restored, image + 0.2 * gain, atol=1e-4 * gain + 1e-6 * abs(offset))


def test_the_estimated_noise_level_is_that_of_each_plane(folder: Path) -> None:
    rng = np.random.default_rng(0)
    stack = (np.full((2, 90, 70, 3), 100) + rng.normal(0, 1, (2, 90, 70, 3)) * [[[[4]]], [[[12]]]]).astype(np.uint8)
    gray = stack[..., 0].astype(np.float32)
    restored, of_gray = (
        restorer(folder, "noise_level")(stack, noise_level="estimate"),
        restorer(folder, "noise_level", channels=1)(gray, noise_level="estimate"),
    )
    for plane, sigma in enumerate((4, 12)):
        level = noise_level.estimate(stack[plane].transpose(2, 0, 1))
        assert level == pytest.approx(sigma, rel=0.1)
        np.testing.assert_allclose(restored[plane].astype(float), np.rint(stack[plane] + level), atol=1)
        np.testing.assert_allclose(of_gray[plane] - gray[plane], noise_level.estimate(gray[plane][None]), rtol=1e-3)


def test_of_a_plane_too_large_to_be_read_whole_windows_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra_inputs, "ESTIMATED_SIDE", 60)
    monkeypatch.setattr(extra_inputs, "WINDOW_SIDE", 16)
    image = np.random.default_rng(0).normal(0.5, 0.05, (200, 50, 3)).astype(np.float32)
    starts = [0, 61, 122, 184]
    levels = [noise_level.estimate(image[top : top + 16].transpose(2, 0, 1)) for top in starts]
    restored = restorer(folder, "noise_level")(image, noise_level="estimate")
    np.testing.assert_allclose(restored, image + np.median(levels), atol=1e-5)


@pytest.mark.parametrize("level", [-1, float("nan"), float("inf"), "much", True, 1j, [25], np.array([1.0, 2.0])])
def test_what_is_no_noise_level_is_refused(folder: Path, level: Any) -> None:
    with pytest.raises(InputError, match='noise_level must be a number of at least 0, or "estimate", not'):
        restorer(folder, "noise_level")(image_of((20, 20, 3)), noise_level=level)


# The mask: what is missing comes back as 0


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("shape", [(75, 61, 3), (75, 61), (75, 61, 4)])
def test_nonzero_marks_what_is_missing(folder: Path, shape: tuple[int, ...], kind: type) -> None:
    image, labels = image_of(shape, np.uint8), np.random.default_rng(1).integers(0, 3, (75, 61))
    restored = restorer(folder, "mask")(image, mask=labels.astype(kind))
    known = (labels == 0)[..., None] if image.ndim == 3 else labels == 0
    colors = (image[..., :3] * known, restored[..., :3]) if image.ndim == 3 else (image * known, restored)
    np.testing.assert_allclose(*(part.astype(int) for part in colors), atol=1)
    if shape[-1] == 4:
        assert np.array_equal(restored[..., 3], image[..., 3])


def test_a_mask_holds_for_all_planes_or_has_planes_of_its_own(folder: Path) -> None:
    stack, masks = image_of((3, 50, 61, 3)), np.random.default_rng(1).random((3, 50, 61)) < 0.5
    one = restorer(folder, "mask")(stack, mask=masks[0])
    each = restorer(folder, "mask")(stack, mask=masks)
    np.testing.assert_allclose(one, stack * ~masks[0][..., None], atol=1e-6)
    np.testing.assert_allclose(each, stack * ~masks[..., None], atol=1e-6)


def test_a_mask_has_the_order_of_the_image_s_axes(folder: Path) -> None:
    image, mask = image_of((61, 3, 2, 50)), np.random.default_rng(1).random((61, 2, 50)) < 0.5
    restored = restorer(folder, "mask")(image, mask=mask, axes="XCZY")
    np.testing.assert_allclose(restored, image * ~mask[:, None], atol=1e-6)
    restored = restorer(folder, "mask")(image, mask=mask[:, 0].T, axes="XCZY")
    np.testing.assert_allclose(restored, image * ~mask[:, None, :1], atol=1e-6)


def test_channels_that_are_planes_may_have_masks_of_their_own(folder: Path) -> None:
    image, mask = image_of((5, 50, 61)), np.random.default_rng(1).random((5, 50, 61)) < 0.5
    restored = restorer(folder, "mask", channels=1)(image, mask=mask, axes="CYX")
    np.testing.assert_allclose(restored[mask], 0 * image[mask] + restored[mask][0], atol=1e-5)
    np.testing.assert_allclose(restored[~mask], image[~mask], atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((50, 62), bool), r"mask must have the shape \(50, 61\) for this image, not \(50, 62\)"),
        (np.zeros((50, 61, 3), bool), r"mask must have the shape \(50, 61\) for this image, not \(50, 61, 3\)"),
        (
            np.zeros((50, 61)),
            "mask must be of booleans or integers, nonzero where the image is to be restored, not of float64",
        ),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(folder: Path, mask: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        restorer(folder, "mask")(image_of((50, 61, 3)), mask=mask)


# The kernel: its first value, once its sum is 1, is added


def test_the_kernel_is_scaled_to_a_sum_of_one_and_never_cut(folder: Path) -> None:
    image, kernel = image_of((75, 61, 3)), np.arange(1, 16).reshape(3, 5).astype(np.uint16)
    np.testing.assert_allclose(restorer(folder, "kernel")(image, kernel=kernel), image + 1 / 120, atol=1e-6)
    large = np.ones((101, 1))
    np.testing.assert_allclose(restorer(folder, "kernel")(image, kernel=large), image + 1 / 101, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.ones((4, 5)), r"\(rows, columns\), both odd, not float64 of shape \(4, 5\)"),
        (np.ones(5), r"both odd, not float64 of shape \(5,\)"),
        (np.ones((0, 3)), r"both odd, not float64 of shape \(0, 3\)"),
        (np.ones((3, 3), complex), "both odd, not complex128"),
        (np.zeros((3, 3)), "finite values whose sum is greater than 0"),
        (np.full((3, 3), np.nan), "finite values"),
        ([["a"]], "array of numbers"),
    ],
)
def test_what_is_no_kernel_is_refused(folder: Path, kernel: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        restorer(folder, "kernel")(image_of((20, 20, 3)), kernel=kernel)


# The reference: it is added


def test_the_reference_is_scaled_by_its_own_dtype(folder: Path) -> None:
    image, reference = image_of((75, 61, 3), np.uint8), image_of((75, 61, 3), np.uint16, seed=1)
    restored = restorer(folder, "reference")(image, reference=reference)
    np.testing.assert_allclose(restored, image + reference / 257.0, atol=1)


def test_a_reference_of_the_image_s_dtype_has_its_values(tmp_path: Path) -> None:
    """Of a grey image of 16 bits that are its percentiles', not those of the part which the reference sees."""
    model = tiny_model(tmp_path, channels=1, extra=("reference",), blur=False, draws=0)
    image = np.linspace(1000, 30000, 64 * 64).reshape(64, 64).astype(np.uint16)
    part = np.where(image < 12000, image, image.min()).astype(np.uint16)
    restored = Restorer(model, device="cpu")(image, reference=part)
    black = 2.0 * image[0, 0] - float(restored[0, 0])  # image and reference are added, from black on
    np.testing.assert_allclose(restored[:20], 2.0 * image[:20] - black, atol=60)


def test_the_reference_of_a_stack_is_a_stack(folder: Path) -> None:
    image, reference = image_of((2, 45, 61, 3)), image_of((2, 45, 61, 3), seed=1)
    restored = restorer(folder, "reference")(image, reference=reference)
    np.testing.assert_allclose(restored, image + reference, atol=1e-6)


def test_only_one_of_image_and_reference_may_have_an_alpha(folder: Path) -> None:
    image, reference = image_of((45, 61, 3)), image_of((45, 61, 4), seed=1)
    restored = restorer(folder, "reference")(image, reference=reference)
    np.testing.assert_allclose(restored, image + reference[..., :3], atol=1e-6)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.zeros((20, 21, 3)), r"reference: its shape \(20, 21, 3\) does not fit the image's \(20, 20, 3\)"),
        (np.zeros((20, 20)), "reference: its shape"),
        (np.zeros((2, 20, 20, 3)), "reference: its shape"),
        (np.full((20, 20, 3), 1j), "reference: the image has dtype complex128"),
    ],
)
def test_a_reference_of_another_size_is_refused(folder: Path, reference: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        restorer(folder, "reference")(image_of((20, 20, 3)), reference=reference)


# All together


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(75, 61, 3), (2, 45, 61)])
def test_the_tiled_result_equals_that_of_the_whole(folder: Path, shape: tuple[int, ...], channels: int) -> None:
    spatial = shape[:2] if shape[-1] == 3 else shape[1:]
    given_: dict[str, Any] = {
        "noise_level": "estimate",
        "mask": np.random.default_rng(1).random(spatial) < 0.3,
        "kernel": np.arange(9.0).reshape(3, 3) + 1,
        "reference": image_of(shape, seed=2),
    }
    tiled, whole = (restorer(folder, *EXTRA, channels=channels, tile=tile) for tile in (28, LARGE))
    np.testing.assert_allclose(tiled(image_of(shape), **given_), whole(image_of(shape), **given_), atol=2e-6)


def test_where_the_model_enlarges_the_mask_has_the_size_of_the_image_and_the_reference_of_the_result(
    folder: Path,
) -> None:
    image, mask = image_of((45, 61, 3)), np.random.default_rng(1).random((45, 61)) < 0.3
    reference = image_of((90, 122, 3), seed=2)
    restored = restorer(folder, "mask", "reference", scale=2)(image, mask=mask, reference=reference)
    expected = (image * ~mask[..., None]).repeat(2, 0).repeat(2, 1) + reference
    np.testing.assert_allclose(restored, expected, atol=1e-6)


def test_a_reference_of_the_small_size_is_refused_where_the_model_enlarges(folder: Path) -> None:
    image = image_of((20, 21, 3))
    with pytest.raises(InputError, match=r"reference: .* pass one of 40 by 42 pixels"):
        restorer(folder, "reference", scale=2)(image, reference=image)


def test_dask_arrays_do_as_well(folder: Path) -> None:
    array = pytest.importorskip("dask.array")
    image, mask = image_of((45, 61, 3)), np.random.default_rng(1).random((45, 61)) < 0.3
    model = restorer(folder, "mask", "reference")
    lazy = model(image, mask=array.from_array(mask, chunks=20), reference=array.from_array(image, chunks=20))
    assert np.array_equal(lazy, model(image, mask=mask, reference=image))


@pytest.mark.parametrize(
    ("extra", "given_", "message"),
    [
        (("noise_level",), (), r'noise-level needs noise_level \(a number in the values of the image, or "estimate"\)'),
        (("mask", "kernel"), ("mask",), r"mask-kernel needs kernel \(the point spread function, of odd sides\)"),
        (("mask", "reference"), (), r"needs mask \(nonzero .*\) and reference \(another image of the same place"),
        ((), ("mask",), "plain takes no mask; leave it out: it takes the image alone"),
        ((), ("kernel", "reference"), "plain takes no kernel and no reference; leave"),
        (("kernel",), ("kernel", "mask"), "kernel takes no mask; leave it out: it takes kernel beside the image"),
    ],
)
def test_what_is_missing_or_not_taken_is_one_line_that_says_what_is_right(
    folder: Path, extra: tuple[str, ...], given_: tuple[str, ...], message: str
) -> None:
    values = {"mask": np.zeros((20, 20), bool), "kernel": np.ones((3, 3)), "reference": image_of((20, 20, 3))}
    with pytest.raises(InputError, match=message) as caught:
        restorer(folder, *extra)(image_of((20, 20, 3)), **{role: values[role] for role in given_})
    assert "\n" not in str(caught.value)


def test_the_function_hands_the_arguments_on(folder: Path) -> None:
    image, model = image_of((20, 20, 3)), restorer(folder, *EXTRA)
    arguments: dict[str, Any] = {"noise_level": 0.1, "mask": np.eye(20, dtype=bool), "kernel": np.ones((3, 3))}
    arguments["reference"] = image
    assert np.array_equal(restore(image, model.model, device="cpu", **arguments), model(image, **arguments))


# What may be left out


def test_a_noise_level_with_a_default_may_be_left_out_but_not_what_has_none(folder: Path) -> None:
    image = image_of((40, 40, 3)) + np.random.default_rng(1).normal(0, 0.1, (40, 40, 3)).astype(np.float32)
    specs = [{"name": role, "role": role} for role in ("image", "x_mask", "x_noise_level")]
    for spec in specs:
        spec["role"] = spec["role"].removeprefix("x_")
    inputs = [*specs[:2], specs[2] | {"default": "estimate"}]
    path = tiny_model(
        folder,
        name="told-by-default",
        extra=("mask", "noise_level"),
        blur=False,
        draws=0,
        metadata={"inputs": inputs},
    )
    run, whole = Restorer(path, device="cpu"), np.zeros((40, 40), bool)
    estimated = run(image, mask=whole, noise_level="estimate")
    np.testing.assert_array_equal(run(image, mask=whole), estimated)
    assert np.abs(run(image, mask=whole, noise_level=0) - estimated).min() > 0.05
    with pytest.raises(InputError, match="needs mask"):
        run(image)


def test_only_a_noise_level_has_a_default() -> None:
    with pytest.raises(ValueError, match="belongs to the role noise_level, not to mask"):
        InputSpec(name="mask", role="mask", default=0)
