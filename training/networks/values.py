"""The values that a network of RDDM works on: the display's, or the logarithm of light, in which a shadow is an offset.

There what takes a share of the light away, whatever lies below it, is the same number everywhere, and smooth: a network
finds it far more easily than the texture times a gain that it is in the display's values.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from restonnx.training.degradations.light import to_display, to_light

Values = Literal["display", "log_light"]
LEAST = 0.002
"""Of light, white being 1: below it the logarithm becomes a line, lest the noise of black be made large."""
SPAN = math.log1p(1 / LEAST)


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
