"""How far estimates are from the clean image: of one of them, and of two draws as a distribution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_SQUARE = 1e-7
"""Added to a mean square before its logarithm or root: of images in [0, 1] some 70 dB."""

WINDOWS = (1, 4, 16)
"""Sides of the squares of pixels of which `energy_score` takes distances."""
MEANS = (8, 32, 128)
"""Sides of those of whose mean colours."""


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
    uncertain, the pixels of a square together.  d: the root of a square's mean square, averaged over all of `WINDOWS`,
    and how far the mean colours of squares are apart, over all of `MEANS`. The latter because the former hardly shows
    whether many pixels vary together (Pinson and Tastu 2013, Discrimination ability of the energy score).
    """

    def apart(a: Tensor, b: Tensor) -> Tensor:
        difference = a - b
        square = difference.square()
        pools = [F.avg_pool2d(square, side) for side in WINDOWS]
        pools += [F.avg_pool2d(difference, min(side, *a.shape[2:])).square() for side in MEANS]
        return torch.stack([(pool.mean(dim=1) + LEAST_SQUARE).sqrt().mean() for pool in pools]).mean()

    return (apart(one, clean) + apart(other, clean) - apart(one, other)) / 2
