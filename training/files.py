"""A user's own files, read for training as everything else reads them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restonnx import arrays
from restonnx.errors import InputError
from restonnx.files import explained
from restonnx.images import read
from restonnx.images.picture import to_depth

if TYPE_CHECKING:
    from PIL.Image import Image

DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
"""Modes of Pillow that it would cut off at 255 where it is asked for 8 bits."""


def single(path: Path) -> NDArray[Any]:
    """The image of a file, (H, W, C) of the file's depth; alpha is left out. Raises InputError for stacks, and for
    depths that training does not take."""
    picture = read(path)
    pixels = np.asarray(picture.pixels)
    colour = picture.color_axis
    if pixels.ndim != (2 if colour is None else 3):
        raise InputError(f"{path} holds a stack with the axes {picture.axes}: training takes single images")
    if pixels.dtype not in (np.uint8, np.uint16) and pixels.dtype.kind != "f":
        raise InputError(f"{path} holds {pixels.dtype}: training takes 8 or 16 bits without sign, or floats in [0, 1]")
    return pixels[..., None] if colour is None else np.moveaxis(pixels, colour, -1)


def eight_bits(path: Path) -> Image:
    """The image of a file, of 8 bits. What has more is scaled as `restonnx.restore` scales it: what lies between black
    and white of the file.  Raises InputError as `single` does, and for files that cannot be read."""
    from PIL import Image, UnidentifiedImageError

    with explained(path, "read"), suppress(UnidentifiedImageError), Image.open(path) as opened:
        if opened.mode not in DEEP:
            opened.load()
            return opened
    pixels = single(path)
    if pixels.shape[-1] not in (1, 3):
        raise InputError(f"{path} has {pixels.shape[-1]} channels: training takes grey images and those of colours")
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    scaling = arrays.value_range(pixels, arrays.layout(pixels))
    return Image.fromarray(to_depth(scaling.to_unit(pixels.astype(np.float32)), np.uint8))
