"""The values that a network of RDDM works on: the display's, or the logarithm of light, in which a shadow is an offset.

There what takes a share of the light away, whatever lies below it, is the same number everywhere, and smooth: a network
finds it far more easily than the texture times a gain that it is in the display's values.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from restonnx.training.degradations.light import to_display, to_light

Values = Literal["display", "log_light"]
LEAST = 0.002
"""Of light, white being 1: below it the logarithm becomes a line, lest the noise of black be made large."""
SPAN = math.log1p(1 / LEAST)
NEAR, FAR = 2, 10
"""From where to where the two sides of a shadow's border are compared, in pixels."""
LEAST_AREA = 16
"""Of either side, in pixels, for a comparison."""


def into(image: Tensor, values: Values) -> Tensor:
    """Display values in [-1, 1] as `values`, in [-1, 1] too: for log_light  log(1 + light / LEAST) / SPAN, centred."""
    if values == "display":
        return image
    return 2 / SPAN * torch.log(1 + to_light((image + 1) / 2) / LEAST) - 1


def back(image: Tensor, values: Values) -> Tensor:
    """The inverse of `into`, but for what was below black."""
    if values == "display":
        return image
    return 2 * to_display(LEAST * (torch.exp(SPAN / 2 * (image + 1)) - 1)) - 1


def relit(image: Tensor, lit: Tensor) -> Tensor:
    """The shadow lifted by the mean difference of both sides of its border, per channel and image.

    image: (N, C, H, W) in log_light.  lit: (N, 1, H, W), 1 outside of the shadow and 0 in it.
    Where one of the sides is not to be seen the image stays as it is.
    """
    shaded = 1 - lit
    there, here = (
        side * _grown(other, FAR) * (1 - _grown(other, NEAR)) for side, other in ((lit, shaded), (shaded, lit))
    )
    areas = [side.sum(dim=(2, 3), keepdim=True) for side in (there, here)]
    outside, inside = (
        (side * image).sum(dim=(2, 3), keepdim=True) / area.clamp(min=1)
        for side, area in zip((there, here), areas, strict=True)
    )
    seen = ((areas[0] >= LEAST_AREA) & (areas[1] >= LEAST_AREA)).to(image.dtype)
    soft = F.avg_pool2d(shaded, 5, 1, 2, count_include_pad=False)
    return image + seen * (outside - inside) * soft


def _grown(mask: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(mask, 2 * radius + 1, 1, radius)
