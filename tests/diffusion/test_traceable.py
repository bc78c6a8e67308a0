from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restonnx.diffusion import traceable
from restonnx.diffusion.blurs import Blur
from restonnx.diffusion.resizing import Downsample

CLOSE = {"rtol": 0, "atol": 2e-6}
odd = st.integers(0, 12).map(lambda half: 2 * half + 1)


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 3), height=st.integers(1, 6), width=st.integers(1, 6), high=odd, wide=odd)
def test_the_blur_by_phases_is_the_blur(samples: int, height: int, width: int, high: int, wide: int) -> None:
    x, kernel = values(samples, 2, 4 * height, 4 * width), values(samples, 1, high, wide, seed=1)
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    found, expected = traceable.blur(kernel), Blur(kernel)
    np.testing.assert_allclose(found.forward(x), expected.forward(x), **CLOSE)
    np.testing.assert_allclose(found.adjoint(x), expected.adjoint(x), **CLOSE)


@settings(max_examples=25, deadline=None)
@given(factor=st.integers(2, 5), height=st.integers(1, 7), width=st.integers(1, 7))
def test_the_matrices_of_downsampling_are_the_downsampling(factor: int, height: int, width: int) -> None:
    small, large = values(2, 3, height, width), values(2, 3, factor * height, factor * width, seed=1)
    found, expected = traceable.downsample(factor, height, width, small), Downsample(factor)
    np.testing.assert_allclose(found.forward(large), expected.forward(large), **CLOSE)
    np.testing.assert_allclose(found.adjoint(small), expected.adjoint(small), **CLOSE)
