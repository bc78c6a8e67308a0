"""Any image array in the user's axes and dtype -> planes for the network -> the same kind of array again.

`layout` says once which axis is what; `value_range` says once which values become 0 and 1. After that the
image is read and written window by window: dask, zarr and memory-mapped images are never loaded whole.
"""

import string
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from restonnx.errors import InputError

Floats = npt.NDArray[np.float32]

PLANE_LETTERS = "".join(c for c in string.ascii_uppercase if c not in "CSXYTZ")
"""Names for leading axes that the user has not named; the two axes nearest to Y are called T and Z."""
SAMPLED_VALUES = 4_000_000
"""A percentile of this many values, spread over the whole stack, is as good as one of all."""
LOW, HIGH = 0.1, 99.9
"""The percentiles that become 0 and 1."""
PHYSICAL_DOMAINS = ("linear_rgb", "camera_rgb", "cfa")
"""Domains in which the values have a meaning (black is 0, white is 1) that percentiles would destroy."""


@dataclass(frozen=True)
class Layout:
    """What each axis of an image is. Made by `layout`, which checks it."""

    axes: str
    """One capital letter per axis, such as "TZYX" or "YXC"."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    color: bool
    """A window has 3 channels, red, green and blue; otherwise it has 1."""
    alpha: bool
    """The channel axis has 4 entries, and the last one is alpha: never read, but copied by `copy_alpha`."""
    channel: int | None
    """Where the colour samples stand, or None."""
    plane_axes: tuple[int, ...]
    """The axes that are walked through, one plane after the other."""

    @property
    def y(self) -> int:
        return self.axes.index("Y")

    @property
    def x(self) -> int:
        return self.axes.index("X")

    @property
    def height(self) -> int:
        return self.shape[self.y]

    @property
    def width(self) -> int:
        return self.shape[self.x]

    @property
    def channels(self) -> int:
        """Channels of a window: 3 or 1."""
        return 3 if self.color else 1

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """Integers keep their dtype; every float becomes float32."""
        return self.dtype if self.dtype.kind in "iu" else np.dtype(np.float32)

    @cached_property
    def planes(self) -> tuple[tuple[int, ...], ...]:
        """The index of every plane, in memory order; one empty index for a single image."""
        return tuple(product(*(range(self._extent(axis)) for axis in self.plane_axes)))

    def index(self, plane: tuple[int, ...], rows: slice, cols: slice) -> tuple[int | slice, ...]:
        """The index that cuts a window, all its colours and no alpha, out of the array."""
        where: list[int | slice] = [slice(None)] * len(self.axes)
        where[self.y], where[self.x] = rows, cols
        if self.channel is not None:
            where[self.channel] = slice(0, 3)
        for axis, position in zip(self.plane_axes, plane, strict=True):
            where[axis] = position
        return tuple(where)

    def window_order(self) -> tuple[int, ...]:
        """How the axes that `index` leaves are permuted to (C, Y, X), or to (Y, X) without colour."""
        kept = [axis for axis in range(len(self.axes)) if axis not in self.plane_axes]
        wanted = [self.channel, self.y, self.x] if self.color else [self.y, self.x]
        return tuple(kept.index(axis) for axis in wanted if axis is not None)

    def _extent(self, axis: int) -> int:
        return 3 if axis == self.channel and self.alpha else self.shape[axis]


@dataclass(frozen=True)
class Scaling:
    """unit = (value - offset) / gain, where the network's [0, 1] is `unit`."""

    offset: float
    gain: float

    def to_unit(self, values: Floats) -> Floats:
        return (values - np.float32(self.offset)) * np.float32(1.0 / self.gain)

    def from_unit(self, unit: Floats) -> Floats:
        return unit * np.float32(self.gain) + np.float32(self.offset)

    def onto(self, black: float, white: float) -> "Scaling":
        """The same scaling, but to a network's values for black and white instead of 0 and 1."""
        gain = self.gain / (white - black)
        return Scaling(self.offset - black * gain, gain)


def as_array(image: Any) -> Any:
    """The image itself where it can be sliced (numpy, memmap, dask, zarr, xarray), else a numpy array of it.

    Raises InputError for what numpy cannot read as an array.
    """
    if isinstance(getattr(image, "dtype", None), np.dtype) and hasattr(image, "shape"):
        return image
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(image).__name__
        raise InputError(f"numpy cannot read the {kind} as an image ({error}); pass a numpy array") from error


