"""A model on the planes of a packed mosaic, tile by tile: as many at a time as it has channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from restonnx.blend import Blend
from restonnx.errors import Cancelled, ModelError

if TYPE_CHECKING:
    from restonnx.isp.frame import Floats
    from restonnx.restore import Restorer
    from restonnx.session import Cancel


def restore_planes(
    restorer: Restorer,
    planes: Floats,
    *,
    noise_level: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
    cancel: Cancel | None = None,
) -> Floats:
    """(C, h, w) float32 with 0 black and 1 white, restored: together by a model of C channels, else one by one.

    noise_level: standard deviation of the noise, for models that take it.
    Raises ModelError for a model of another number of channels or one that needs other inputs.
    """
    meta = restorer.metadata
    names = {spec.role: spec.name for spec in meta.inputs}
    if meta.channels not in (1, len(planes)) or meta.scale != 1 or not {*names} <= {"image", "noise", "noise_level"}:
        raise ModelError(
            f"{meta.name} cannot restore a mosaic of {len(planes)} planes: it should have 1 or {len(planes)} channels, "
            "scale 1, and no inputs but the image, noise and its level"
        )
    count, size = len(planes), planes.shape[1:]
    low, high = meta.range
    values = planes * np.float32(high - low) + np.float32(low)
    multiple = meta.tile.multiple
    padded = np.pad(values, [(0, 0), *((0, -side % multiple) for side in size)], mode="symmetric")
    plan, fade = restorer._plan(*size)
    blend, out = Blend(plan, (size[0], size[1]), fade=fade), np.empty_like(planes)
    images = count if meta.channels == 1 else 1
    level = np.full((images, 1, 1, 1), (noise_level or 0.0) * (high - low), np.float32)
    further = {names["noise_level"]: level} if "noise_level" in names else {}
    if progress is not None:
        progress(0, len(plan))
    for number, tile in enumerate(plan):
        if cancel is not None and cancel.is_set():
            raise Cancelled("the run was cancelled")
        window = np.ascontiguousarray(padded[:, tile.rows, tile.cols])
        feeds = {"image": window.reshape(images, meta.channels, *window.shape[1:]), **further}
        restored = restorer._session.run(feeds | restorer._draw(seed, 0, count, 0, tile), cancel)
        (rows, cols), finished = blend.add(number, restored.reshape(count, *restored.shape[2:]))
        out[:, rows, cols] = finished
        if progress is not None:
            progress(number + 1, len(plan))
    result: Floats = (out - np.float32(low)) / np.float32(high - low)
    return result
