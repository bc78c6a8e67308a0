"""What the plugin restores, made without a viewer."""

from __future__ import annotations

import numpy as np

from restonnx.plugin.placement import Placement
from restonnx.plugin.source import Source


def placed(matrix: np.ndarray, translate: np.ndarray) -> Placement:
    """Whatever the matrix is made of; what napari is told beside it is not looked at."""
    ndim = len(translate)
    return Placement(
        scale=(1.0,) * ndim,
        translate=tuple(float(n) for n in translate),
        rotate=np.eye(ndim),
        shear=np.zeros(ndim * (ndim - 1) // 2),
        affine=np.eye(ndim + 1),
        matrix=matrix,
        units=("pixel",) * ndim,
        axis_labels=("a",) * ndim,
    )


def source(shape: tuple[int, ...] = (40, 60), *, rgb: bool = False, shown: tuple[int, int] | None = None) -> Source:
    ndim = len(shape) - rgb
    return Source(
        name="any",
        uid="1",
        data=np.zeros(shape, np.uint8),
        rgb=rgb,
        rows_and_columns=shown or (ndim - 2, ndim - 1),
        position=tuple(n // 2 for n in shape[:ndim]),
        placement=placed(np.eye(ndim), np.zeros(ndim)),
        look={},
    )
