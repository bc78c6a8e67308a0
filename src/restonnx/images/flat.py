"""A picture as the one flat image of unsigned integers that PNG, JPEG and WebP can hold."""

import math
from pathlib import Path

import numpy as np

from restonnx.errors import InputError
from restonnx.images.picture import Picture, Pixels, to_depth

FAR_OUTSIDE = (-1.0, 2.0)
"""Floats of a display image may leave [0, 1] by some noise; beyond these they are no display values."""


def flat(picture: Picture, name: Path, *, widest: type[np.uint8] | type[np.uint16]) -> Pixels:
    """(height, width) or (height, width, 2 to 4), alpha last, uint8 or uint16.

    widest: the widest dtype of the format. Raises InputError for stacks and for dtypes without a full scale.
    """
    _check_values(picture.pixels, name)
    samples, axes = picture.with_alpha()
    if picture.premultiplied and picture.alpha is not None:
        samples = _straight(samples)
    extra = [n for n, letter in enumerate(axes) if letter not in "YXS"]
    planes = math.prod(samples.shape[n] for n in extra)
    if planes > 1 or (samples.shape[-1] > 4 and axes.endswith("S")):
        what = f"a stack of {planes} planes" if planes > 1 else f"a stack of {samples.shape[-1]} channels"
        raise InputError(f"{name} holds one image of up to 4 channels, but this is {what}; write .tif instead")
    samples = samples.squeeze(tuple(extra))
    if axes.index("X") < axes.index("Y"):
        samples = samples.swapaxes(0, 1)
    if samples.ndim == 3 and samples.shape[-1] == 1:
        samples = samples[..., 0]
    dtype = samples.dtype if samples.dtype in (np.uint8, np.uint16) else np.dtype(np.uint16)
    return np.ascontiguousarray(to_depth(samples, dtype if dtype.itemsize <= widest().itemsize else widest))


def _straight(samples: Pixels) -> Pixels:
    """Divide the colours by the last channel, alpha; the formats here want them undivided."""
    full = np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else 1
    color, alpha = samples[..., :-1].astype(np.float64), samples[..., -1:].astype(np.float64)
    straight = np.minimum(full, color * full / np.maximum(alpha, 1e-9))
    rounded = np.rint(straight) if samples.dtype.kind in "iu" else straight
    return np.concatenate([rounded.astype(samples.dtype), samples[..., -1:]], axis=-1)


def _check_values(pixels: Pixels, name: Path) -> None:
    if pixels.dtype.kind == "u":
        return
    if pixels.dtype.kind != "f":
        raise InputError(f"{name} cannot hold {pixels.dtype} pixels; write .tif instead")
    low, high = float(np.min(pixels)), float(np.max(pixels))
    if not (FAR_OUTSIDE[0] <= low and high <= FAR_OUTSIDE[1]):
        advice = "write .tif, or scale them to [0, 1] first"
        raise InputError(f"{name} holds floats from 0 to 1, but these run from {low:g} to {high:g}; {advice}")
