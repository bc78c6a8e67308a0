"""Two cameras side by side: a wide image, and of its middle a sharper one with the longer lens.

The wide image is the scene reduced (`diffusion.resizing.Downsample`), with its noise.  The reference is the scene as
the other camera has it once it was registered and warped onto the large image's pixels: colours that another sensor
and white balance give (as a gain, an offset and a gamma per channel), and what a homography leaves: a smooth error, and
parallax, by which things at other depths are moved (Wang et al. 2021, arXiv 2109.08796).  What the flow then finds of
both is taken back, as in `restonnx.registration`.  Outside its field of view the reference is 0.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx import parallax
from restonnx.diffusion.resizing import Downsample
from restonnx.training.degradations.draws import check_rising, uniform
from restonnx.training.degradations.fields import centred_grid, low_pass, moved, smooth
from restonnx.training.degradations.noise import poisson_gaussian
from restonnx.training.networks.backbone import Guide


class DualCamera(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    guide: ClassVar[Guide] = "reference"

    kind: Literal["dual_camera"] = "dual_camera"
    scale: Literal[2] = 2
    view: Literal["random", "centre"] = "random"
    """Which part of the image the second camera sees: the middle half of its sides, or, as in crops of a larger image,
    everything, nothing, or up to some line."""
    misregistration: float = Field(1.5, ge=0, le=8)
    """Standard deviation of the smooth error that registration leaves, in pixels of the large image, at most."""
    parallax: tuple[float, float] = (0.0, 8.0)
    """By how much things at another depth are moved besides, in pixels of the large image."""
    colour: float = Field(0.04, ge=0, le=0.5)
    """Standard deviation of the difference in gain and in gamma, and a fifth of it in offset, of each channel."""
    noise: tuple[float, float] = (0.0, 5.0)
    """Standard deviation of the wide camera's noise at mid-grey, in 1/255; the other has half of it."""
    softness: tuple[float, float] = (0.01, 0.6)
    """Blur of the reference, in pixels of the large image."""
    flow: bool = False
    """Whether the flow is searched and taken back, on the CPU; else errors are as large as the above say."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, {"parallax": 0.0, "noise": 0.0, "softness": 0.01}, {"parallax": 64.0})
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded, reference); degraded is half as large, none is clipped.

        Odd sides lose their last pixels.
        """
        height, width = (side // self.scale * self.scale for side in clean.shape[-2:])
        clean = clean[..., :height, :width]
        sigma, shot = uniform(clean, generator, *self.noise) / 255, uniform(clean, generator)
        wide = poisson_gaussian(Downsample(self.scale).forward(clean), sigma, shot, generator)
        tele = self._tele(clean, sigma, shot, generator)
        seen = self._seen(clean, generator)
        return clean, wide, _found_again(tele, seen, wide) if self.flow else tele * seen

    def _tele(self, clean: Tensor, sigma: Tensor, shot: Tensor, generator: Generator) -> Tensor:
        most = uniform(clean, generator, 0, self.misregistration)[:, 0]
        down, right = (most * smooth(clean, generator, (80.0, 400.0))[:, 0] for _ in range(2))
        depth = torch.sigmoid(8 * smooth(clean, generator, (40.0, 250.0)))[:, 0]
        angle = uniform(clean, generator, 0, 6.2832)[:, 0]
        low, high = self.parallax
        jump = (low + (high - low) * uniform(clean, generator)[:, 0].square()) * depth
        tele = moved(clean, down + jump * angle.sin(), right + jump * angle.cos())
        tele = low_pass(tele, uniform(clean, generator, *self.softness))
        draws = self.colour * torch.randn(3, *clean.shape[:2], 1, 1, device=clean.device, generator=generator)
        gain, gamma, offset = draws[0].exp(), draws[1].exp(), 0.2 * draws[2]
        tele = gain * tele.clamp(min=1e-4) ** gamma + offset
        return poisson_gaussian(tele, sigma / 2, shot, generator).clamp(1 / 255, 1)

    def _seen(self, like: Tensor, generator: Generator) -> Tensor:
        """(N, 1, H, W): 1 in the second camera's field of view, else 0."""
        y, x = centred_grid(like)
        high, wide = like.shape[-2:]
        if self.view == "centre":
            return ((y.abs() < high / 4) & (x.abs() < wide / 4)).float().expand(len(like), 1, -1, -1)
        seen = torch.ones_like(like[:, :1], dtype=torch.bool)
        for along, side in ((y, high), (x, wide)):  # two in three see all, one in eight nothing, the rest up to a line
            line = uniform(like, generator, -0.75, 1.0) * side
            turned = torch.where(uniform(like, generator) < 0.5, along, -along)
            seen = seen & ((turned > line) | (uniform(like, generator) < 0.77))
        return seen.float()


def _found_again(tele: Tensor, seen: Tensor, wide: Tensor) -> Tensor:
    """Everything moved to where the wide image has it, as far as the flow tells; 0 where it is out of view."""
    scale = tele.shape[-1] // wide.shape[-1]
    grey, other = (image.mean(dim=1).numpy(force=True) for image in (wide, tele))
    flow = np.stack(
        [parallax.flow(*each, scale) for each in zip(grey, other, seen[:, 0].numpy(force=True) > 0, strict=True)]
    )
    right, down = torch.from_numpy(flow).to(tele.device).unbind(dim=1)
    there = moved(seen, down, right) > 0.999
    return moved(tele, down, right, mode="bicubic").clamp(1 / 255, 1) * there