def layout(image: Any, axes: str | None = None, *, color: bool | None = None) -> Layout:
    """What each axis of `image` is.

    axes:   one letter per axis, such as "YX", "YXC", "TCYX". Y and X must be there, each letter once; S means
            colour samples. Without it a last axis of 3 or 4 (of at least three axes) is colour, the two axes
            before it are Y and X, and all else is a stack of planes.
    color:  True: a C or S axis of length 3 is colour wherever it stands, and one of length 4 where it is S or the last
                axis: four channels before the rows are four fluorophores rather than colour and its alpha.
            False: channels are planes; the alpha of S or of unnamed axes is still left out.
            None: S is colour, and so is C where it is the last axis.
    Raises InputError for empty, complex, boolean, text and object arrays, and for axes that do not fit.
    """
    image = as_array(image)
    shape, dtype = tuple(int(n) for n in image.shape), np.dtype(image.dtype)
    _check_dtype(dtype)
    if not shape or 0 in shape:
        raise InputError(f"the image holds no rows and columns of pixels (shape {shape}); pass at least one of each")
    named = _guess_axes(shape) if axes is None else _check_axes(axes, shape)
    samples = next((n for n in map(named.find, "SC") if n >= 0 and shape[n] in (3, 4)), None)
    certain = samples is not None and (axes is None or named[samples] == "S")
    by_rule = certain or samples == len(named) - 1
    may_be = by_rule or (samples is not None and shape[samples] == 3)
    is_color = samples is not None and (by_rule if color is None else color and may_be)
    alpha = samples is not None and shape[samples] == 4 and (is_color or certain)
    channel = samples if is_color or alpha else None
    window = {named.index("Y"), named.index("X")} | ({samples} if is_color else set())
    plane_axes = tuple(n for n in range(len(named)) if n not in window)
    return Layout(named, shape, dtype, is_color, alpha, channel, plane_axes)


def value_range(image: Any, layout: Layout, domain: str = "display_rgb") -> Scaling:
    """Which values become 0 and 1 in the network's range.

    Colour integers and uint8: 0 and the dtype's maximum. Colour floats: unchanged. Other grey images (floats,
    signed integers, more than 8 bits): the percentiles 0.1 and 99.9 of the WHOLE stack, hence
    restore(a * x + b) = a * restore(x) + b for a > 0; a constant image has gain 1. In linear and camera
    domains values have a meaning: percentiles are never used there. Raises InputError for NaN and infinity.
    """
    kind, fixed = layout.dtype.kind, layout.color or domain in PHYSICAL_DOMAINS
    if kind in "iu" and (fixed or layout.dtype == np.uint8):
        return Scaling(0.0, float(np.iinfo(layout.dtype).max))
    if fixed:
        return Scaling(0.0, 1.0)
    values = _sample(image, layout)
    low, high = (float(v) for v in np.percentile(values, (LOW, HIGH)))
    if high <= low:  # a few bright spots on an empty field
        low, high = float(values.min()), float(values.max())
    return Scaling(low, high - low if high > low else 1.0)


def read_window(image: Any, layout: Layout, plane: tuple[int, ...], rows: slice, cols: slice) -> Floats:
    """A fresh (C, h, w) float32 array in the image's own values, C = `layout.channels`.

    plane: one of `layout.planes`. Raises InputError for NaN and infinity.
    """
    cut = np.asarray(image[layout.index(plane, rows, cols)]).transpose(layout.window_order())
    with np.errstate(over="ignore"):
        window = np.array(cut, dtype=np.float32, order="C")
    if layout.dtype.kind == "f" and not np.isfinite(window).all():
        first = tuple(int(n) for n in np.unravel_index(_first_bad(window), window.shape))
        letters = [layout.axes[axis] for axis in layout.plane_axes]
        where = dict(zip(letters, plane, strict=True))
        where |= {"Y": (rows.start or 0) + first[-2], "X": (cols.start or 0) + first[-1]}
        _refuse_not_finite(float(cut[first]), where)
    return window if layout.color else window[None]


