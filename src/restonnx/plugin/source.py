"""A snapshot of an image layer, taken in the main thread: plain data that another thread may work on."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.plugin.origin import file_of
from restonnx.plugin.placement import Placement, placement
from restonnx.plugin.settings import RAW_KEY

LOOK = ("colormap", "contrast_limits", "gamma", "blending", "opacity", "interpolation2d", "interpolation3d")
LOOK_3D = ("rendering", "iso_threshold", "attenuation", "projection_mode")
"""What a result takes over of how its input is shown, in two dimensions and in three."""
SMALLEST_PREVIEW = 32
"""Pixels, along a side."""


@dataclass(frozen=True)
class Source:
    """What is to be restored."""

    name: str
    uid: str
    """Of the layer, whatever it is renamed to."""
    data: Any
    """Of a multiscale layer the finest level; dask and zarr stay as they are."""
    rgb: bool
    rows_and_columns: tuple[int, int]
    """The axes that the viewer shows down and across."""
    position: tuple[int, ...]
    """The index that the viewer shows along each axis without colour; of those two it means nothing."""
    placement: Placement
    look: dict[str, Any]
    raw: str = ""
    """The RAW file that the layer is the picture of, "" for other layers."""
    raw_pattern: str = ""
    """Of that file's sensor: such as "RGGB", "X-Trans", "linear", "monochrome"."""
    file: str = ""
    """What the layer was read from, "" where that is not known."""

    @property
    def ndim(self) -> int:
        """Of the axes without colour."""
        return self.placement.ndim

    @property
    def axes(self) -> str:
        """As `restore` takes them: Y and X are what the viewer shows, the others are planes."""
        down, across = self.rows_and_columns
        letters = iter(letter for letter in string.ascii_uppercase if letter not in "CSXY")
        named = ["Y" if axis == down else "X" if axis == across else next(letters) for axis in range(self.ndim)]
        return "".join(named) + ("C" if self.rgb else "")

    @property
    def shape(self) -> tuple[int, ...]:
        """Without colour."""
        return tuple(int(n) for n in self.data.shape[: self.ndim])

    @property
    def planes(self) -> int:
        """How many there are."""
        return int(np.prod([n for axis, n in enumerate(self.shape) if axis not in self.rows_and_columns]))

    def region(self, rows: slice | None = None, cols: slice | None = None) -> tuple[slice, ...]:
        """The plane that the viewer shows, or a part of it, as one slice for each axis of `data`."""
        spans = [slice(n, n + 1) for n in self.position]
        for axis, span in zip(self.rows_and_columns, (rows, cols), strict=True):
            spans[axis] = slice(0, self.shape[axis]) if span is None else span
        return (*spans, slice(0, int(self.data.shape[-1]))) if self.rgb else tuple(spans)

    def placed(self, region: Sequence[slice] | None, scale: int) -> Placement:
        """Where the result of a region lies, which has `scale` x `scale` pixels for each of ours."""
        start = [0 if region is None else region[axis].start for axis in range(self.ndim)]
        finer = [scale if axis in self.rows_and_columns else 1 for axis in range(self.ndim)]
        return self.placement.part(start, finer)


def snapshot(layer: Any, dims: Any) -> Source:
    """Of an image layer, and of what the viewer's `dims` show of it. Raises InputError for a layer without rows."""
    data = layer.data[0] if layer.multiscale else layer.data
    ndim = int(layer.ndim)
    if ndim < 2:
        raise InputError(f'the layer "{layer.name}" has no rows and columns; choose an image')
    hidden = dims.ndim - ndim  # a layer's axes are the last ones of the viewer
    shown = [axis - hidden for axis in dims.displayed if axis >= hidden]
    # Fewer than two where the viewer shows an axis that the layer does not have: then its own last two.
    down, across = shown[-2:] if len(shown) >= 2 else (ndim - 2, ndim - 1)
    point = layer.world_to_data(dims.point[-ndim:])
    position = tuple(int(np.clip(np.rint(n), 0, size - 1)) for n, size in zip(point, data.shape, strict=False))
    return Source(
        name=str(layer.name),
        uid=str(layer.unique_id),
        data=data,
        rgb=bool(layer.rgb),
        rows_and_columns=(down, across),
        position=position,
        placement=placement(layer),
        look=look(layer),
        raw=raw_file(layer),
        raw_pattern=raw_pattern(layer),
        file=file_of(layer),
    )


