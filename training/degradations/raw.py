"""Bayer mosaics as a sensor gives them, made from photographs, with its noise.

What the network sees is the mosaic packed into four planes, red, green beside red, green beside blue, blue, after the
transform that makes the noise alike everywhere (see `sensor`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from restonnx.training.degradations.sensor import Sensor, expected, stabilised


class Raw(Sensor):
    kind: Literal["raw"] = "raw"

    packing: ClassVar[int] = 2
    """How many times smaller than the photograph the planes are."""

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean: photographs (N, 3, H, W) in [0, 1], H and W even -> clean and noisy planes (N, 4, H/2, W/2)."""
        planes = pack(self.unprocess(clean, generator))
        noisy, a, b = self.read(planes, generator)
        return expected(planes, a, b), stabilised(noisy, a, b)


def pack(image: Tensor) -> Tensor:
    """Colours (N, 3, H, W) to the planes of their RGGB mosaic (N, 4, H/2, W/2)."""
    red, green, blue = image.unbind(dim=1)
    planes = (red[:, ::2, ::2], green[:, ::2, 1::2], green[:, 1::2, ::2], blue[:, 1::2, 1::2])
    return torch.stack(planes, dim=1)
