"""Small images: bicubic as benchmarks make them, or as cameras and the web do, blurred, noisy and compressed.

The bicubic one is MATLAB's imresize(image, 1 / scale), which is `diffusion.resizing.Downsample`.  The real one follows
the order of Zhang et al. 2021 (arXiv 2103.14006) and Wang et al. 2021 (arXiv 2107.10833) in one pass: compression of
the large file, blur of lens and motion, reduction by any of three kernels, shot and read noise, compression again.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from restonnx.diffusion.blurs import Blur
from restonnx.diffusion.resizing import Downsample
from restonnx.training.degradations.draws import check_rising, log_uniform, uniform
from restonnx.training.degradations.jpeg import jpeg
from restonnx.training.degradations.noise import poisson_gaussian


class SuperResolution(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["super_resolution"] = "super_resolution"
    scale: Literal[2, 4] = 4
    real_share: float = Field(0.0, ge=0, le=1)
    """This share of the samples is blurred, noisy and compressed; the rest is bicubic and nothing else."""
    blur: tuple[float, float] = (0.1, 0.6)
    """Standard deviation of the blur along its axes, in pixels of the small image."""
    noise: tuple[float, float] = (0.5, 15.0)
    """Standard deviation at mid-grey, on a log scale between the two, in 1/255."""
    jpeg_share: float = Field(0.7, ge=0, le=1)
    """Of the real samples, what is compressed once small."""
    jpeg_quality: tuple[float, float] = (40.0, 95.0)
    large_jpeg_share: float = Field(0.3, ge=0, le=1)
    """Of the real samples, what was compressed while it was large."""
    large_jpeg_quality: tuple[float, float] = (50.0, 95.0)

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        least = {"blur": 0.01, "noise": 0.01, "jpeg_quality": 1.0, "large_jpeg_quality": 1.0}
        check_rising(self, least)
        return self

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean (N, C, H, W) in [0, 1] -> (clean, degraded), the second (N, C, H / scale, W / scale), not clipped.

        Sides that are no multiples of the scale lose their last pixels.
        """
        height, width = (side // self.scale * self.scale for side in clean.shape[-2:])
        clean = clean[..., :height, :width]
        degraded: Tensor = Downsample(self.scale).forward(clean)
        real = uniform(clean, generator) < self.real_share
        if bool(real.any()):
            # All of them, so that what one sample becomes does not hang on the others.
            degraded = torch.where(real, self._like_a_file(clean, generator), degraded)
        return clean, degraded

    def _like_a_file(self, clean: Tensor, generator: Generator) -> Tensor:
        large = _compressed(clean, self.large_jpeg_share, self.large_jpeg_quality, generator)
        blurred: Tensor = Blur(self._kernels(clean, generator)).forward(large)
        small = self._reduced(blurred, generator)
        sigma = log_uniform(clean, generator, *self.noise) / 255
        shot = uniform(clean, generator)
        noisy = poisson_gaussian(small, sigma, shot, generator).clamp(0, 1)
        return _compressed(noisy, self.jpeg_share, self.jpeg_quality, generator)

    def _kernels(self, like: Tensor, generator: Generator) -> Tensor:
        """(N, 1, k, k): Gaussians of two widths, turned at random."""
        reach = 1 + int(3 * self.blur[1] * self.scale)
        across, along, angle = (uniform(like, generator) for _ in range(3))
        low, high = (edge * self.scale for edge in self.blur)
        across, along = (low + (high - low) * share for share in (across, along))
        y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1, device=like.device)] * 2, indexing="ij")
        cos, sin = (torch.pi * angle).cos(), (torch.pi * angle).sin()
        exponent = ((x * cos + y * sin) / along).square() + ((y * cos - x * sin) / across).square()
        kernels = (-exponent / 2).exp()
        return kernels / kernels.sum(dim=(-2, -1), keepdim=True)

    def _reduced(self, blurred: Tensor, generator: Generator) -> Tensor:
        """By bicubic, area or bilinear reduction, each as likely."""
        which = uniform(blurred, generator)
        size = [side // self.scale for side in blurred.shape[-2:]]
        bicubic: Tensor = Downsample(self.scale).forward(blurred)
        bilinear = F.interpolate(blurred, size, mode="bilinear", antialias=True, align_corners=False)
        area = F.avg_pool2d(blurred, self.scale)
        return torch.where(which < 1 / 3, bicubic, torch.where(which < 2 / 3, area, bilinear))


def _compressed(image: Tensor, share: float, quality: tuple[float, float], generator: Generator) -> Tensor:
    """This share of the samples after JPEG of a quality between the two."""
    chosen = uniform(image, generator) < share
    qualities = uniform(image, generator, *quality).flatten()
    return torch.where(chosen, jpeg(image, qualities), image)
