"""From the viewer to a job: what is shown, and the arrays of the layers that a model asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Shapes

from restonnx.errors import InputError
from restonnx.plugin.placement import placement
from restonnx.plugin.settings import LAYER_ROLES
from restonnx.plugin.source import Source, box, check_reference, visible


def view_of(viewer: Any, layer: Any, source: Source) -> tuple[slice, slice]:
    """Rows and columns of the plane that the canvas shows; all of it in three dimensions."""
    if viewer.dims.ndisplay != 2:
        return slice(0, source.shape[source.rows_and_columns[0]]), slice(0, source.shape[source.rows_and_columns[1]])
    hidden = viewer.dims.ndim - source.ndim
    down, across = (axis - hidden for axis in viewer.dims.displayed)
    if down < 0 or across < 0:  # the viewer shows an axis that the layer does not have
        down, across = source.rows_and_columns
    return visible(
        source,
        layer.world_to_data,
        viewer.scene.camera.center,
        viewer.scene.camera.zoom,
        viewer.canvas.size,
        viewer.dims.point[-source.ndim :],
        (down, across),
    )


def rectangle_of(viewer: Any, layer: Any, source: Source) -> tuple[slice, slice]:
    """Rows and columns of the rectangle that is selected in the uppermost Shapes layer, or of its last one.

    Raises InputError where nothing is drawn.
    """
    shapes = next((one for one in reversed(viewer.layers) if isinstance(one, Shapes) and len(one.data)), None)
    if shapes is None:
        raise InputError("there is no rectangle: draw one in a Shapes layer")
    chosen = sorted(shapes.selected_data) or [len(shapes.data) - 1]
    return box(source, _indices(shapes, shapes.data[chosen[-1]], viewer.dims.point, layer))


def given(
    viewer: Any, image: Any, chosen: dict[str, Any], asked: tuple[str, ...], source: Source, scale: int
) -> dict[str, Any]:
    """Arrays by role from the layers that are chosen for them. Raises InputError for what is not chosen yet.

    scale: of the model; a reference that has the result's size has to show as much of the world as the image does.
    """
    found = {}
    for role in asked:
        if role not in LAYER_ROLES:
            continue
        layer = chosen[role].layer
        if layer is None:
            raise InputError(f"this model needs a {role}: choose a layer for it")
        if isinstance(layer, Shapes):
            found[role] = _covered(layer, viewer.dims.point, image, source)
        else:
            found[role] = layer.data[0] if layer.multiscale else layer.data
            shape = found[role].shape[: layer.ndim]
            if role == "reference" and shape[-2:] == tuple(
                source.shape[axis] * scale for axis in source.rows_and_columns
            ):
                check_reference(source, placement(layer), shape)
    return found


def _covered(shapes: Any, point: Any, image: Any, source: Source) -> Any:
    """Which pixels of the image lie under shapes, wherever both lie in the world; flat shapes cover all planes."""
    corners = [_indices(shapes, shape, point, image) for shape in shapes.data]
    shape = source.shape
    if shapes.ndim < source.ndim:
        axes = list(source.rows_and_columns)
        corners, shape = [found[:, axes] for found in corners], tuple(source.shape[axis] for axis in axes)
    if not corners:
        return np.zeros(shape, bool)
    return Shapes(corners, shape_type=shapes.shape_type).to_labels(labels_shape=shape) != 0


def _indices(shapes: Any, corners: Any, point: Any, image: Any) -> Any:
    """The corners of a shape (N, axes) as indices of an image; a flat one lies in the plane that is shown."""
    found = []
    for corner in corners:
        world = list(shapes.data_to_world(corner))[-image.ndim :]
        found.append(image.world_to_data([*point[-image.ndim :][: image.ndim - len(world)], *world]))
    return np.array(found)
