"""What a homography leaves between two images of one place: the distance of every pixel, as its depth has moved it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Slices = tuple[slice, slice]
"""Rows and columns."""

BLOCK = 768
"""Pixels of the result along each side that a thread searches at once, so that the memory stays flat."""
THREADS = 4
"""At most, each with a block."""
MARGIN = 64
"""Pixels around a block that are searched with it; nothing further away is found."""
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


def flow(image: Floats, reference: Floats, seen: Array, scale: int, check: Callable[[], None] = lambda: None) -> Floats:
    """Where the reference has what the image has: iterative Lucas-Kanade over a pyramid (Le Besnerais and Champagnat
    2005, "Dense optical flow by iterative local window registration"), on images of locally equal contrast.

    image (h, w): grey, from black, 0, to white, 1.  reference (scale h, scale w): the same place, off by up to
        `MARGIN` pixels.  seen: of that size, true where the reference sees something; the rest of it is not looked at.
    check: called now and then, to end the run by an exception.
    Returns (2, scale h, scale w): what the image has at x, y of the enlarged pixels lies in the reference at
    x + flow[0], y + flow[1]; 0 where a block of it sees nothing.
    """
    found = np.zeros((2, *reference.shape), np.float32)

    def search(block: Slices) -> None:
        check()
        searched = _searched(block, seen, scale)
        if searched is None:
            return
        small = image[tuple(slice(part.start // scale, part.stop // scale) for part in searched)]
        moved = _moved(small, reference[searched], seen[searched].astype(np.float32), scale)
        both = tuple(slice(max(b.start, s.start), min(b.stop, s.stop)) for b, s in zip(block, searched, strict=True))
        within = tuple(slice(b.start - s.start, b.stop - s.start) for b, s in zip(both, searched, strict=True))
        found[(slice(None), *both)] = moved[(slice(None), *within)]

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), "restonnx-flow") as threads:
        for _ in threads.map(search, _blocks(reference.shape, BLOCK // scale * scale)):
            pass
    return found


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


def _blocks(size: tuple[int, ...], side: int) -> Iterator[Slices]:
    """That cover the image."""
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            yield slice(top, min(top + side, size[0])), slice(left, min(left + side, size[1]))


def _searched(block: Slices, seen: Array, scale: int) -> Slices | None:
    """The block with its margin, of it the rectangle that the reference sees; sides are multiples of the scale.

    None where it sees nothing of the block, or next to nothing around it.
    """
    if not seen[block].any():
        return None
    margin = MARGIN // scale * scale
    outer = tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, side))
        for part, side in zip(block, seen.shape, strict=True)
    )
    within = seen[outer]
    sides = []
    for part, seen_there in zip(outer, (within.any(axis=1), within.any(axis=0)), strict=True):
        places = np.flatnonzero(seen_there)
        start = part.start + int(places[0]) // scale * scale
        sides.append(slice(start, part.start + -(-int(places[-1] + 1) // scale) * scale))
    if min(part.stop - part.start for part in sides) < LEAST:
        return None
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
