"""Whole frames a few rows at a time: what is made on the way is then small, and stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from restonnx.isp.frame import Floats

VALUES = 2**18
"""Of a strip, about."""


def strips(image: Any, multiple: int = 1) -> Iterator[slice]:
    """The rows of an array from top to bottom, so many at a time, a multiple of `multiple` but for the last."""
    values = max(1, int(np.prod(image.shape[1:])))
    rows = max(1, VALUES // values // multiple) * multiple
    for top in range(0, len(image), rows):
        yield slice(top, min(top + rows, len(image)))


def by_rows(function: Callable[..., Any], *images: Any, out: Any = None) -> Floats:
    """function(*images) as float32, for one that makes each pixel of the pixel in the same place alone.

    out: where it is written to, which may be one of the images; by default a new array, as large as the first.
    """
    result: Floats = np.empty(images[0].shape, np.float32) if out is None else out
    for rows in strips(images[0]):
        result[rows] = function(*(image[rows] for image in images))
    return result
