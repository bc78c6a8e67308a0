"""A plan of tiles: how to cut an image so that each tile fits in memory and no seam remains.

A tile is read with a halo and only its core is written. Where every core pixel sees at least a receptive
radius of context, the cores side by side equal the result of the whole image, without blending. All tiles of
a plan have one shape, so that ONNX Runtime plans its memory once. Lengths are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from restonnx.errors import InputError

HALO_COST = 0.25
"""What a halo may add at most to the pixels of a core, where larger tiles can be had."""


@dataclass(frozen=True)
class Tile:
    """Two windows, each of rows and columns, in the coordinates of the padded image."""

    rows: slice
    cols: slice
    """What is read: inside the image, from a multiple of the plan's `multiple` on, in the plan's shape."""
    core_rows: slice
    core_cols: slice
    """What is kept; the cores of a plan cover every pixel once."""


@dataclass(frozen=True)
class TilePlan:
    """The tiles of an image, row by row from the top left."""

    shape: tuple[int, int]
    """Height and width of every tile, halo included."""
    grid: tuple[int, int]
    """Number of tiles down and across."""
    tiles: tuple[Tile, ...]

    def __len__(self) -> int:
        return len(self.tiles)

    def __iter__(self) -> Iterator[Tile]:
        return iter(self.tiles)


def plan(
    height: int, width: int, *, tile: int | tuple[int, int], halo: int, multiple: int, shrink: bool = True
) -> TilePlan:
    """Cut a padded image of `height` x `width`, both multiples of `multiple`, into tiles of one shape.

    tile: the side of a square that no tile exceeds in area, halo included, rounded down to a multiple; the sides are
    those with which the fewest pixels are computed. Or (height, width), the largest sides of a tile. The sides really
    used are the smallest with which the same number of tiles covers the image, so that an image a little larger than
    one tile is not computed twice. Tiles overlap as evenly as multiples allow, each core being at least `halo` away
    from every border of its tile that is not a border of the image.
    shrink: False keeps the tiles square, of side `tile`, for networks that do best at one size; they overlap the more.
    Raises InputError for a tile that has no room for a core, ValueError for sides that are no multiple.
    """
    if isinstance(tile, int):
        tall, wide = _best_sides(height, width, tile, halo, multiple) if shrink else (tile, tile)
    else:
        tall, wide = tile
    rows, cores_down = _cut(height, tall, halo, multiple, shrink)
    cols, cores_across = _cut(width, wide, halo, multiple, shrink)
    tiles = tuple(
        Tile(row, col, core_row, core_col)
        for row, core_row in zip(rows, cores_down, strict=True)
        for col, core_col in zip(cols, cores_across, strict=True)
    )
    return TilePlan((rows[0].stop, cols[0].stop), (len(rows), len(cols)), tiles)


def smallest_tile(halo: int, multiple: int) -> int:
    """The smallest side of a tile that keeps a core and can be moved by a multiple."""
    return padded(2 * halo, multiple) + multiple


def worthwhile_tile(halo: int) -> int:
    """The smallest side of a square tile of which the halo adds no more than `HALO_COST` to its core."""
    return math.ceil(2 * halo / (1 - 1 / math.sqrt(1 + HALO_COST)))


def tile_for_budget(preferred: int, *, bytes_per_pixel: float, budget: float, halo: int, multiple: int) -> int:
    """The side of a square tile: `preferred`, or less where `bytes_per_pixel` * side^2 would exceed `budget`
    bytes.

    Never less than the smallest tile; a multiple of `multiple`.
    """
    affordable = math.isqrt(max(0, int(budget / bytes_per_pixel)))
    side = min(preferred, affordable) // multiple * multiple
    return max(side, smallest_tile(halo, multiple))


def padded(length: int, multiple: int) -> int:
    """`length` rounded up to a multiple."""
    return -(-length // multiple) * multiple


def _best_sides(height: int, width: int, tile: int, halo: int, multiple: int) -> tuple[int, int]:
    """Sides of tiles of at most tile^2 pixels that cover the image with the fewest pixels.

    Of equals those of the fewest tiles, and of these the squarest.
    """
    least, area = smallest_tile(halo, multiple), (tile // multiple * multiple) ** 2
    if area < least**2:
        return tile, tile
    best, sides = (height * width * area, 0, 0), (tile, tile)
    columns = _fewest_from(width, least, halo, multiple)
    for down in range(1, height // multiple + 1):
        # Before rounding up, with which more tiles may be the fewer pixels.
        if (height + (down - 1) * padded(2 * halo, multiple)) * width > best[0]:
            break
        tall = height if down == 1 else max(least, _side(height, down, halo, multiple))
        largest = area // tall // multiple * multiple
        if largest >= min(least, width):
            row, across, wide = columns[_count(width, largest, halo, multiple) - 1]
            if (found := (down * tall * row, down * across, max(tall, wide))) < best:
                best, sides = found, (max(least, tall), max(least, wide))
    return sides


def _fewest_from(length: int, least: int, halo: int, multiple: int) -> list[tuple[int, int, int]]:
    """For n = 1, 2, ...: with n tiles or more, the fewest pixels that cover a length, in how many, and their side."""
    best, found = (length * max(length, least) + 1, 0, 0), []
    for count in range(length // multiple, 0, -1):
        side = length if count == 1 else max(least, _side(length, count, halo, multiple))
        best = min(best, (count * side, count, side))
        found.append(best)
    return found[::-1]


def _side(length: int, count: int, halo: int, multiple: int) -> int:
    """The smallest side with which `count` tiles cover a length."""
    return padded(-(-(length + (count - 1) * padded(2 * halo, multiple)) // count), multiple)


def _count(length: int, tile: int, halo: int, multiple: int) -> int:
    """How many tiles of a side cover a length."""
    overlap = padded(2 * halo, multiple)
    return 1 if length <= tile else -(-(length - overlap) // (tile - overlap))


def _cut(length: int, tile: int, halo: int, multiple: int, shrink: bool) -> tuple[list[slice], list[slice]]:
    """The read windows and the cores along one dimension."""
    if length < 1 or length % multiple:
        raise ValueError(f"the padded side must be a positive multiple of {multiple}, not {length}")
    tile = tile // multiple * multiple
    if tile < smallest_tile(halo, multiple):
        raise InputError(f"tile must be at least {smallest_tile(halo, multiple)} pixels for this model")
    if length <= tile:
        return [slice(0, length)], [slice(0, length)]

    count = _count(length, tile, halo, multiple)
    if shrink:
        tile = _side(length, count, halo, multiple)
    # Spread evenly. Rounded down, neighbours stay within tile - overlap of each other: that is a multiple.
    starts = [i * (length - tile) // (count - 1) // multiple * multiple for i in range(count)]
    # In the middle of what two neighbours share, both have the most context.
    middles = [(right + left + tile) // 2 for left, right in pairwise(starts)]
    cores = [slice(start, stop) for start, stop in pairwise([0, *middles, length])]
    return [slice(start, start + tile) for start in starts], cores
