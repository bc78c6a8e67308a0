"""A part of an image: which planes and pixels are wanted, and what has to be read around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from restonnx import tiles
from restonnx.arrays import Layout
from restonnx.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float32]]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Region:
    """What is restored of an image, and where it goes. Pixels are those of the image, not of the result."""

    where: tuple[slice, ...]
    """One slice for each axis of the image."""
    layout: Layout
    """Of the image once it is cut down to `where`."""
    rows: slice
    cols: slice
    """What is read: what is wanted and its surroundings, from multiples to multiples, inside the padded image."""
    inside: tuple[int, int]
    """Height and width of what is read, without the image's padding."""

    @property
    def wanted(self) -> Window:
        """Rows and columns that are wanted, of what is read."""
        rows, cols = (
            _moved(self.where[axis], -read.start)
            for axis, read in ((self.layout.y, self.rows), (self.layout.x, self.cols))
        )
        return rows, cols

    def planes(self, whole: Layout) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(number, index) of every wanted plane among those of the whole image."""
        for number, plane in enumerate(whole.planes):
            spans = (self.where[axis] for axis in whole.plane_axes)
            if all(span.start <= n < span.stop for n, span in zip(plane, spans, strict=True)):
                yield number, plane

    def placed(self, tile: tiles.Tile) -> tiles.Tile:
        """A tile of what is read, in the coordinates of the image."""
        top, left = self.rows.start, self.cols.start
        return tiles.Tile(*(_moved(window, by) for window, by in zip(_windows(tile), (top, left) * 2, strict=True)))

    def target(
        self, plane: tuple[int, ...], window: Window, values: Floats, scale: int
    ) -> tuple[tuple[int, ...], slice, slice, Floats] | None:
        """Where in the result, and what of it, finished `values` (C, h, w) of a plane belong; None if nowhere.

        window: of what is read, in pixels of the result.
        """
        cuts = []
        for span, wanted in zip(window, self.wanted, strict=True):
            start, stop = wanted.start * scale, wanted.stop * scale
            cut = slice(max(span.start, start), min(span.stop, stop))
            if cut.start >= cut.stop:
                return None
            cuts.append((_moved(cut, -start), _moved(cut, -span.start)))
        (rows, from_rows), (cols, from_cols) = cuts
        index = tuple(n - self.where[axis].start for n, axis in zip(plane, self.layout.plane_axes, strict=True))
        return index, rows, cols, values[:, from_rows, from_cols]


def region(layout: Layout, where: Sequence[slice] | None, *, context: int, multiple: int) -> Region:
    """The part `where` of an image, one slice for each of its axes; None is all of it.

    context: how many pixels around it have a say in it.  multiple: of the model's tiles.
    Raises InputError for slices that do not fit the image, have a step, hold nothing, or cut colours apart.
    """
    spans = _checked(layout, where)
    (rows, height), (cols, width) = (
        _around(spans[axis], layout.shape[axis], context, multiple) for axis in (layout.y, layout.x)
    )
    shape = tuple(span.stop - span.start for span in spans)
    return Region(spans, replace(layout, shape=shape), rows, cols, (height, width))


def _checked(layout: Layout, where: Sequence[slice] | None) -> tuple[slice, ...]:
    if where is None:
        return tuple(slice(0, length) for length in layout.shape)
    spans = tuple(where)
    if len(spans) != len(layout.shape) or not all(isinstance(span, slice) for span in spans):
        raise InputError(f"region must be {len(layout.shape)} slices, one for each axis of the image")
    if any(span.step not in (None, 1) for span in spans):
        raise InputError("region must be of slices without a step")
    spans = tuple(slice(*span.indices(length)[:2]) for span, length in zip(spans, layout.shape, strict=True))
    for axis, (span, length) in enumerate(zip(spans, layout.shape, strict=True)):
        if span.stop <= span.start:
            raise InputError(f"region holds nothing of axis {axis}, whose length is {length}")
        if axis == layout.channel and span.stop - span.start != length:
            raise InputError("region must hold all colours")
    return spans


def _around(span: slice, length: int, context: int, multiple: int) -> tuple[slice, int]:
    """What is read along one side, and how much of that lies in the image."""
    start = max(0, span.start - context) // multiple * multiple
    stop = min(tiles.padded(span.stop + context, multiple), tiles.padded(length, multiple))
    return slice(start, stop), min(stop, length) - start


def _windows(tile: tiles.Tile) -> tuple[slice, slice, slice, slice]:
    return tile.rows, tile.cols, tile.core_rows, tile.core_cols


def _moved(window: slice, by: int) -> slice:
    return slice(window.start + by, window.stop + by)
