"""The prior's network: one pass over a noisy image that is told how noisy it is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from restonnx.training.networks.backbone import SLOPE, Encoder, Head

SIGMA_DATA = 0.5
"""Standard deviation of photographs in [-1, 1]."""
Corrected = Literal["noisy", "shrunk"]
"""What the network's correction is added to: "noisy", the image with its noise, x / sqrt(1 + sigma^2); or "shrunk",
SIGMA_DATA^2 / (sigma^2 + SIGMA_DATA^2) x, the estimate of EDM (Karras et al. 2022, arXiv 2206.00364)."""
FAINT = 0.05
"""Noise below that, in images in [-1, 1], lets the correction of "noisy" fade: there is little to correct."""


class Denoiser(nn.Module):
    """(scaled image, level) -> raw output, to be read through `diffusion.consistency.Preconditioning`.

    scaled: (N, C, H, W), H and W multiples of 2^len(widths).  level: (N, 1, 1, 1), log(sigma) / 4.

    The network sees as further channels (as in Zhang et al. 2018, arXiv 1710.04026, so that they cost nothing beyond
    the first convolution) the level and the noise's standard deviation in the scaled image; and what it gives is
    divided by the latter. So it predicts a correction in the image's own units, as the backbone does, whose weights it
    can start from; the raw output is the noise brought to unit variance, and a gain of 1 / sigma is more than plain
    convolutions with ReLU learn over decades of sigma.

    corrected: see `Corrected`; with "noisy" the weights of a blind denoiser are a good prior from the start
    (docs/notes/priors.md). The default is what the first models have, whose recipes do not say.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: tuple[int, ...] = (32, 64, 128),
        down: tuple[int, ...] = (1, 1, 3),
        up: tuple[int, ...] = (1, 1),
        head_blocks: int = 1,
        relu_out: bool = False,
        slope: float = SLOPE,
        corrected: Corrected = "shrunk",
    ) -> None:
        super().__init__()
        self.corrected = corrected
        self.encoder = Encoder(channels + 2, tuple(widths), tuple(down), tuple(up), slope=slope)
        self.head = Head(channels, widths[0], head_blocks, steps=1, relu_out=relu_out, slope=slope)
        self.channels = channels
        self.multiple = 2 ** len(widths)

    def forward(self, scaled: Tensor, level: Tensor) -> Tensor:
        sigma = torch.exp(4 * level)
        spread = (sigma.square() + SIGMA_DATA**2).sqrt()
        if self.corrected == "shrunk":
            image, amount = SIGMA_DATA / 2 * scaled + 0.5, sigma / spread
            skipped: Tensor | int = 0
            unit = sigma  # what the correction is divided by to become the raw output
        else:
            shrink = (1 + sigma.square()).rsqrt()
            image, amount = spread * shrink / 2 * scaled + 0.5, sigma * shrink
            # shrink x less the estimate of EDM, in units of the raw output; written so that nothing cancels
            skipped = scaled * sigma * (shrink / SIGMA_DATA - SIGMA_DATA * shrink.square() / (1 + shrink))
            unit = (sigma.square() + FAINT**2).sqrt()
        known = torch.cat([amount, level], dim=1).expand(-1, -1, *scaled.shape[-2:])
        features = self.encoder(torch.cat([image, known], dim=1))
        correction: Tensor = self.head(image, features, 0)
        return skipped + 2 / SIGMA_DATA * correction * spread / unit
