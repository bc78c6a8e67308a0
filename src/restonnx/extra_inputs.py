"""What a model takes besides image and noise: a noise level, a mask, a kernel, a reference; tile by tile.

The arguments of `restore` bear the names of the roles in the model's metadata.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx import arrays, noise_level
from restonnx.errors import InputError

if TYPE_CHECKING:
    from restonnx.model import Metadata
    from restonnx.tiles import Tile

Floats = np.ndarray[Any, np.dtype[np.float32]]
Plane = tuple[int, ...]
Source = Callable[[Plane, slice, slice], Floats]
"""(plane, rows, columns) of the padded image -> what goes into the graph, (1 or N, ...)."""

MEANINGS = {
    "noise_level": 'a number in the values of the image, or "estimate"',
    "mask": "nonzero where the image is to be restored",
    "kernel": "the point spread function, of odd sides",
    "reference": "another image of the same place, of the result's size",
}
"""The roles that `restore` has arguments for, and what it takes for each."""
ESTIMATED_SIDE = 2048
"""Pixels; of a plane that is longer or wider, windows spread over it are looked at for the noise level."""
WINDOW_SIDE = 512


class ExtraInputs:
    """The further inputs of one image, checked, and ready to be cut into tiles."""

    def __init__(
        self, meta: Metadata, image: Any, layout: arrays.Layout, scaling: arrays.Scaling, given: Mapping[str, Any]
    ) -> None:
        """scaling: from the image's values to the network's.  given: the arguments by role, None for those left out.

        Raises InputError where they are not what the model takes, or do not fit the image.
        """
        check_given(meta, given)
        given = {spec.role: spec.default for spec in meta.inputs} | {k: v for k, v in given.items() if v is not None}
        self._batch = arrays.batch_size(layout.channels, meta.channels)
        make: dict[str, Callable[[Any], Source]] = {
            "noise_level": lambda level: _noise_level(level, image, layout, scaling),
            "mask": lambda mask: _mask(mask, layout),
            "kernel": _kernel,
            "reference": lambda reference: _reference(reference, layout, scaling, meta),
        }
        names = {spec.role: spec.name for spec in meta.inputs if spec.role in MEANINGS}
        self._sources = {name: make[role](given[role]) for role, name in names.items()}

    def feeds(self, plane: Plane, tile: Tile) -> dict[str, Floats]:
        """By the names of the graph's inputs; of as many images as the window of the tile is for the network."""
        found = {}
        for name, source in self._sources.items():
            values = source(plane, tile.rows, tile.cols)
            found[name] = np.repeat(values, self._batch // len(values), axis=0)
        return found


def check_given(meta: Metadata, given: Mapping[str, Any], spelled: Callable[[str], str] = str) -> None:
    """Raise InputError where the model needs something that was not given, or was given what it does not take.

    spelled: what the caller's user calls a role, such as "--mask".
    """
    taken = [role for role in MEANINGS if any(spec.role == role for spec in meta.inputs)]
    needed = [spec.role for spec in meta.inputs if spec.default is None]
    if missing := [role for role in taken if role in needed and given[role] is None]:
        raise InputError(f"{meta.name} needs {' and '.join(f'{spelled(role)} ({MEANINGS[role]})' for role in missing)}")
    if foreign := [spelled(role) for role in given if given[role] is not None and role not in taken]:
        takes = f"{' and '.join(map(spelled, taken))} beside the image" if taken else "the image alone"
        raise InputError(f"{meta.name} takes no {' and no '.join(foreign)}; leave it out: it takes {takes}")


def _noise_level(level: Any, image: Any, layout: arrays.Layout, scaling: arrays.Scaling) -> Source:
    """`scaling.gain` is what one step of the network's values is in those of the image."""
    if not (isinstance(level, str) and level == "estimate"):
        number = isinstance(level, (int, float, np.number)) and not isinstance(level, (bool, np.complexfloating))
        if not (number and math.isfinite(level) and level >= 0):
            raise InputError(f'noise_level must be a number of at least 0, or "estimate", not {level!r}')
        return lambda *_: _one(level / scaling.gain)

    @cache
    def estimated(plane: Plane) -> Floats:
        windows = product(_spread(layout.height), _spread(layout.width))
        levels = [noise_level.estimate(arrays.read_window(image, layout, plane, *window)) for window in windows]
        return _one(float(np.median(levels)) / scaling.gain)

    return lambda plane, rows, cols: estimated(plane)


def _spread(length: int) -> list[slice]:
    """The whole length, or where it is long four windows spread evenly over it."""
    if length <= ESTIMATED_SIDE:
        return [slice(0, length)]
    starts = [n * (length - WINDOW_SIDE) // 3 for n in range(4)]
    return [slice(start, start + WINDOW_SIDE) for start in starts]


def _mask(mask: Any, layout: arrays.Layout) -> Source:
    """1 where the mask is 0, which is where the image is known."""
    mask = arrays.as_array(mask)
    if mask.dtype.kind not in "biu":
        raise InputError(
            f"mask must be of booleans or integers, nonzero where the image is to be restored, not of {mask.dtype}"
        )
    shape = tuple(int(n) for n in mask.shape)
    without_color = [n for n in range(len(layout.axes)) if n != layout.channel]
    own = tuple(layout.shape[n] for n in without_color)
    one = (layout.height, layout.width)
    if shape not in (own, one):
        shapes = " or ".join(str(right) for right in dict.fromkeys((one, own)))
        raise InputError(f"mask must have the shape {shapes} for this image, not {shape}")
    axes = "".join(layout.axes[n] for n in without_color) if shape == own else "YX"
    plane_axes = tuple(n for n, letter in enumerate(axes) if letter not in "YX")
    flat = arrays.Layout(axes, shape, mask.dtype, color=False, alpha=False, channel=None, plane_axes=plane_axes)
    walked = [layout.axes[n] for n in layout.plane_axes]

    def source(plane: Plane, rows: slice, cols: slice) -> Floats:
        place = tuple(plane[walked.index(axes[n])] for n in plane_axes)
        known: Floats = (arrays.read_mirrored(mask, flat, place, rows, cols) == 0).astype(np.float32)
        return known[None]

    return source


def _kernel(kernel: Any) -> Source:
    """Scaled to a sum of 1, so that it keeps the brightness."""
    values = np.asarray(arrays.as_array(kernel))
    if values.dtype.kind not in "biuf" or values.ndim != 2 or any(side % 2 == 0 for side in values.shape):
        raise InputError(
            f"kernel must be an array of numbers (rows, columns), both odd, not {values.dtype} of shape {values.shape}"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or not values.sum() > 0:
        raise InputError("kernel must hold finite values whose sum is greater than 0")
    normalised = (values / values.sum()).astype(np.float32)[None, None]
    return lambda *_: normalised


def _reference(reference: Any, layout: arrays.Layout, scaling: arrays.Scaling, meta: Metadata) -> Source:
    """Scaled as the image is where it has its dtype; else by its own dtype or percentiles."""
    reference, scale = arrays.as_array(reference), meta.scale
    axes = layout.axes if len(reference.shape) == len(layout.axes) else None
    try:
        its = arrays.layout(reference, axes, color=layout.color)
        if not _alike(its, layout, scale):
            wanted = "the same size" if scale == 1 else f"{layout.height * scale} by {layout.width * scale} pixels"
            raise InputError(
                f"its shape {its.shape} does not fit the image's {layout.shape}; pass one of {wanted}, such as "
                "restonnx.registration.aligned makes of another camera's"
            )
        if its.dtype != layout.dtype:
            scaling = arrays.value_range(reference, its, meta.domain).onto(*meta.range)
    except InputError as error:
        raise InputError(f"reference: {error}") from None

    def source(plane: Plane, rows: slice, cols: slice) -> Floats:
        rows, cols = (slice(part.start * scale, part.stop * scale) for part in (rows, cols))
        window = arrays.read_mirrored(reference, its, plane, rows, cols)
        return arrays.to_channels(scaling.to_unit(window), meta.channels)

    return source


def _alike(reference: arrays.Layout, image: arrays.Layout, scale: int) -> bool:
    """Whether both have the same planes, the reference's `scale` times as large; one may have an alpha more."""
    large = (image.height * scale, image.width * scale)
    planes = all(getattr(reference, of) == getattr(image, of) for of in ("channels", "planes"))
    return planes and (reference.height, reference.width) == large


def _one(value: float) -> Floats:
    return np.full((1, 1, 1, 1), value, np.float32)
