"""A camera's linear colours as they come out of demosaicking, made from photographs, with the noise of the sensor.

The sensor's colours are sampled as a Bayer or X-Trans mosaic at any phase, noise is added, and the missing colours are
interpolated: each on its own, or red and blue by their difference from green, as better methods do, or anything
between. That spreads the noise over neighbouring pixels and colours in as many ways. What the network sees is the
result after the transform that would make the mosaic's own noise alike everywhere (see `sensor`).

The target is the same mosaic without noise, interpolated alike, not the photograph: so the network learns the noise
and nothing else, a frame without noise has to come out as it went in, and no matter how much better the demosaicking
before it is, it is not sharpened for the blur of this one.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import conv2d, pad

from restonnx.training.degradations.draws import uniform
from restonnx.training.degradations.sensor import Sensor, expected, stabilised

BAYER = ("RGRGRG", "GBGBGB") * 3
XTRANS = ("GBGGRG", "RGRBGB", "GBGGRG", "GRGGBG", "BGBRGR", "GRGGBG")
PERIOD = 6
"""Of both, in pixels."""
NEAR, WIDE = (1.0, 2.0, 1.0), (1.0, 2.0, 3.0, 2.0, 1.0)
BALANCE = (0.25, 4.0)
"""The least and most that a colour's mean may be of green's to be balanced."""


class Linear(Sensor):
    kind: Literal["linear"] = "linear"
    xtrans_share: float = Field(0.6, ge=0, le=1)
    whole_share: float = Field(0.1, ge=0, le=1)
    """Of the frames with all colours at every pixel, as pixel shift and reduction give them."""
    cut_share: float = Field(0.3, ge=0, le=1)
    """Of the frames whose noise below black was cut off before the colours were interpolated."""

    def degrade(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """clean: photographs (N, 3, H, W) in [0, 1] -> clean and noisy colours (N, 3, H, W)."""
        light = self.unprocess(clean, generator)
        noisy, a, b = self.read(light, generator)
        cut = uniform(clean, generator) < self.cut_share
        noisy = noisy.clamp(min=0).where(cut, noisy)
        measured, guided = self._measured(clean, generator), uniform(clean, generator)
        ours, theirs = (interpolated(image, measured, guided) for image in (light, noisy))
        return expected(ours, a, b), stabilised(theirs, a, b)

    def _measured(self, like: Tensor, generator: Generator) -> Tensor:
        """Which colours the sensor measures where: (N, 3, H, W) of 0 and 1."""
        kind, whole = uniform(like, generator), uniform(like, generator) < self.whole_share
        phases = torch.randint(0, PERIOD, (len(like), 2), device=like.device, generator=generator).tolist()
        masks = torch.stack([mask(name, like.device) for name in (BAYER, XTRANS)])
        chosen = masks[(kind < self.xtrans_share).long().flatten()]
        turned = torch.stack([one.roll(phase, (1, 2)) for one, phase in zip(chosen, phases, strict=True)])
        rows, cols = (-(-side // PERIOD) for side in like.shape[2:])
        tiled: Tensor = turned.repeat(1, 1, rows, cols)[..., : like.shape[2], : like.shape[3]]
        return torch.ones_like(tiled).where(whole, tiled)


def mask(pattern: tuple[str, ...], device: torch.device | None = None) -> Tensor:
    """(3, rows, cols) of 0 and 1: where each colour stands in a pattern of letters."""
    planes = [[[float(letter == colour) for letter in row] for row in pattern] for colour in "RGB"]
    return torch.tensor(planes, device=device)


def interpolated(image: Tensor, measured: Tensor, guided: Tensor) -> Tensor:
    """Colours (N, 3, H, W) from those pixels that were measured, which keep their values.

    measured: (N, 3, H, W) of 0 and 1.  guided: (N, 1, 1, 1), 0 interpolates each colour alone; 1 lends green the detail
    of the red or blue that was measured there (Hamilton and Adams 1997, in all directions), and red and blue then by
    their difference from green, all colours having been given the same mean before.
    """
    alone = filled(image, measured)
    means = (image * measured).sum((2, 3), keepdim=True) / measured.sum((2, 3), keepdim=True)
    gains = (means[:, 1:2] / means.clamp(min=1e-6)).clamp(*BALANCE)
    detail = ((image - _around(image, measured)) * gains * measured)[:, ::2].sum(dim=1, keepdim=True)
    green = alone[:, 1:2] + 0.5 * guided * detail.where(measured[:, 1:2] == 0, 0)
    by_green = green / gains + filled(image - green / gains, measured)
    return alone + guided * (by_green - alone)


def filled(image: Tensor, measured: Tensor) -> Tensor:
    """What was not measured as the mean of its nearest measured neighbours: on a Bayer mosaic, bilinear.

    The weights fall off linearly; where a colour is not found among the 8 next pixels, the 24 next are asked.
    """
    near, known = (_smoothed(part, NEAR) for part in (image * measured, measured))
    if not known.all():
        wide, wide_known = (_smoothed(part, WIDE) for part in (image * measured, measured))
        near, known = near.where(known > 0, wide), known.where(known > 0, wide_known)
    return image.where(measured > 0, near / known)


def _around(image: Tensor, measured: Tensor) -> Tensor:
    """Of each pixel the mean of the same colour's pixels about it, itself left out."""
    total, known = (_smoothed(part, WIDE) - WIDE[2] ** 2 * part for part in (image * measured, measured))
    return (total / known).where(known > 0, image)


def _smoothed(image: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Each channel convolved with the outer product of the weights; beyond the edges there is nothing."""
    line = torch.tensor(weights, device=image.device)
    reach = len(weights) // 2
    planes = pad(image, (reach,) * 4).flatten(0, 1)[:, None]
    return conv2d(planes, (line[:, None] * line)[None, None]).view_as(image)
