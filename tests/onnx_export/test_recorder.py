from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import onnx
import onnxruntime
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restonnx.diffusion import traceable
from restonnx.diffusion.blurs import Blur
from restonnx.diffusion.borders import inner
from restonnx.diffusion.data_consistency import first_smooth, next_conjugate
from restonnx.diffusion.operators import Identity, Mask
from restonnx.diffusion.resizing import Downsample
from restonnx.onnx_export.freeze import Port
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.recorder import Noted, Recorder


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.3


def run(function: Callable[..., Noted], *arrays: Tensor) -> Any:
    """The function of noted arrays as a graph, run on those tensors."""
    recorder = Recorder(Builder())
    ports = tuple(
        Port(f"x{n}", "image", tuple(f"L{n}_{axis}" for axis in range(array.ndim))) for n, array in enumerate(arrays)
    )
    noted = [recorder.value(port.name, len(port.shape)) for port in ports]
    result = function(*noted)
    model = recorder.at.model(ports, result.to("float").name, 1)
    shape = [f"axis{n}" for n in range(result.ndim)]
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("restored", onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {port.name: array.numpy() for port, array in zip(ports, arrays, strict=True)})[0]


def both(function: Callable[..., Any], *arrays: Tensor, atol: float = 2e-6) -> None:
    np.testing.assert_allclose(run(function, *arrays), function(*arrays), rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 - x / 3 + x**2 * -x,
        lambda x: np.float64(2) * x + np.float64(1) / (1 + x**2),
        lambda x: x * (x > 0.1) + (x == 0),
        lambda x: x.clip(0.1, 0.2) ** 1.5 - x.clip(1.5, 2) ** x[0, 0, 0, 0],
        lambda x: x[..., 1:] - x[..., :-1],
        lambda x: x[:, 0] * x[:, :1, None][:, 0, 0],
        lambda x: x.flip(-1, -2).swapaxes(-1, -2).permute(1, 0, 3, 2),
        lambda x: x.reshape(x.shape[0], -1).sum(-1).reshape(-1, *[1] * 3),
        lambda x: x.movedim(-1, 1).narrow(2, 1, 2 * (x.shape[-1] // 3)),
        lambda x: x.reshape(-1, x.shape[-1]) @ x[0, 0].swapaxes(0, 1),
    ],
)
def test_what_is_noted_is_what_torch_does(function: Callable[[Any], Any]) -> None:
    both(function, values(2, 3, 4, 5))


def test_the_inner_product_of_a_large_image_keeps_its_digits() -> None:
    image = values(1, 3, 512, 512)
    exact = float(image.double().square().sum())
    assert run(lambda x: inner(x, x), image).item() == pytest.approx(exact, rel=1e-6)


odd = st.integers(0, 6).map(lambda half: 2 * half + 1)


@settings(max_examples=10, deadline=None)
@given(samples=st.integers(1, 2), height=st.integers(1, 4), width=st.integers(1, 4), high=odd, wide=odd)
def test_a_noted_blur_and_its_adjoint_are_the_blur(samples: int, height: int, width: int, high: int, wide: int) -> None:
    x, kernel = values(samples, 2, 4 * height, 4 * width), values(samples, 1, high, wide, seed=1)
    kernel = kernel / kernel.abs().sum((-2, -1), keepdim=True)
    forward = run(lambda x, kernel: traceable.blur(kernel).forward(x), x, kernel)
    adjoint = run(lambda x, kernel: traceable.blur(kernel).adjoint(x), x, kernel)
    np.testing.assert_allclose(forward, Blur(kernel).forward(x), rtol=0, atol=2e-6)
    np.testing.assert_allclose(adjoint, Blur(kernel).adjoint(x), rtol=0, atol=2e-6)


@settings(max_examples=10, deadline=None)
@given(factor=st.integers(2, 4), height=st.integers(1, 5), width=st.integers(1, 5))
def test_noted_downsampling_is_the_downsampling(factor: int, height: int, width: int) -> None:
    small, large = values(2, 3, height, width), values(2, 3, factor * height, factor * width, seed=1)
    forward = run(
        lambda small, large: traceable.downsample(factor, *small.shape[-2:], small).forward(large), small, large
    )
    np.testing.assert_allclose(forward, Downsample(factor).forward(large), rtol=0, atol=2e-6)


@pytest.mark.parametrize("operator", [lambda mask: Mask(mask), lambda mask: Identity()])
def test_closed_forms_and_iterations_are_noted(operator: Callable[[Any], Any]) -> None:
    image, v, mask = values(2, 3, 8, 8), values(2, 3, 8, 8, seed=1), (values(2, 1, 8, 8, seed=2) > 0).float()
    both(lambda image, v, mask: operator(mask).proximal(image * mask, v, 0.3), image, v, mask)

    def smooth(image: Any, mask: Any) -> Any:
        normal, state = first_smooth(operator(mask), image * mask)
        enough = 1e-8 * state[-1]
        for _ in range(3):
            state = next_conjugate(normal, 0.0, state, enough)
        return state[0]

    both(smooth, image, mask, atol=1e-5)


def test_a_noted_loop_ends_when_its_body_says_so() -> None:
    def doubled(x: Noted) -> Noted:
        rec = x.recorder
        body = lambda number, x: (2 * x + 0 * number, (x < 10).any())  # noqa: E731
        return rec.loop(100, [x], body, going=rec.constant(True, "bool"))[0]

    np.testing.assert_array_equal(run(doubled, torch.ones(2, 2)), 32 * np.ones((2, 2)))


def test_a_noted_array_cannot_be_looked_at() -> None:
    with pytest.raises(TypeError, match="no elements yet"):
        list(Recorder(Builder()).value("x", 2))
