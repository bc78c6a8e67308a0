"""The photograph that comes with restonnx, clean and noisy: scikit-image's coffee (CC0, by Rachel Michetti)."""

from __future__ import annotations

from typing import Any

import numpy as np

from restonnx import noise
from restonnx.library import SHIPPED

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

SHOT, READ = 0.012, 0.0004
"""The noise's variance is SHOT x + READ, x being the display's value from 0 to 1."""
SEED = 2307


def clean() -> Pixels:
    """(320, 480, 3) uint8."""
    from PIL import Image

    with Image.open(SHIPPED / "photograph.webp") as picture:
        return np.array(picture.convert("RGB"))


def noisy() -> Pixels:
    """The same with noise of light and of the sensor, clipped and rounded to 8 bit; always the same."""
    light = clean() / np.float32(255)
    height, width = light.shape[:2]
    drawn = noise.normal(SEED, 1, 3, slice(0, height), slice(0, width))[0].transpose(1, 2, 0)
    seen = light + np.sqrt(SHOT * light + READ) * drawn
    pixels: Pixels = np.rint(seen.clip(0, 1) * 255).astype(np.uint8)
    return pixels
