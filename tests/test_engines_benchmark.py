"""The engines that benchmarks/engines.py compares."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason='the engines need torch: pip install "restonnx[train]"')

from benchmark_modules import load

from restonnx import library
from restonnx.providers import cuda_problem


@pytest.mark.slow
def test_single_steps_give_what_the_unrolled_graph_gives() -> None:
    worker, model = load("engine_worker"), library.find("denoise-fast").path
    unrolled, steps = (make(model, 64, 1)() for make in (worker.whole, worker.ort_steps))
    np.testing.assert_allclose(steps, unrolled, atol=1e-4)


def test_graphs_of_one_size_and_steps_in_torch_give_what_restonnx_gives() -> None:
    """What the engines on CUDA do, on the CPU."""
    feeds, cuda, model = load("engine_feeds"), load("engine_cuda"), library.find("denoise-fast").path
    expected = feeds.whole(model, 64, 1)()
    plain = cuda.bound(model, 64, {}, device="cpu")()
    np.testing.assert_allclose(feeds.on_host(plain), expected, atol=1e-5)
    steps = cuda.torch_steps(model, 64, half=False, device="cpu")()
    np.testing.assert_allclose(feeds.on_host(steps), expected, atol=1e-5)
    half = feeds.on_host(cuda.bound(model, 64, {}, half=True, device="cpu")())
    assert 1e-6 < np.abs(half - expected).max() < 0.02


def test_engines_on_cuda_say_why_they_are_left_out() -> None:
    if cuda_problem() is None:
        pytest.skip("CUDA runs here")
    cuda, model = load("engine_cuda"), library.find("denoise-fast").path
    with pytest.raises(SystemExit, match=r"driver|CUDA"):
        cuda.EVERY["cuda-half-nhwc-graph"](model, 64, 1)
    with pytest.raises(SystemExit, match="no CUDA device"):
        cuda.EVERY["torch-cuda-half"](model, 64, 1)
