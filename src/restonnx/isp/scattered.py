"""The noise of an X-Trans mosaic in blocks: a colour's pixels do not lie on a grid that is finer than its period of 6.

So each pixel is compared with the mean of two pairs of neighbours of its own colour that lie opposite each other,
the nearest such pairs of its place in the pattern: of green 1 to 2 pixels away, of red and blue 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from restonnx.isp.frame import Floats, Pattern

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Offset = tuple[int, int]

PERIOD = 6
PERIODS = 6
"""Side of a block, in periods of the pattern."""
SPREAD = 1.25
"""Variance of a pixel less the mean of four others, over that of one."""
SELECTION = {0: 0.836, 1: 0.894, 2: 0.836}
"""For each colour, the median variance of the flattest tenth of blocks of white noise, by simulation."""


def block_noise(image: Floats, pattern: Pattern, colour: int, bright: float) -> tuple[Doubles, Doubles]:
    """Mean, and variance of the noise, of each usable block: without values above `bright`, hardly any cut off at 0."""
    period = len(pattern)
    rows, cols = ((side // period - 2) // PERIODS for side in image.shape)
    if rows < 1 or cols < 1:
        return np.zeros(0), np.zeros(0)
    places = [(y, x) for y, line in enumerate(pattern) for x, its in enumerate(line) if its == colour]
    total, squares, dark, most = (np.zeros((rows, cols)) for _ in range(4))

    def at(place: Offset) -> Floats:
        """What stands there in each period but the outermost, (rows, cols, periods of the block)."""
        top, left = place[0] + period, place[1] + period
        found = image[top::period, left::period][: rows * PERIODS, : cols * PERIODS]
        return found.reshape(rows, PERIODS, cols, PERIODS).swapaxes(1, 2).reshape(rows, cols, -1)

    for y, x in places:
        values, around = at((y, x)), np.zeros((), np.float32)
        for down, across in _pairs(pattern, (y, x)):
            around = around + at((y + down, x + across)) + at((y - down, x - across))
        squares += np.square(values - around / 4, dtype=np.float64).sum(axis=-1)
        total += values.sum(axis=-1, dtype=np.float64)
        dark += (values <= 0).sum(axis=-1)
        most = np.maximum(most, values.max(axis=-1))
    count = len(places) * PERIODS**2
    usable = most <= bright
    if image.min() >= 0:
        usable &= dark < 0.02 * count
    return total[usable] / count, squares[usable] / count / SPREAD / SELECTION[colour]


def _pairs(pattern: Pattern, place: Offset) -> list[Offset]:
    """The two nearest offsets in different directions at which, ahead and behind, the place's own colour stands."""
    period = len(pattern)

    def colour(y: int, x: int) -> int:
        return pattern[y % period][x % period]

    found: list[Offset] = []
    ahead = [(y, x) for y in range(period + 1) for x in range(-period, period + 1) if (y, x) > (0, 0)]
    for down, across in sorted(ahead, key=lambda d: (d[0] ** 2 + d[1] ** 2, d)):
        y, x = place
        alike = colour(y + down, x + across) == colour(y - down, x - across) == colour(y, x)
        if alike and all(down * b != across * a for a, b in found):
            found.append((down, across))
        if len(found) == 2:
            break
    return found
