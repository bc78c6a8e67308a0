"""The noise of a sensor, as every task that has some adds it."""

from __future__ import annotations

from torch import Generator, Tensor

from restonnx.training.degradations.draws import normal


def poisson_gaussian(image: Tensor, sigma: Tensor, shot: Tensor, generator: Generator) -> Tensor:
    """Noise of the variance  sigma^2 (shot x / 0.5 + 1 - shot)  after Foi et al. 2008, drawn as Gaussian noise.

    image: (N, C, H, W), black 0 and white 1.  sigma: (N, 1, 1, 1), the standard deviation at mid-grey.
    shot: (N, 1, 1, 1) in [0, 1], the share of shot noise in it; the rest is read noise.
    """
    variance = sigma.square() * (shot * image.clamp(min=0) / 0.5 + 1 - shot)
    return image + variance.sqrt() * normal(image, generator)
