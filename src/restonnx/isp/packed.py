"""A model on the planes of a packed mosaic or of linear colours, tile by tile: as many at a time as it has channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from restonnx.errors import ModelError

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
    low, high = meta.range
    if (low, high) != (0, 1):
        planes = planes * np.float32(high - low) + np.float32(low)
    images = planes.reshape(-1, meta.channels, *planes.shape[1:])
    level = np.full((len(images), 1, 1, 1), (noise_level or 0.0) * (high - low), np.float32)
    further = {names["noise_level"]: level} if "noise_level" in names else {}
    restored = restorer.run(images, further, seed=seed, progress=progress, cancel=cancel).reshape(planes.shape)
    if (low, high) != (0, 1):
        restored -= np.float32(low)
        restored /= np.float32(high - low)
    return restored
