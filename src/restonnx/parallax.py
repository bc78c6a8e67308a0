"""What a homography leaves between two images of one place: the distance of every pixel, as its depth has moved it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from restonnx import tiles
from restonnx.machine import cores

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Slices = tuple[slice, slice]
"""Rows and columns."""

BLOCK = 384
"""Pixels of the result along each side, about, that a thread searches at once, so that the memory stays flat."""
THREADS = 4
"""At most, each with a block."""
MARGIN = 32
"""Pixels around a block that are searched with it; nothing further away is found there."""
WHOLE = 2 * BLOCK
"""Pixels: of images with a longer side a reduced one is searched first, for what is far off."""
RADIUS = 10
"""Of the windows in which everything moves alike, in pixels of the result."""
LEAST = 2 * RADIUS
"""Pixels along a side: too little is seen of blocks below that."""
WARPS = 3
"""Rounds of improvement on each level of the pyramid; more bring nothing."""
CONTRAST = 6.0
"""Pixels (standard deviation): brightness and contrast are made alike over so much, as two exposures and two sensors
differ in them, and light between two moments does."""
FLAT = 0.02
"""Of white: contrast below that is noise."""


def flow(
    image: Floats,
    reference: Floats,
    seen: Array,
    scale: int,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Floats:
    """Where the reference has what the image has: iterative Lucas-Kanade over a pyramid (Le Besnerais and Champagnat
    2005, "Dense optical flow by iterative local window registration"), on images of locally equal contrast.

    image (h, w): grey, from black, 0, to white, 1.  reference (scale h, scale w): the same place, off by up to
        `MARGIN` pixels, or of larger images by as much once they are reduced to `WHOLE`.  seen: of that size, true
        where the reference sees something; the rest of it is not looked at.
    check: called now and then, to end the run by an exception.
    progress: called as progress(done, total), in blocks.
    Returns (2, scale h, scale w): what the image has at x, y of the enlarged pixels lies in the reference at
    x + flow[0], y + flow[1]. Where it sees nothing that is 0, or in large images what the reduced ones had there.
    """
    rough = _of_reduced(image, reference, seen, scale, check)
    found, visible = np.zeros((2, *reference.shape), np.float32), seen.astype(np.float32)

    def search(tile: tiles.Tile) -> None:
        check()
        outer, core = (tile.rows, tile.cols), (tile.core_rows, tile.core_cols)
        moved = None if rough is None else _enlarged(rough, outer, reference.shape)
        there, weight = _taken(reference, outer, moved), _taken(visible, outer, moved) > 0.999
        rectangle = _rectangle(weight, scale)
        whole = np.zeros((2, *weight.shape), np.float32) if moved is None else moved.copy()
        if rectangle is not None:
            check()
            small = tuple(
                slice((o.start + r.start) // scale, (o.start + r.stop) // scale)
                for o, r in zip(outer, rectangle, strict=True)
            )
            finer = _moved(image[small], there[rectangle], weight[rectangle].astype(np.float32), scale)
            cut = (slice(None), *rectangle)
            whole[cut] = finer if moved is None else _after(finer, moved[cut])
        inner = tuple(slice(c.start - o.start, c.stop - o.start) for c, o in zip(core, outer, strict=True))
        found[(slice(None), *core)] = whole[(slice(None), *inner)]

    height, width = reference.shape
    plan = tiles.plan(height, width, tile=BLOCK + 2 * MARGIN, halo=MARGIN, multiple=scale)
    with ThreadPoolExecutor(min(THREADS, cores()), "restonnx-flow") as threads:
        for done, _ in enumerate(threads.map(search, plan), 1):
            progress(done, len(plan))
    return found


def _of_reduced(image: Floats, reference: Floats, seen: Array, scale: int, check: Callable[[], None]) -> Floats | None:
    """The flow of the images once they are small enough to be searched as wholes, in the pixels of large ones; None
    where they are."""
    factor = -(-max(reference.shape) // WHOLE)
    if factor == 1:
        return None
    height, width = (side // factor for side in image.shape)
    small, small_reference, small_seen = (
        array[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).mean((1, 3), np.float32)
        for array, rows, columns in (
            (image, height, width),
            (reference, height * scale, width * scale),
            (seen, height * scale, width * scale),
        )
    )
    rough: Floats = np.float32(factor) * flow(small, small_reference, small_seen > 0.999, scale, check)
    return rough


def _enlarged(rough: Floats, window: Slices, size: tuple[int, ...]) -> Floats:
    """A window of a reduced image's flow, brought to the size of the whole."""
    factor = -(-max(size) // WHOLE)
    y, x = np.mgrid[window].astype(np.float32)
    return _at(rough, (x + 0.5) / factor - 0.5, (y + 0.5) / factor - 0.5)


def _taken(image: Floats, window: Slices, moved: Floats | None) -> Floats:
    """A window of an image, each pixel from where it was moved to; 0 outside the image."""
    if moved is None:
        return image[window]
    y, x = np.mgrid[window].astype(np.float32)
    taken: Floats = _at(image[None], x + moved[0], y + moved[1], mode="constant")[0]
    return taken


def _after(finer: Floats, moved: Floats) -> Floats:
    """One flow after another: of the images that the second has brought together already."""
    y, x = np.mgrid[: finer.shape[1], : finer.shape[2]].astype(np.float32)
    both: Floats = finer + _at(moved, x + finer[0], y + finer[1])
    return both


def _at(planes: Floats, x: Floats, y: Floats, mode: str = "nearest") -> Floats:
    """Between the pixels."""
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(plane, (y, x), order=1, mode=mode) for plane in planes])


def _moved(image: Floats, reference: Floats, weight: Floats, scale: int) -> Floats:
    """The flow of one block, (2, H, W), right and down."""
    from skimage.registration import optical_flow_ilk
    from skimage.transform import resize

    enlarged = resize(image, weight.shape, order=3, anti_aliasing=False)  # type: ignore[no-untyped-call]
    soft = _mean(reference, weight, 0.4 * scale if scale > 1 else 0.0)  # as the image is
    down, right = optical_flow_ilk(  # type: ignore[no-untyped-call]
        _evened(enlarged.astype(np.float32), weight),
        _evened(soft, weight),
        radius=RADIUS,
        num_warp=WARPS,
        gaussian=True,
    )
    return np.stack([right, down]).clip(-MARGIN, MARGIN)


def _rectangle(seen: Array, scale: int) -> Slices | None:
    """Around what is seen, its sides at multiples of the scale; None where that is nothing, or next to nothing."""
    sides = []
    for along in (seen.any(axis=1), seen.any(axis=0)):
        places = np.flatnonzero(along)
        if len(places) == 0 or places[-1] - places[0] < LEAST:
            return None
        sides.append(slice(int(places[0]) // scale * scale, -(-int(places[-1] + 1) // scale) * scale))
    return sides[0], sides[1]


def _evened(image: Floats, weight: Floats) -> Floats:
    """The image with mean 0 and contrast 1 around every pixel, where the weight is 1; elsewhere 0."""
    detail = image - _mean(image, weight, CONTRAST)
    contrast = np.sqrt(_mean(detail**2, weight, CONTRAST))
    evened: Floats = (weight * detail / (contrast + FLAT)).astype(np.float32)
    return evened


def _mean(image: Floats, weight: Floats, sigma: float) -> Floats:
    """Around every pixel, of what has weight."""
    from scipy.ndimage import gaussian_filter

    around: Floats = gaussian_filter(image * weight, sigma) / (gaussian_filter(weight, sigma) + np.float32(1e-6))
    return around