def read_mirrored(image: Any, layout: Layout, plane: tuple[int, ...], rows: slice, cols: slice) -> Floats:
    """As `read_window`, of a plane that is padded at the bottom and on the right: the padding mirrors it."""
    down, across = _mirrored(rows, layout.height), _mirrored(cols, layout.width)
    top, left = int(down.min()), int(across.min())
    window = read_window(image, layout, plane, slice(top, int(down.max()) + 1), slice(left, int(across.max()) + 1))
    if window.shape[1:] == (len(down), len(across)):
        return window
    return window[:, (down - top)[:, None], across - left]


def write_window(out: Any, layout: Layout, plane: tuple[int, ...], rows: slice, cols: slice, values: Floats) -> None:
    """Write (C, h, w) float32 values, in the image's own units, to a window of `out`.

    rows, cols: in `out`. Integers are rounded half to even and clipped to their dtype.
    """
    block = (values if layout.color else values[0]).transpose(np.argsort(layout.window_order()))
    out[layout.index(plane, rows, cols)] = to_dtype(block, layout.result_dtype)


def to_dtype(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Cast floats of any shape; integers are rounded half to even and clipped to what the dtype holds."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    work = values if dtype.itemsize <= 2 else values.astype(np.float64)
    top = work.dtype.type(info.max)
    if int(top) > info.max:  # the maximum of a 64-bit integer is not a float64
        top = np.nextafter(top, work.dtype.type(0))
    rounded: npt.NDArray[Any] = np.rint(work)
    np.clip(rounded, work.dtype.type(info.min), top, out=rounded)
    return rounded.astype(dtype)


def allocate(image: Any, layout: Layout, scale: int = 1, *, out: Any = None) -> Any:
    """The array for the result: same axes, `layout.result_dtype`, Y and X times `scale`.

    Alpha is copied over already; all else is not yet written. out: an array to use, such as one of zarr, instead of a
    new one of numpy; InputError where it has another shape or dtype.
    """
    shape = result_shape(layout, scale)
    if out is None:
        out = np.empty(shape, layout.result_dtype)
    check_target(out, shape, layout.result_dtype)
    if layout.alpha:
        rows, cols = slice(0, layout.height), slice(0, layout.width)
        for plane in layout.planes:
            copy_alpha(image, out, layout, plane, rows, cols, scale)
    return out


def check_target(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise InputError unless the array `out` can take a result of that shape and dtype."""
    if tuple(out.shape) != shape or np.dtype(out.dtype) != dtype:
        raise InputError(f"out must be of {dtype} and shape {shape}, not {out.dtype} and {tuple(out.shape)}")


def result_shape(layout: Layout, scale: int = 1) -> tuple[int, ...]:
    """The image's shape with Y and X times `scale`."""
    sizes = zip(layout.shape, layout.axes, strict=True)
    return tuple(size * scale if letter in "YX" else size for size, letter in sizes)


def copy_alpha(
    image: Any, out: Any, layout: Layout, plane: tuple[int, ...], rows: slice, cols: slice, scale: int = 1
) -> None:
    """Copy the alpha of a window to `out`, each pixel repeated `scale` times; nothing to do without alpha.

    rows, cols: in `image`. Planes that differ in their colour alone share one alpha, copied with the first.
    """
    if layout.channel is None or not layout.alpha:
        return
    if layout.channel in layout.plane_axes and plane[layout.plane_axes.index(layout.channel)] > 0:
        return
    source = list(layout.index(plane, rows, cols))
    target = list(layout.index(plane, _times(rows, scale), _times(cols, scale)))
    source[layout.channel] = target[layout.channel] = 3
    alpha = np.asarray(image[tuple(source)])  # Y and X in the image's own order
    out[tuple(target)] = alpha.repeat(scale, 0).repeat(scale, 1).astype(layout.result_dtype)


def batch_size(window_channels: int, channels: int) -> int:
    """N of `to_channels`."""
    return window_channels if channels == 1 else 1


def to_channels(window: Floats, channels: int) -> Floats:
    """A (C, h, w) window as the batch (N, channels, h, w) of a network.

    Grey is replicated for 3 channels; the colours of RGB become a batch of 3 images for 1 channel.
    """
    if len(window) == channels:
        return window[None]
    if len(window) == 1:
        return np.repeat(window[None], channels, axis=1)
    if channels == 1:
        return window[:, None]
    raise InputError(f"{len(window)} channels do not fit a model of {channels} channels; pass grey or RGB")


def from_channels(batch: Floats, channels: int) -> Floats:
    """The inverse of `to_channels`: (N, M, h, w) -> (channels, h, w); replicated channels are averaged."""
    window: Floats = batch[:, 0]
    if batch.shape[:2] == (1, channels):
        window = batch[0]
    elif channels == 1:
        window = batch[0].mean(axis=0, keepdims=True, dtype=np.float32)
    return window


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind in "iuf":
        return
    advice = {
        "b": "pass image.astype(numpy.uint8) * 255",
        "c": "restore its real and imaginary part, or numpy.abs(image), alone",
        "O": "pass image.astype(numpy.float32)",
    }.get(dtype.kind, "pass an array of numbers")
    raise InputError(f"the image has dtype {dtype}, but integers or floats are needed; {advice}")


def _check_axes(axes: str, shape: tuple[int, ...]) -> str:
    named = str(axes).upper()
    letters = set(named)
    if len(letters) != len(named) or not {"Y", "X"} <= letters <= set(string.ascii_uppercase):
        example = 'such as "YX", "YXC" or "TCYX"'
        raise InputError(f'axes "{axes}" must be letters, each once, with Y and X among them, {example}')
    if len(named) != len(shape):
        count = len(shape)
        raise InputError(f'axes "{axes}" should have {count} letters, as the image has {count} axes (shape {shape})')
    return named


def _guess_axes(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        raise InputError(f"the image has one axis (shape {shape}), but rows and columns are needed; reshape it")
    spatial = "YXC" if len(shape) >= 3 and shape[-1] in (3, 4) else "YX"
    leading, letters = len(shape) - len(spatial), PLANE_LETTERS + "TZ"
    if leading > len(letters):
        raise InputError(f"the image has {len(shape)} axes; merge the leading ones with numpy.reshape")
    return letters[len(letters) - leading :] + spatial


def _sample(image: Any, layout: Layout) -> npt.NDArray[np.float64]:
    """At most SAMPLED_VALUES values, spread evenly over the stack.

    Strides are odd, so that a pattern of period 2 is not met in one phase only.
    """
    sizes = [3 if n == layout.channel and layout.alpha else size for n, size in enumerate(layout.shape)]
    steps = [1] * len(sizes)

    def left(axis: int) -> int:
        return -(-sizes[axis] // steps[axis])

    while np.prod([float(left(axis)) for axis in range(len(sizes))]) > SAMPLED_VALUES:
        # Within a plane first, but only so far: skipping whole planes spares the reading of them.
        spatial = max((layout.y, layout.x), key=left)
        outer = max(layout.plane_axes, key=left, default=spatial)
        steps[outer if steps[spatial] >= 7 and left(outer) > 16 else spatial] += 2
    cut = tuple(slice(0, size, step) for size, step in zip(sizes, steps, strict=True))
    values = np.asarray(image[cut]).astype(np.float64)
    if not np.isfinite(values).all():
        first = np.unravel_index(_first_bad(values), values.shape)
        where = {a: int(n) * step for a, n, step in zip(layout.axes, first, steps, strict=True)}
        _refuse_not_finite(float(values[first]), where)
    return values.ravel()


def _first_bad(values: npt.NDArray[Any]) -> int:
    return int(np.argmin(np.isfinite(values).ravel()))


def _refuse_not_finite(value: float, where: dict[str, int]) -> None:
    position = ", ".join(f"{axis}={n}" for axis, n in where.items())
    reason = "is no float32 pixel; replace such values first (numpy.nan_to_num)"
    raise InputError(f"the image holds {value:g} at {position}, which {reason}")


def _mirrored(window: slice, length: int) -> npt.NDArray[np.intp]:
    """Which of `length` pixels stands at each place: past the last one they come back, that one twice."""
    places = np.arange(window.start, window.stop) % (2 * length)
    pixels: npt.NDArray[np.intp] = np.minimum(places, 2 * length - 1 - places)
    return pixels


def _times(window: slice, scale: int) -> slice:
    return slice(window.start * scale, window.stop * scale)
