"""How far estimates are from the clean image: of one of them, and of two draws as a distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_SQUARE = 1e-7
"""Added to a mean square before its logarithm or root: of images in [0, 1] some 70 dB."""

WINDOWS = (1, 4, 16)
"""Sides of the squares of pixels of which `energy_score` takes distances."""


def distance(estimate: Tensor, wanted: Tensor, loss: str) -> Tensor:
    """The mean over everything of |d|, d^2 or sqrt(d^2 + 0.001^2), d = estimate - wanted; for psnr, over the samples of
    log(mean d^2), which is -0.23 times their PSNR in dB but for a constant."""
    difference = estimate - wanted
    if loss == "l1":
        return difference.abs().mean()
    if loss == "l2":
        return difference.square().mean()
    if loss == "psnr":
        return (difference.square().flatten(1).mean(dim=1) + LEAST_SQUARE).log().mean()
    return (difference.square() + 1e-6).sqrt().mean()


def energy_score(one: Tensor, other: Tensor, clean: Tensor) -> Tensor:
    """(d(one, clean) + d(other, clean) - d(one, other)) / 2, d being how far squares of pixels are apart.

    one, other: two draws of the chain, (N, C, H, W).  The expected score is least where draws are spread as the truth
    is (Gneiting and Raftery 2007, doi 10.1198/016214506000001437, section 4.3): around its mean, as far as it is
    uncertain, the pixels of a square together.  d: the root of a square's mean square, averaged over all of `WINDOWS`.
    """

    def apart(a: Tensor, b: Tensor) -> Tensor:
        square = (a - b).square().mean(dim=1, keepdim=True)
        means = [F.avg_pool2d(square, side) for side in WINDOWS]
        return torch.stack([(mean + LEAST_SQUARE).sqrt().mean() for mean in means]).mean()

    return (apart(one, clean) + apart(other, clean) - apart(one, other)) / 2
