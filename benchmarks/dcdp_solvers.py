"""DCDP as published, and the prior that everything in `inverse_problems.py` shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restonnx import Restorer
from restonnx.diffusion import purify
from restonnx.diffusion.data_consistency import descend
from restonnx.diffusion.dcdp import dcdp, time_schedule
from restonnx.training import checkpoint

Floats = NDArray[np.float32]
SEED = 0


class Prior:
    """A prior in torch and in ONNX Runtime, each with one thread; counts how often it was asked and differentiated."""

    def __init__(self, name: str) -> None:
        """name: in the library, or the path of an .onnx file, which holds the weights for torch too."""
        self.forwards, self.backwards = 0, 0
        self.onnx_runtime = Restorer(name, device="cpu", threads=1)
        self.file = self.onnx_runtime.model
        loaded = checkpoint.load(self.file.path)
        reading = loaded.recipe.sampler.preconditioning()
        self.sigmas = reading.sigma_min, reading.sigma_max
        self._denoise = reading.denoiser(loaded.build().requires_grad_(False))
        # The same Restorer with torch in the place of its session, so that `solve` runs in both.
        self.torch = Restorer(self.file, device="cpu", threads=1)
        run = self.onnx_runtime._session.run
        self.onnx_runtime._session.run = lambda feeds, cancel=None, **more: self._counted(run(feeds, cancel, **more))
        self.torch._session.run = self._in_torch

    def denoise(self, x: Tensor, sigma: Any) -> Tensor:
        """In torch, on [-1, 1]."""
        clean = self._counted(self._denoise(x, sigma))
        if clean.requires_grad:
            clean.register_hook(self._differentiated)
        return clean

    def _counted(self, clean: Any) -> Any:
        self.forwards += 1
        return clean

    def _differentiated(self, _: Tensor) -> None:
        self.backwards += 1

    def _in_torch(self, feeds: Mapping[str, Floats], cancel: Any = None, **_: Any) -> Floats:
        image, level = (torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in ("image", "noise_level"))
        with torch.no_grad():
            clean: Floats = self.denoise(image, level.flatten()).numpy()
        return clean


@dataclass(frozen=True)
class Published:
    """A configuration of the published code."""

    rounds: int
    first: int
    """T of the first round, of 1000 steps; the last is 1."""
    iterations: int
    """Of gradient descent with momentum 0.9, in each round."""
    step: float
    """On ||A x - y||^2 / 2: twice the learning rate over the elements of the published measurement."""


PUBLISHED = {
    "SR x4": Published(10, 400, 100, 2e3 / (3 * 64 * 64)),
    "Gaussian deblurring": Published(10, 400, 100, 2e5 / (3 * 256 * 256)),
    "motion deblurring": Published(10, 400, 100, 2e5 / (3 * 256 * 256)),
    "box inpainting": Published(20, 700, 50, 2e3 / (3 * 256 * 256)),
}
NEAREST = PUBLISHED["box inpainting"]
"""For random inpainting and denoising, which have no published configuration."""


def published(measurement: Tensor, operator: Any, prior: Prior, task: str, *, ddim_steps: int | None = None) -> Tensor:
    """DCDP in its authors' settings (arXiv 2403.06054): the image as last purified, (N, C, H, W) in [-1, 1].

    ddim_steps: of the purification; None: Tweedie's formula, one step.
    """
    setting = PUBLISHED.get(task, NEAREST)
    abar = purify.linear_abar()
    low, high = prior.sigmas
    eps = purify.eps_from(lambda x, sigma: prior.denoise(x, min(max(sigma, low), high)), abar)
    purifier = purify.Ddim(eps, abar, ddim_steps) if ddim_steps else purify.Tweedie(eps, abar)
    start = torch.zeros_like(operator.adjoint(measurement))
    draw = torch.Generator().manual_seed(SEED)
    noise = [torch.randn(start.shape, generator=draw) for _ in range(setting.rounds)]

    def fit(v: Tensor, _: int) -> Tensor:
        fitted: Tensor = descend(operator, measurement, v, steps=setting.iterations, step=setting.step)
        return fitted

    with torch.no_grad():
        result: Tensor = dcdp(start, fit, purifier, time_schedule(setting.rounds, setting.first, 0), noise).purified
    return result
