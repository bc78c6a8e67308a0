"""Where a layer's pixels lie in the world, and where those of a part of it lie, or of a finer grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Placement:
    """What napari needs to put a layer of `ndim` axes (without colour) into its world.

    A pixel at index i lies at affine(rotate @ shear @ diag(scale) @ i + translate).
    """

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    rotate: Any
    shear: Any
    affine: Any
    matrix: Floats
    """rotate @ shear @ diag(scale), (ndim, ndim)."""
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @property
    def ndim(self) -> int:
        return len(self.scale)

    def part(self, start: Sequence[float], finer: Sequence[float] | None = None) -> Placement:
        """Of an array whose first pixel is that of index `start`, and which has `finer` pixels in each one of ours.

        napari puts the centres of pixels on the grid: the first of s finer pixels lies at (1/s - 1) / 2 of ours.
        """
        steps = 1 / np.asarray(finer if finer is not None else np.ones(self.ndim), float)
        offset = self.matrix @ (np.asarray(start, float) + (steps - 1) / 2)
        return replace(
            self,
            scale=tuple(float(n) for n in np.asarray(self.scale) * steps),
            translate=tuple(float(n) for n in np.asarray(self.translate) + offset),
            matrix=self.matrix * steps,
        )

    def arguments(self) -> dict[str, Any]:
        """For `viewer.add_image`."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }


def placement(layer: Any) -> Placement:
    """That of a napari layer; the matrix is asked of the layer itself, whatever its rotation and shear are."""
    origin = np.zeros(layer.ndim)
    affine = np.array(layer.affine.affine_matrix)
    back = np.linalg.inv(affine)

    def physical(index: Floats) -> Floats:
        world = np.append(np.asarray(layer.data_to_world(index), float), 1)
        found: Floats = (back @ world)[:-1]
        return found

    start = physical(origin)
    return Placement(
        scale=tuple(float(n) for n in layer.scale),
        translate=tuple(float(n) for n in layer.translate),
        rotate=np.array(layer.rotate),
        shear=np.array(layer.shear),
        affine=affine,
        matrix=np.stack([physical(axis) - start for axis in np.eye(layer.ndim)], axis=1),
        units=tuple(str(unit) for unit in layer.units),
        axis_labels=tuple(str(label) for label in layer.axis_labels),
    )
