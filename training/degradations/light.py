"""Display values and the light that they stand for (IEC 61966-2-1), for damage that is done to light."""

from __future__ import annotations

from torch import Tensor


def to_light(display: Tensor) -> Tensor:
    """sRGB values to linear light, both in [0, 1]; what is below 0 counts as 0."""
    display = display.clamp(min=0)
    return (display / 12.92).where(display <= 0.04045, ((display + 0.055) / 1.055) ** 2.4)


def to_display(light: Tensor) -> Tensor:
    """The inverse of `to_light`."""
    light = light.clamp(min=0)
    return (light * 12.92).where(light <= 0.0031308, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
