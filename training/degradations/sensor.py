"""What a camera's sensor gives of a photograph: linear colours, and their noise.

A photograph is led back to the sensor's linear colours (Brooks et al. 2019, arXiv 1811.11127, "Unprocessing": tone
curve, transfer function, colour matrix, white balance, in that order), and the noise of photons and of reading is added
(Foi et al. 2008: variance a x + b, with 0 black and 1 saturation).  What a network sees is that after the transform
which makes the noise alike everywhere: the reading "variance-stabilised" of a model's metadata, which a RAW pipeline
applies at run time with the frame's own noise profile.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from restonnx.model import MosaicSpec
from restonnx.training.degradations.draws import check_rising, log_uniform, normal, uniform
from restonnx.training.degradations.light import to_light

XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
"""Of four cameras, after Brooks et al.; a batch's are convex mixtures of them."""
SRGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
"""IEC 61966-2-1."""


class Sensor(BaseModel):
    """A sensor's settings: what a recipe says of it, whatever is then made of its data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shot: tuple[float, float] = (1e-4, 1.2e-2)
    """a, on a log scale."""
    read_spread: float = Field(0.5, ge=0)
    """Standard deviation of log(b) about the mean that Brooks et al. fitted to phones, 2.18 log(a) + 1.2."""
    exposure: tuple[float, float] = (0.05, 1.25)
    """The light is multiplied by this, on a log scale: dark frames are where noise matters."""
    red: tuple[float, float] = (1.2, 2.6)
    blue: tuple[float, float] = (1.2, 2.6)
    """White balance gains that are taken back."""
    bits: tuple[int, int] = (10, 14)
    """Of the converter, from black to saturation."""

    image_channels: ClassVar[int] = 3
    """Of the photographs that it is made from."""
    mosaic: ClassVar[MosaicSpec] = MosaicSpec(reading="variance-stabilised")

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        check_rising(self, {"shot": 1e-8, "exposure": 1e-4, "red": 0.1, "blue": 0.1, "bits": 4})
        return self

    def unprocess(self, clean: Tensor, generator: Generator) -> Tensor:
        """Display values to the sensor's linear colours (N, 3, H, W), 1 being saturation."""
        toned = 0.5 - torch.sin(torch.asin(1 - 2 * clean.clamp(0, 1)) / 3)
        light = to_light(toned)
        camera = torch.einsum("nij,njhw->nihw", _camera_matrices(clean, generator), light)
        red, blue = uniform(clean, generator, *self.red), uniform(clean, generator, *self.blue)
        gains = torch.cat([red, torch.ones_like(red), blue], dim=1)
        # Where the photograph is white the sensor was saturated, whatever the balance.
        white = ((light.mean(dim=1, keepdim=True) - 0.9).clamp(min=0) / 0.1).square()
        darkened = torch.maximum(camera / gains, white * camera)
        exposed: Tensor = darkened * log_uniform(clean, generator, *self.exposure)
        return exposed.clamp(0, 1)

    def read(self, light: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Light (N, C, H, W) as the converter gives it: noisy, in steps, cut off at saturation alone; a and b."""
        a = log_uniform(light, generator, *self.shot)
        spread = torch.randn(len(a), 1, 1, 1, device=a.device, generator=generator)
        b = (2.18 * a.log() + 1.2 + self.read_spread * spread).exp()
        noisy = light + (a * light + b).sqrt() * normal(light, generator)
        low, high = self.bits
        levels = 2 ** uniform(light, generator, low, high + 1).floor() - 1
        return ((noisy * levels).round() / levels).clamp(max=1), a, b


def stabilised(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The generalised Anscombe transform (Starck, Murtagh and Bijaoui 1998), from 0 at black to 1 at saturation."""

    def root(value: Tensor) -> Tensor:
        return (a * value + 0.375 * a.square() + b).clamp(min=0).sqrt()

    zero = root(torch.zeros_like(a))
    return (root(z) - zero) / (root(torch.ones_like(a)) - zero)


def expected(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The mean of `stabilised` over the noise about x, which the pipeline's inverse undoes without bias."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)  # as many as the inverse has
    deviation = ((a * x).clamp(min=0) + b).sqrt()  # interpolation may undershoot black
    parts = (
        weight * stabilised(x + node * deviation, a, b)
        for node, weight in zip(nodes.tolist(), (weights / math.sqrt(2 * math.pi)).tolist(), strict=True)
    )
    total: Tensor = sum(parts, torch.zeros_like(x))
    return total


def _camera_matrices(like: Tensor, generator: Generator) -> Tensor:
    """(N, 3, 3) from linear sRGB to a camera's colours, white staying white."""
    share = torch.rand(len(like), len(XYZ_TO_CAMERA), device=like.device, generator=generator)
    share = share / share.sum(dim=1, keepdim=True)
    cameras = torch.tensor(XYZ_TO_CAMERA, device=like.device)
    matrices = torch.einsum("nk,kij->nij", share, cameras) @ torch.tensor(SRGB_TO_XYZ, device=like.device)
    return matrices / matrices.sum(dim=2, keepdim=True)
