from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restonnx.diffusion import operators
from restonnx.diffusion.blurs import Blur, CircularBlur, gaussian_kernel, motion_kernel
from restonnx.diffusion.borders import BORDERS, extend, fold
from restonnx.diffusion.operators import (
    Chain,
    Crop,
    CustomOperator,
    Decoded,
    Differentiable,
    Identity,
    Mask,
    PhaseRetrieval,
    box_mask,
    linearize,
    random_mask,
)
from restonnx.diffusion.resizing import Downsample, bicubic_taps

LIBRARIES = ("numpy", "torch")
sides = st.integers(2, 40)
shapes = st.tuples(st.integers(1, 2), st.sampled_from([1, 3]), sides, sides)


def values(*shape: int, seed: int = 0, library: str = "numpy") -> Any:
    drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return pytest.importorskip("torch").from_numpy(drawn) if library == "torch" else drawn


def positive(*shape: int, seed: int = 0) -> Any:
    kernel = np.random.default_rng(seed).random(shape).astype(np.float32)
    return kernel / kernel.sum((-2, -1), keepdims=True)


@st.composite
def linear_operators(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
    """Any linear operator, and the shape of an image that it takes."""
    shape = draw(shapes)
    high, wide = shape[2:]
    seed = draw(st.integers(0, 99))
    kernel = positive(draw(st.integers(1, 9)), draw(st.integers(1, 9)), seed=seed)
    large = positive(61, 61, seed=seed)
    each = positive(shape[0], 1, 5, 3, seed=seed)
    factor = draw(st.integers(1, 6))
    kinds = {
        "identity": Identity(),
        "box": Mask(box_mask(high, wide, 0, high // 2, wide // 3, wide)),
        "random": Mask(random_mask(np.random.default_rng(seed).random((high, wide)), draw(st.floats(0, 1)))),
        "soft mask": Mask(positive(shape[0], 1, high, wide, seed=seed)),
        "blur": Blur(kernel),
        "large blur": Blur(large),
        "a blur for each": Blur(each),
        "circular": CircularBlur(kernel),
        "large circular": CircularBlur(large),
        "a circular blur for each": CircularBlur(each),
        "bicubic": Downsample(factor, (high, wide)),
        "centred": Downsample(factor, (high, wide), centred=True),
        "crop": Crop(0, high // 3, wide // 4, wide // 4),
        "chain": Chain((Blur(kernel), Downsample(factor, (high, wide)))),
        "custom": CustomOperator(lambda x: 3 * x.swapaxes(-1, -2), lambda u: 3 * u.swapaxes(-1, -2)),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))], shape


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=150)
@given(drawn=linear_operators(), seed=st.integers(0, 99))
def test_the_adjoint_is_the_transpose(library: str, drawn: tuple[Any, tuple[int, ...]], seed: int) -> None:
    operator, shape = drawn
    x = values(*shape, seed=seed, library=library)
    measured = operator.forward(x)
    u = values(*measured.shape, seed=seed + 1, library=library)
    back = operator.adjoint(u)
    assert back.shape == x.shape
    assert measured.dtype == back.dtype == x.dtype
    one, other = (float(np.vdot(np.asarray(a, np.float64), np.asarray(b))) for a, b in ((measured, u), (x, back)))
    scale = float(np.linalg.norm(measured) * np.linalg.norm(u)) + float(np.linalg.norm(x) * np.linalg.norm(back))
    assert abs(one - other) <= 1e-5 * scale + 1e-9


@settings(max_examples=100)
@given(drawn=linear_operators())
def test_numpy_and_torch_measure_the_same(drawn: tuple[Any, tuple[int, ...]]) -> None:
    operator, shape = drawn
    x = values(*shape)
    found = operator.forward(x)
    np.testing.assert_allclose(operator.forward(values(*shape, library="torch")), found, atol=2e-6)
    u = values(*found.shape, seed=1, library="torch")
    np.testing.assert_allclose(operator.adjoint(u), operator.adjoint(np.asarray(u)), atol=2e-6)


@given(st.integers(2, 20), st.integers(0, 45), st.integers(0, 45), st.sampled_from(BORDERS))
def test_borders_show_the_image_over_and_over_mirrored_or_not(
    length: int, before: int, after: int, border: str
) -> None:
    x = values(2, length)
    if border == "circular" and max(before, after) > length:
        with pytest.raises(ValueError, match="needs as many"):
            extend(x, before, after, border)
        return
    there = np.arange(length)
    period = {"circular": there, "symmetric": np.r_[there, there[::-1]], "reflect": np.r_[there, there[-2:0:-1]]}[
        border
    ]
    places = period[np.arange(-before, length + after) % len(period)]
    np.testing.assert_array_equal(extend(x, before, after, border), x[:, places])
    y = values(2, length + before + after, seed=1)
    products = (extend(x, before, after, border) * y).sum(), (x * fold(y, before, after, border)).sum()
    np.testing.assert_allclose(*products, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", [(3, 3), (4, 5), (21, 21), (61, 61)])
def test_a_blur_is_a_correlation_with_a_mirrored_border(size: tuple[int, int], library: str) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    kernel, x = positive(*size), values(1, 2, 33, 40)
    for operator, mode in ((Blur(kernel), "mirror"), (CircularBlur(kernel), "wrap")):
        expected = [[ndimage.correlate(plane.astype(float), kernel, mode=mode) for plane in x[0]]]
        found = operator.forward(values(1, 2, 33, 40, library=library))
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(16, 24), (18, 21), (7, 5), (40, 33)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_downsampling_equals_pillows_bicubic_inside(shape: tuple[int, int], factor: int) -> None:
    image = pytest.importorskip("PIL.Image")
    reach = 2  # output pixels whose window crosses the border, where Pillow cuts the cubic off instead of mirroring
    x = values(*shape)
    found = Downsample(factor).forward(x[None, None])[0, 0]
    assert found.shape == tuple(-(-side // factor) for side in shape)
    high, wide = (side // factor * factor for side in shape)
    size = (wide // factor, high // factor)
    expected = np.asarray(image.fromarray(x[:high, :wide]).resize(size, image.Resampling.BICUBIC))
    inside = slice(reach, size[1] - reach), slice(reach, size[0] - reach)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("offset", [0.0, 0.5, -1.0])
def test_bicubic_weights_keep_a_ramp(factor: int, offset: float) -> None:
    first, taps = bicubic_taps(factor, offset)
    assert taps.sum() == pytest.approx(1)
    assert (taps * (first + np.arange(len(taps)))).sum() == pytest.approx((factor - 1) / 2 + offset)


def test_a_centred_down_sampling_keeps_the_middle_of_an_image_whose_side_is_no_multiple() -> None:
    x = values(1, 1, 13, 13)
    symmetric = x + x[..., ::-1]
    found = Downsample(4, centred=True).forward(symmetric)
    np.testing.assert_allclose(found, found[..., ::-1], atol=1e-5)
    assert np.abs(Downsample(4).forward(symmetric) - found).max() > 0.01


@settings(max_examples=60)
@given(drawn=linear_operators(), rho=st.floats(0.01, 10))
def test_the_closed_form_is_the_minimum(drawn: tuple[Any, tuple[int, ...]], rho: float) -> None:
    operator, shape = drawn
    if not hasattr(operator, "proximal"):
        return
    v = values(*shape, seed=2)
    y = operator.forward(values(*shape, seed=3))
    for library in LIBRARIES:
        ours = [values(*shape, seed=2, library=library), operator.forward(values(*shape, seed=3, library=library))]
        x = np.asarray(operator.proximal(ours[1], ours[0], rho))
        slope = operator.adjoint(operator.forward(x) - y) + rho * (x - v)
        np.testing.assert_allclose(slope, 0, atol=2e-5 * max(1, rho))


def test_a_missing_pixel_keeps_the_priors_value_even_where_the_prior_has_no_weight() -> None:
    mask, v, y = box_mask(4, 4, 1, 3, 1, 3), values(1, 1, 4, 4), values(1, 1, 4, 4, seed=1)
    x = Mask(mask).proximal(y * mask, v, 0.0)
    np.testing.assert_allclose(x, np.where(mask == 1, y, v), atol=1e-6)
    np.testing.assert_array_equal(x[..., mask == 0], v[..., mask == 0])


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.92, 1.0])
def test_a_random_mask_misses_its_share_of_pixels(missing: float) -> None:
    mask = random_mask(np.random.default_rng(0).random((20, 30)), missing)
    assert (mask == 0).sum() == int(600 * missing)
    assert set(np.unique(mask)) <= {0, 1}
    with pytest.raises(ValueError, match="from 0 to 1"):
        random_mask(np.zeros((2, 2)), 1.5)


@pytest.mark.parametrize("size", [5, 9, 31, 61])
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_motion_kernels_are_centred_and_sum_to_one_at_any_size(size: int, intensity: float) -> None:
    seen = []
    for seed in range(5):
        kernel = motion_kernel(size, intensity, np.random.default_rng(seed))
        assert kernel.shape == (size, size)
        assert kernel.dtype == np.float32
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(kernel, motion_kernel(size, intensity, np.random.default_rng(seed)))
        seen.append(kernel)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


@pytest.mark.parametrize(("size", "sigma"), [(61, 3.0), (9, 1.5), (5, 4.0), (8, 1.0)])
def test_gaussian_kernels_are_those_of_scipy(size: int, sigma: float) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    point = np.zeros((size, size))
    point[size // 2, size // 2] = 1
    np.testing.assert_allclose(gaussian_kernel(size, sigma), ndimage.gaussian_filter(point, sigma), atol=1e-7)


@pytest.mark.parametrize("pad", [0, 3, 8])
def test_the_gradient_of_phase_retrieval_is_that_of_autograd(pad: int) -> None:
    pytest.importorskip("torch")
    x, operator = values(2, 1, 8, 10, library="torch"), PhaseRetrieval(pad)
    modulus, pull_back = operator.linearize(x)
    expected, expected_pull_back = Differentiable(operator.forward).linearize(x)
    np.testing.assert_allclose(modulus, expected, atol=1e-6)
    u = values(*modulus.shape, seed=1, library="torch")
    np.testing.assert_allclose(pull_back(u), expected_pull_back(u), atol=1e-5)
    in_numpy = operator.linearize(np.asarray(x))
    assert in_numpy[0].dtype == np.float32
    np.testing.assert_allclose(in_numpy[1](np.asarray(u)), pull_back(u), atol=1e-5)
    assert np.isfinite(operator.linearize(0 * np.asarray(x))[1](np.asarray(u))).all()


def test_the_derivative_of_a_decoded_measurement_goes_through_decoder_and_operator() -> None:
    torch = pytest.importorskip("torch")
    z, blur = values(1, 1, 6, 6, library="torch"), Blur(positive(3, 3))
    measured, pull_back = linearize(Decoded(blur, torch.tanh), z)
    np.testing.assert_allclose(measured, blur.forward(torch.tanh(z)))
    u = values(1, 1, 6, 6, seed=1, library="torch")
    np.testing.assert_allclose(pull_back(u), blur.adjoint(u) * (1 - torch.tanh(z) ** 2), atol=1e-6)
    with pytest.raises(ValueError, match="torch tensors"):
        linearize(Decoded(blur, np.tanh), np.asarray(z))


@pytest.mark.parametrize(
    "operator",
    [
        Identity(),
        Mask(box_mask(16, 16, 2, 5, 3, 9)),
        Blur(positive(5, 5)),
        Blur(positive(17, 17)),
        Downsample(4),
        Downsample(3, (16, 16)),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_every_operator_can_be_exported(operator: Any) -> None:
    torch = pytest.importorskip("torch")

    class Squared(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return operator.adjoint(operator.forward(x))

    x = values(2, 3, 16, 16, library="torch")
    program = torch.export.export(Squared(), (x,), dynamic_shapes=({0: torch.export.Dim("N")},))
    other = values(5, 3, 16, 16, seed=1, library="torch")
    np.testing.assert_allclose(program.module()(other), Squared()(other), atol=2e-6)


@pytest.mark.parametrize("kernel_shape", [(5, 5), (1, 1, 5, 5)])
def test_a_kernel_can_be_an_input_of_the_exported_graph(kernel_shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")

    class Blurred(torch.nn.Module):
        def forward(self, x: Any, kernel: Any) -> Any:
            return Blur(kernel).adjoint(Blur(kernel).forward(x))

    inputs = values(1, 3, 16, 20, library="torch"), torch.from_numpy(positive(*kernel_shape))
    program = torch.export.export(Blurred(), inputs)
    np.testing.assert_allclose(program.module()(*inputs), Blurred()(*inputs), atol=2e-6)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    image = values(1, 1, 10, 10)
    with pytest.raises(ValueError, match="pass the image's shape"):
        Downsample(4, (13, 13)).adjoint(values(1, 1, 3, 3))
    with pytest.raises(ValueError, match="for images of"):
        Downsample(4, (13, 13)).forward(image)
    with pytest.raises(ValueError, match="at least 1"):
        Downsample(0)
    with pytest.raises(ValueError, match="kh, kw"):
        Blur(np.ones(3))
    with pytest.raises(ValueError, match="nothing to reflect"):
        Blur(positive(3, 3)).forward(values(1, 1, 1, 5))
    with pytest.raises(ValueError, match="reflect, symmetric, circular"):
        extend(image, 1, 1, "zero")
    with pytest.raises(ValueError, match="from 0 to 1"):
        motion_kernel(9, 2.0, np.random.default_rng(0))
    assert operators.Crop(1, 2, 3, 4).forward(image).shape == (1, 1, 7, 3)
