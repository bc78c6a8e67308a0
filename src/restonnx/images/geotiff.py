"""Where the pixels of a GeoTIFF lie on the Earth, for pixels that have become more or fewer.

OGC GeoTIFF 1.1 (19-008r4), 7.1: tie points and the transformation are told in raster coordinates, the scale per pixel.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

SCALE, TIE_POINTS, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
TAGS = frozenset({SCALE, TIE_POINTS, TRANSFORMATION, KEYS, 34736, 34737, 42112, 42113})
"""With the texts and numbers that the keys refer to, and GDAL's."""
RASTER_TYPE, POINT = 1025, 2


def zoomed(code: int, value: Any, keys: Any, zoom: tuple[Fraction, Fraction]) -> Any:
    """The value of the tag `code` for pixels that are `zoom` times higher and wider.

    keys: the file's GeoKeyDirectory (tag 34735), or None.
    """
    tall, wide = (float(times) for times in zoom)
    if (tall, wide) == (1, 1) or code not in (SCALE, TIE_POINTS, TRANSFORMATION):
        return value
    numbers = np.array(value, np.float64)
    # Raster coordinates begin at the first pixel's corner, or at its centre.
    shift = 0.5 if _keys(keys).get(RASTER_TYPE) == POINT else 0.0
    if code == SCALE:
        numbers[:2] /= wide, tall
    elif code == TIE_POINTS:
        points = numbers.reshape(-1, 6)
        points[:, :2] = (points[:, :2] + shift) * (wide, tall) - shift
    else:
        back = np.diag([1 / wide, 1 / tall, 1.0, 1.0])
        back[:2, 3] = shift / wide - shift, shift / tall - shift
        numbers = (numbers.reshape(4, 4) @ back).reshape(-1)
    return tuple(numbers.tolist())


def _keys(directory: Any) -> Mapping[int, int]:
    """Short values by their key."""
    entries = np.array(directory or (), np.int64).reshape(-1, 4)[1:]
    return {int(key): int(value) for key, place, _, value in entries if place == 0}
