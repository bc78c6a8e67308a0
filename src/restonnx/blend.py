"""Joining the tiles of a plan: side by side, or fading into each other where networks see whole tiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from restonnx.tiles import TilePlan

Floats = np.ndarray[Any, np.dtype[np.float32]]


def ramps(cores: Sequence[slice], fade: int) -> list[slice]:
    """Where the neighbours of a row of cores fade into each other: around each border between two of them.

    At most `fade` wide, and never beyond the middle of a core, so that no two ramps overlap: at each place one tile
    or two have a say.
    """
    found = []
    for left, right in pairwise(cores):
        half = min(fade // 2, _length(left) // 2, _length(right) // 2)
        found.append(slice(left.stop - half, left.stop + half))
    return found


def touching(plan: TilePlan, rows: slice, cols: slice, fade: int) -> TilePlan:
    """The part of a plan that has a say in a window of the image: its tiles, and those that fade into it."""
    across = plan.grid[1]
    down = _touching([tile.core_rows for tile in plan.tiles[::across]], rows, fade)
    beside = _touching([tile.core_cols for tile in plan.tiles[:across]], cols, fade)
    kept = tuple(plan.tiles[row * across + col] for row in down for col in beside)
    return TilePlan(plan.shape, (len(down), len(beside)), kept)


class Blend:
    """Joins the results of a plan's tiles, given in the plan's order, and gives back every pixel once.

    Within a ramp the weight of the earlier tile falls linearly, and that of the later one is what is missing to 1:
    where both agree the result is exactly what they agree on. With a fade of 0 it is the cores side by side. What is
    not finished is kept until its neighbours come: the ramps of one row of tiles, and no more.
    """

    def __init__(self, plan: TilePlan, size: tuple[int, int], *, fade: int = 0, scale: int = 1) -> None:
        """plan: that of a whole image, or what `touching` left of it; it must have given every tile a halo of half of
        `fade`.  size: height and width of the image without its padding.  fade: width of the ramps.  All in pixels of
        the image; results are `scale` times as large."""
        across = plan.grid[1]
        self._plan, self._scale = plan, scale
        self._rows = _seams([tile.core_rows for tile in plan.tiles[::across]], fade, size[0], scale)
        self._cols = _seams([tile.core_cols for tile in plan.tiles[:across]], fade, size[1], scale)
        self._left = np.zeros(0, np.float32)
        self._above = [self._left] * across

    def add(self, number: int, values: Floats) -> tuple[tuple[slice, slice], Floats]:
        """What is finished with tile `number` of the plan, whose result is `values` (C, h, w): its rows and columns in
        the result, and its values. The tiles of another image may follow when the last one was given."""
        row, col = divmod(number, self._plan.grid[1])
        tile = self._plan.tiles[number]
        top, left = tile.rows.start * self._scale, tile.cols.start * self._scale
        above, below = self._rows[row : row + 2]
        before, after = self._cols[col : col + 2]

        values = _faded(self._left, values, _shifted(before, left))
        self._left = values[:, :, _shifted(after, left)]
        values = values[:, :, _shifted(slice(before.start, after.start), left)]
        values = _faded(self._above[col], values.swapaxes(1, 2), _shifted(above, top)).swapaxes(1, 2)
        self._above[col] = values[:, _shifted(below, top)].swapaxes(1, 2).copy()

        rows, cols = slice(above.start, below.start), slice(before.start, after.start)
        return (rows, cols), values[:, _shifted(rows, top)]


def _touching(cores: Sequence[slice], window: slice, fade: int) -> range:
    between = ramps(cores, fade)
    starts = [cores[0].start, *(ramp.start for ramp in between)]
    stops = [*(ramp.stop for ramp in between), cores[-1].stop]
    met = [n for n in range(len(cores)) if starts[n] < window.stop and window.start < stops[n]]
    return range(met[0], met[-1] + 1)


def _seams(cores: Sequence[slice], fade: int, end: int, scale: int) -> list[slice]:
    """The ramps before, between and after the cores, in pixels of the result; those at the ends are empty."""
    first, last = cores[0].start, cores[-1].stop
    windows = [slice(first, first), *ramps(cores, fade), slice(last, last)]
    return [slice(min(w.start, end) * scale, min(w.stop, end) * scale) for w in windows]


def _faded(earlier: Floats, values: Floats, ramp: slice) -> Floats:
    """`values` (C, a, b) in which the places `ramp` of the last axis are blended with those of an earlier tile."""
    count = _length(ramp)
    if count == 0:
        return values
    weights = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)
    blended = values.copy()
    blended[..., ramp] = earlier + weights * (values[..., ramp] - earlier)
    return blended


def _length(window: slice) -> int:
    return int(window.stop - window.start)


def _shifted(window: slice, by: int) -> slice:
    return slice(window.start - by, window.stop - by)
