"""A second camera's image of the same place, brought onto the pixels of the first one's result.

This is what models with the input `reference` are given: the second image turned, scaled and moved to where the first
one has the same things, near ones too, with the colours of the first one, and 0 where it sees nothing, as in training
(`training.degradations.dual_camera`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx import arrays, parallax
from restonnx.errors import InputError
from restonnx.homography import LEAST_MATCHES, Matrix, by_features, by_pixels, inverse, moved, zoom_of
from restonnx.session import Cancel, check_cancelled

if TYPE_CHECKING:
    from restonnx.restore import Progress

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

SEARCHED_SIDE = 1000
"""Pixels: larger images are searched for points at this size."""
LEAST_SIDE = 32
"""Pixels: nothing is found in smaller ones."""
DARKEST = 1 / 255
"""Of white: what the reference has at least where it sees something, as 0 says that it does not."""
SMOOTH = 2.0
"""Standard deviation of the blur under which colours are compared, in pixels of images so reduced that the longer side
has a quarter of `SEARCHED_SIDE`."""
REGISTERED, FOLLOWED = 25, 85
"""Percent of the time that have passed, about, with the homography and with the flow."""
ROWS = 256
"""Of the result that are made at once."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the reference lies."""

    matrix: Matrix
    """(3, 3): takes (x, y, 1) of a pixel of the result to that of the reference, up to a factor; the centre of the
    first pixel is (0, 0)."""
    matches: int
    """How many points agree on it."""
    error: float
    """The median distance by which they are off, in pixels of the result; before `parallax.flow`."""

    def __str__(self) -> str:
        return f"{self.matches} places agree to {self.error:.2f} pixels"

    def places(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Where the reference has what the result has at (x, y)."""
        m = self.matrix
        depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
        return (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth


def aligned(
    image: Any, reference: Any, *, scale: int = 1, progress: Progress | None = None, cancel: Cancel | None = None
) -> tuple[Array, Registration]:
    """The reference as `restore` takes it, and where it was found.

    image, reference: (H, W), (H, W, 3) or with alpha, of any dtype and size; they show the same place, the reference
        all of it or a part.  scale: how much larger the result is than the image (`metadata.scale`).
    progress: called as progress(done, total), from (0, 100) to (100, 100).
    Returns an array of the image's dtype and channels (without alpha), `scale` times as large: in it the reference's
    detail with the image's colours, never darker than 1/255 above black; and outside the reference's field of view
    black: 0, or of grey images that are scaled by their percentiles the darker of these.
    What the homography leaves, such as the parallax of near things, is found for every pixel (`parallax.flow`).
    Raises InputError where the two cannot be brought together, and Cancelled.
    """
    report = progress or (lambda done, total: None)
    report(0, 100)
    first, second = _planes(image, "the image"), _planes(reference, "the reference")
    found = _registered(first[0].mean(axis=0), second[0].mean(axis=0), scale, cancel)
    colours = first[0].shape[0]
    values = arrays.to_channels(second[0], colours)[0] if len(second[0]) == 1 else second[0]
    values = values.mean(axis=0, keepdims=True) if colours == 1 else values
    gains, offsets = _colours(first[0], values, found, scale)
    values = values * gains[:, None, None] + offsets[:, None, None]
    check_cancelled(cancel)
    report(REGISTERED, 100)

    size = (first[0].shape[1] * scale, first[0].shape[2] * scale)
    scaling, dtype = first[1], np.dtype(arrays.as_array(image).dtype)
    result_dtype = dtype if dtype.kind in "iu" else np.dtype(np.float32)
    distance = _distance(
        first[0].mean(axis=0),
        values.mean(axis=0),
        found,
        scale,
        lambda done, total: report(REGISTERED + (FOLLOWED - REGISTERED) * done // total, 100),
        cancel,
    )
    out = np.empty((*size, colours), result_dtype)
    for rows, seen, block in _warped(values, found, size, distance):
        check_cancelled(cancel)
        filled = np.where(seen, block.clip(DARKEST, 1), np.float32(0))
        out[rows] = arrays.to_dtype(scaling.from_unit(filled).transpose(1, 2, 0), result_dtype)
        report(FOLLOWED + (100 - FOLLOWED) * rows.stop // size[0], 100)
    return (out[..., 0] if colours == 1 and arrays.as_array(image).ndim == 2 else out), found


def register(image: Any, reference: Any, *, scale: int = 1, cancel: Cancel | None = None) -> Registration:
    """Where the reference lies, as a homography: which it is exactly for two cameras at one point, and for all that is
    far away; what is near is off by its parallax. Arguments and errors as in `aligned`.
    """
    first, second = _planes(image, "the image")[0], _planes(reference, "the reference")[0]
    return _registered(first.mean(axis=0), second.mean(axis=0), scale, cancel)


def _registered(first: Floats, second: Floats, scale: int, cancel: Cancel | None) -> Registration:
    small, small_second = _reduced(first), _reduced(second)
    matrix, (here, there) = by_features(small, small_second, lambda: check_cancelled(cancel))
    check_cancelled(cancel)
    matrix = by_pixels(small, small_second, matrix)
    to_small, to_small_second = _resized(first.shape, small.shape), _resized(second.shape, small_second.shape)
    matrix = inverse(to_small_second) @ matrix @ to_small
    if first.shape != small.shape or second.shape != small_second.shape:
        check_cancelled(cancel)
        matrix = by_pixels(first, second, matrix)
    here, there = moved(inverse(to_small), here), moved(inverse(to_small_second), there)
    off = moved(inverse(matrix), there) - here
    error = float(np.median(np.hypot(*off.T))) * scale
    onto = np.array([[1 / scale, 0, 0.5 / scale - 0.5], [0, 1 / scale, 0.5 / scale - 0.5], [0, 0, 1]])
    matrix = matrix @ onto
    return Registration(matrix / matrix[2, 2], len(here), error)


def _colours(first: Floats, second: Floats, found: Registration, scale: int) -> tuple[Floats, Floats]:
    """The gain and the offset of each channel that bring the reference's colours to the image's, both (C,).

    Least squares over what both see, of images so small and smooth that a pixel's error does not matter; what stays
    far off (clipped, or moved by parallax) is left out.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = first.shape[1:]
    step = max(1, round(max(height, width) / (SEARCHED_SIDE / 4)))
    zoom = zoom_of(found.matrix, (width * scale / 2, height * scale / 2)) * scale
    there_step = max(1, round(step * zoom))
    ours_reduced, theirs_reduced = _means(first, step), _means(second, there_step)
    y, x = (np.mgrid[: ours_reduced.shape[1], : ours_reduced.shape[2]] + 0.5) * step * scale - 0.5
    there_x, there_y = ((place + 0.5) / there_step - 0.5 for place in found.places(x, y))
    rows, columns = theirs_reduced.shape[1:]
    inside = (there_x > 0) & (there_x < columns - 1) & (there_y > 0) & (there_y < rows - 1)
    gains, offsets = np.ones(len(first), np.float32), np.zeros(len(first), np.float32)
    for n, (ours, theirs) in enumerate(zip(ours_reduced, theirs_reduced, strict=True)):
        wanted = gaussian_filter(ours, SMOOTH)[inside].astype(np.float64)
        smoothed = gaussian_filter(theirs, SMOOTH * step * zoom / there_step)
        given = map_coordinates(smoothed, (there_y[inside], there_x[inside]), order=1)
        kept = np.ones(len(given), bool)
        for _ in range(3):
            if kept.sum() < LEAST_MATCHES or given[kept].std() < 1e-3:
                break
            gains[n], offsets[n] = np.polyfit(given[kept], wanted[kept], 1)
            off = np.abs(gains[n] * given + offsets[n] - wanted)
            kept = off <= 3 * max(float(np.median(off)), 1e-3)
        if not 0.1 < gains[n] < 10:
            gains[n], offsets[n] = 1.0, float(np.mean(wanted - given)) if len(given) else 0.0
    return gains, offsets


def _means(image: Floats, step: int) -> Floats:
    """Of squares of `step` pixels; what is left at the end is left out."""
    height, width = (side // step for side in image.shape[1:])
    squares = image[:, : height * step, : width * step].reshape(len(image), height, step, width, step)
    means: Floats = squares.mean(axis=(2, 4))
    return means


def _distance(
    first: Floats, second: Floats, found: Registration, scale: int, progress: Progress, cancel: Cancel | None
) -> Floats:
    """(2, H, W): by how much what the reference shows is off to the right and downwards after the homography, in
    pixels of the result."""
    size = (first.shape[0] * scale, first.shape[1] * scale)
    onto, seen = np.empty(size, np.float32), np.empty(size, bool)
    for rows, of_rows, block in _warped(second[None], found, size):
        check_cancelled(cancel)
        onto[rows], seen[rows] = block[0], of_rows
    return parallax.flow(first, onto, seen, scale, lambda: check_cancelled(cancel), progress)


def _warped(
    values: Floats, found: Registration, size: tuple[int, int], distance: Floats | None = None
) -> Iterator[tuple[slice, Array, Floats]]:
    """(rows of the result, (h, W) whether the reference sees it, (C, h, W) what it sees), by cubic splines."""
    from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

    zoom = zoom_of(found.matrix, (size[1] / 2, size[0] / 2))
    if zoom > 1.2:  # finer than the result can show
        smooth = 0.5 * np.sqrt(zoom**2 - 1)
        values = np.stack([gaussian_filter(plane, smooth) for plane in values])
    splines = np.stack([spline_filter(plane, order=3, output=np.float32) for plane in values])
    for top in range(0, size[0], ROWS):
        rows = slice(top, min(top + ROWS, size[0]))
        y, x = np.mgrid[rows, : size[1]].astype(np.float64)
        if distance is not None:
            x, y = x + distance[0, rows], y + distance[1, rows]
        there_x, there_y = found.places(x, y)
        seen = (there_x >= 1) & (there_x <= values.shape[2] - 2) & (there_y >= 1) & (there_y <= values.shape[1] - 2)
        block = np.zeros((len(values), *seen.shape), np.float32)
        if seen.any():
            where = (there_y[seen], there_x[seen])
            for plane, spline in zip(block, splines, strict=True):
                plane[seen] = map_coordinates(spline, where, order=3, prefilter=False)
        yield rows, seen, block


def _planes(image: Any, name: str) -> tuple[Floats, arrays.Scaling]:
    """(C, H, W) from black, 0, to white, 1; and what those values are in the image. Raises InputError."""
    image = arrays.as_array(image)
    try:
        layout = arrays.layout(image)
        scaling = arrays.value_range(image, layout)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if layout.plane_axes:
        raise InputError(f"{name} is a stack of shape {layout.shape}: one image is registered at a time")
    if min(layout.height, layout.width) < LEAST_SIDE:
        raise InputError(f"{name} is too small to be registered: {LEAST_SIDE} by {LEAST_SIDE} pixels are the least")
    window = arrays.read_window(image, layout, (), slice(0, layout.height), slice(0, layout.width))
    return scaling.to_unit(window), scaling


def _reduced(grey: Floats) -> Floats:
    from skimage.transform import resize

    factor = max(grey.shape) / SEARCHED_SIDE
    if factor <= 1:
        return grey
    size = tuple(round(side / factor) for side in grey.shape)
    small: Floats = resize(grey, size, order=1, anti_aliasing=True).astype(np.float32)  # type: ignore[no-untyped-call]
    return small


def _resized(size: tuple[int, ...], small: tuple[int, ...]) -> Matrix:
    """From pixels of an image to those of the same one at another size."""
    y, x = small[0] / size[0], small[1] / size[1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
