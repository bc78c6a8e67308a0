"""Each colour of a restored frame keeps its mean: one line for the whole frame, never one for a tile."""

from __future__ import annotations

from typing import Any

import numpy as np

from restonnx.errors import ModelError
from restonnx.isp import cfa
from restonnx.isp.frame import Floats, Pattern
from restonnx.isp.strips import strips

Doubles = np.ndarray[Any, np.dtype[np.float64]]

MOST_DRIFT = 0.5
"""Of a colour's mean; a model that changes it more does something else than restore."""
NAMES = ("red", "green", "blue")
SURE = 4.0
"""A mean of fewer standard errors is nothing but noise, and no gain can be told from it."""
BLOCK = 16
"""Side of a block, in pixels of a plane."""
FEWEST = 40
"""Blocks of a colour below which dark and bright are not told apart."""


def with_means_of(
    image: Floats, restored: Floats, usable: Any, pattern: Pattern | None, name: str, *, offset: bool = True
) -> Floats:
    """The restored image, in place, with the means that the colours had over those pixels that are `usable`, (H, W).

    The noise has no mean, so that of the image is right to a tiny part of its noise. A model that has seen other noise
    makes the dark a little too dark or too bright, which a gain alone would mend at the cost of the bright.

    offset: each colour is given an offset beside its gain; for values of the sensor, of which 0 is the black.
    name: of the model.
    Raises ModelError where a colour's mean went away by more than half.
    """
    offset = offset and bool(image.min() < 0)  # where noise below black was cut off, the dark is itself too bright
    for colour in range(3):
        if pattern is None:
            places: list[Any] = [(..., colour)]
        else:
            places = [where for its, where in cfa.sites(pattern) if its == colour]
        if not places:  # a monochrome sensor has no red and no blue
            continue
        masks = [usable if pattern is None else usable[where] for where in places]
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        if not count:
            continue
        mean, after = (_sum(values, places, masks) / count for values in (image, restored))
        error = (_sum(image, places, masks, mean, power=2) / count / count) ** 0.5
        if mean <= SURE * error or after <= 0:
            continue
        if abs(after / mean - 1) > MOST_DRIFT:
            raise ModelError(
                f"{name} changed the mean of {NAMES[colour]} by {100 * (after / mean - 1):.0f} %; "
                "pass keep_means=False to a RestorationStage that is meant to"
            )
        foot = _offset(image, restored, places, masks, mean, after) if offset else 0.0
        for where in places:
            restored[where] *= np.float32((mean - foot) / after)
            restored[where] += np.float32(foot)
    return restored


def _sum(image: Floats, places: list[Any], masks: list[Any], off: float = 0.0, power: int = 1) -> float:
    """Of (value - off)^power over the places that the masks leave."""
    total = 0.0
    for where, mask in zip(places, masks, strict=True):
        plane = image[where]
        for rows in strips(plane):
            values = plane[rows][mask[rows]].astype(np.float64)
            total += float(((values - off) ** power).sum())
    return total


def _offset(image: Floats, restored: Floats, places: list[Any], masks: list[Any], mean: float, after: float) -> float:
    """That of the line through the means of image and restored one which suits blocks of all levels best.

    By least squares, each block weighted by its noise. 0 where it cannot be told from the noise, and where it is
    larger than that: then the model changes the contrast, and means to.
    """
    found = [
        _blocks(image[where][rows], restored[where][rows], mask[rows])
        for where, mask in zip(places, masks, strict=True)
        for rows in strips(mask, multiple=BLOCK)
    ]
    before, now, variances = np.concatenate(found, axis=1)
    if before.size < FEWEST:
        return 0.0
    weights = 1 / np.maximum(variances, 1e-12)
    lever, gap = 1 - now / after, before - now * (mean / after)
    total = float((weights * lever**2).sum())
    if total <= 0:
        return 0.0
    offset = float((weights * lever * gap).sum()) / total
    error = float(((weights * lever * (gap - offset * lever)) ** 2).sum()) ** 0.5 / total
    noise = float(np.median(variances[now <= np.quantile(now, 0.1)])) ** 0.5
    return offset if SURE * error < abs(offset) < noise else 0.0


def _blocks(image: Floats, restored: Floats, usable: Any) -> Doubles:
    """Of each block that is usable as a whole: its means in both, and the variance of what was removed; (3, blocks)."""
    rows, cols = (side // BLOCK for side in image.shape)

    def cut(values: Any) -> Any:
        blocks = values[: rows * BLOCK, : cols * BLOCK].reshape(rows, BLOCK, cols, BLOCK).swapaxes(1, 2)
        return blocks.reshape(rows * cols, BLOCK**2)

    chosen = cut(usable).all(axis=1)
    before, now = (cut(values)[chosen].astype(np.float64) for values in (image, restored))
    return np.stack([before.mean(axis=1), now.mean(axis=1), (before - now).var(axis=1)])