def raw_file(layer: Any) -> str:
    """The RAW file that a layer is the picture of, "" for other layers."""
    notes = layer.metadata.get(RAW_KEY)
    return str(notes.get("source") or "") if isinstance(notes, Mapping) else ""


def raw_pattern(layer: Any) -> str:
    """How `isp.frame.pattern_name` calls that of the file's sensor."""
    return str(layer.metadata[RAW_KEY].get("pattern") or "") if raw_file(layer) else ""


def look(layer: Any) -> dict[str, Any]:
    """How a layer is shown. Colours have no colormap, but limits: of more than 8 bits napari stretches them by itself,
    to the darkest and brightest value of each layer."""
    names = [name for name in LOOK + LOOK_3D if not (layer.rgb and name == "colormap")]
    return {name: getattr(layer, name) for name in names}


def visible(
    source: Source,
    to_data: Callable[[Sequence[float]], Sequence[float]],
    center: Sequence[float],
    zoom: float,
    canvas: tuple[int, int],
    world_point: Sequence[float],
    world_axes: tuple[int, int],
) -> tuple[slice, slice]:
    """Rows and columns of the plane that the canvas shows: at least their bounding box where the layer is turned.

    to_data: from a point of the world, of as many axes as the layer, to its index.  center: of the camera, its last
    two values being down and across.  zoom: pixels of the canvas per unit of the world.  canvas: height and width.
    world_axes: the layer's axes that the viewer shows.  A layer that is out of sight is shown in its middle.
    """
    corners = []
    for down in (-0.5, 0.5):
        for across in (-0.5, 0.5):
            point = list(world_point)
            point[world_axes[0]] = center[-2] + down * canvas[0] / zoom
            point[world_axes[1]] = center[-1] + across * canvas[1] / zoom
            corners.append(np.asarray(to_data(point), float))
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    rows, cols = (_inside(low[axis], high[axis], source.shape[axis]) for axis in source.rows_and_columns)
    return rows, cols


def box(source: Source, corners: Any) -> tuple[slice, slice]:
    """Rows and columns around a shape, whose `corners` (N, ndim) are indices of the source."""
    corners = np.asarray(corners, float)
    rows, cols = (
        _inside(corners[:, axis].min(), corners[:, axis].max(), source.shape[axis]) for axis in source.rows_and_columns
    )
    return rows, cols


def shrunk(rows: slice, cols: slice, pixels: float, context: int) -> tuple[slice, slice]:
    """The middle of a window, of its proportions and small enough that it and `context` pixels on each side of it are
    at most about so many `pixels`; all of it where it is smaller."""
    height, width = rows.stop - rows.start, cols.stop - cols.start
    # (ratio * height + 2 * context) * (ratio * width + 2 * context) = pixels, solved for the ratio
    a, b, c = height * width, 2 * context * (height + width), 4 * context**2 - pixels
    ratio = min(1.0, (-b + float(np.sqrt(max(0.0, b * b - 4 * a * c)))) / (2 * a))
    return _middle(rows, round(height * ratio)), _middle(cols, round(width * ratio))


def check_reference(source: Source, where: Placement, shape: Sequence[int]) -> None:
    """Raise InputError where a reference is known to show more or less of the world than the image does.

    Cameras give images of one shape whatever the objective is. Without units nothing is known; up to a pixel of the
    coarser one they may differ.  shape: of the reference, without colour.
    """
    for axis in source.rows_and_columns:
        own = source.placement
        other = axis - source.ndim  # its axes are the last ones
        if where.ndim < -other or own.units[axis] != where.units[other] or own.units[axis] == "pixel":
            continue
        steps = abs(own.scale[axis]), abs(where.scale[other])
        ours, theirs = source.shape[axis] * steps[0], shape[other] * steps[1]
        if abs(ours - theirs) > max(steps):
            raise InputError(
                f"the reference measures {theirs:g} {own.units[axis]} where the image measures {ours:g}: choose one of "
                "the same place, or correct its scale"
            )


def _middle(span: slice, length: int) -> slice:
    length = min(max(length, SMALLEST_PREVIEW), span.stop - span.start)
    start = span.start + (span.stop - span.start - length) // 2
    return slice(start, start + length)


def _inside(low: float, high: float, length: int) -> slice:
    start, stop = int(np.floor(max(low, 0))), int(np.ceil(min(high + 1, length)))
    return slice(start, stop) if start < stop else slice(0, length)
