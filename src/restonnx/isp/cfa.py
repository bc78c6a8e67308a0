"""Mosaics: which colour stands where, and a Bayer mosaic as four planes, whatever its phase."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from restonnx.arrays import to_dtype
from restonnx.errors import InputError
from restonnx.isp.frame import Floats, Pattern, pattern_name
from restonnx.isp.strips import strips

RGGB_COLOURS = (0, 1, 1, 2)
"""Of the four planes of `pack`."""


def sites(pattern: Pattern) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Each place of the pattern, row by row: its colour, and the pixels that stand there."""
    for y, row in enumerate(pattern):
        for x, colour in enumerate(row):
            yield colour, (slice(y, None, len(pattern)), slice(x, None, len(row)))


def spread(values: tuple[float, ...], pattern: Pattern | None) -> Any:
    """One value for each place of the pattern, or each channel: what broadcasts onto the pixels of one period.

    (period rows, period columns) with a pattern, else (channels,).
    """
    if pattern is None:
        return np.asarray(values, np.float32)
    shape = len(pattern), len(pattern[0])
    return np.broadcast_to(np.asarray(values, np.float32).reshape(shape if len(values) > 1 else (1, 1)), shape)


def to_unit(raw: Any, pattern: Pattern | None, black: tuple[float, ...], white: tuple[float, ...]) -> Floats:
    """The file's numbers as float32 with 0 black and 1 saturation."""
    low, high = spread(black, pattern), spread(white, pattern)
    if pattern is None:
        colours = np.array(raw, np.float32, order="C")
        colours -= low
        colours /= high - low
        return colours
    unit = np.empty(raw.shape, np.float32)
    for n, (_, where) in enumerate(sites(pattern)):
        unit[where] = (raw[where].astype(np.float32) - low.flat[n]) / (high.flat[n] - low.flat[n])
    return unit


def in_numbers(unit: Floats, pattern: Pattern | None, black: tuple[float, ...], white: tuple[float, ...]) -> Floats:
    """The inverse, in the file's numbers, as float32."""
    low, high = spread(black, pattern), spread(white, pattern)
    if pattern is None:
        return np.ascontiguousarray(unit * (high - low) + low)
    numbers = np.empty(unit.shape, np.float32)
    for n, (_, where) in enumerate(sites(pattern)):
        numbers[where] = unit[where] * (high.flat[n] - low.flat[n]) + low.flat[n]
    return numbers


def from_unit(unit: Floats, pattern: Pattern | None, black: tuple[float, ...], white: tuple[float, ...]) -> Any:
    """The inverse as uint16, rounded, and clipped to what 16 bits hold. What `to_unit` gave comes back exactly."""
    pixels = np.empty(unit.shape, np.uint16)
    for rows in strips(unit, multiple=1 if pattern is None else len(pattern)):
        pixels[rows] = to_dtype(in_numbers(unit[rows], pattern, black, white), pixels.dtype)
    return pixels


def pack(image: Floats, pattern: Pattern) -> Floats:
    """A Bayer mosaic (H, W) as planes (4, h, w): red, green beside red, green beside blue, blue.

    Where the mosaic does not begin with red or ends within a period it is mirrored by one row or column, which keeps
    the colours in their places. Raises InputError for other mosaics.
    """
    top, left = _before_red(pattern)
    border = ((top, (image.shape[0] + top) % 2), (left, (image.shape[1] + left) % 2))
    if min(image.shape) < 2:
        raise InputError(f"a mosaic has at least 2 rows and columns, not {image.shape}")
    padded = np.pad(image, border, mode="reflect")
    planes = [padded[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    return np.stack(planes)


def unpack(planes: Floats, pattern: Pattern, shape: tuple[int, int]) -> Floats:
    """The inverse of `pack`: (4, h, w) -> the mosaic of `shape`."""
    top, left = _before_red(pattern)
    padded = np.empty((planes.shape[1] * 2, planes.shape[2] * 2), np.float32)
    for n, plane in enumerate(planes):
        padded[n // 2 :: 2, n % 2 :: 2] = plane
    return np.ascontiguousarray(padded[top : top + shape[0], left : left + shape[1]])


def _before_red(pattern: Pattern) -> tuple[int, int]:
    """How many rows and columns are missing before the first red pixel's row and column begin a period."""
    if np.shape(pattern) != (2, 2):
        raise InputError(f"only a Bayer mosaic packs into four planes, not {pattern_name(pattern)}")
    row = next(y for y in (0, 1) if 0 in pattern[y])
    return row, pattern[row].index(0)
