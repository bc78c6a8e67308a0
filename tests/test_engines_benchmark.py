"""The engines that benchmarks/engines.py compares."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason='the engines need torch: pip install "restonnx[train]"')

from benchmark_modules import load

from restonnx import library


@pytest.mark.slow
def test_single_steps_give_what_the_unrolled_graph_gives() -> None:
    worker, model = load("engine_worker"), library.find("denoise-fast").path
    unrolled, steps = (make(model, 64, 1)() for make in (worker.ort, worker.ort_steps))
    np.testing.assert_allclose(steps, unrolled, atol=1e-4)
