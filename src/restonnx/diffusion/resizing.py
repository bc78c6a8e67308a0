"""Down-sampling an image as MATLAB's imresize does it, with its adjoint and its closed form of data consistency."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restonnx.diffusion.borders import extend, fold, library_of, same_kind, zero_pad

Array = Any
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Downsample:
    """MATLAB's imresize(image, 1 / factor): bicubic, antialiased, the border mirrored with its edge repeated.

    A side of N pixels becomes ceil(N / factor). The adjoint cannot know N and takes it as N = `shape` (H, W), by
    default factor times the measurement's sides.
    """

    factor: int
    shape: tuple[int, int] | None = None
    """The image's height and width; needed where they are no multiples of the factor."""
    centred: bool = False
    """The centres of both grids coincide, as in the published code, instead of their top left corners, as in MATLAB.
    The same thing where the sides are multiples of the factor."""
    _grams: dict[int, tuple[Vector, Matrix]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, not {self.factor}")

    def forward(self, x: Array) -> Array:
        if self.shape is not None and tuple(x.shape[-2:]) != tuple(self.shape):
            raise ValueError(f"the operator is for images of {self.shape}, not {tuple(x.shape[-2:])}")
        rows = self._shrink(x.swapaxes(-1, -2)).swapaxes(-1, -2)
        return self._shrink(rows)

    def adjoint(self, u: Array) -> Array:
        high, wide = self.shape or (u.shape[-2] * self.factor, u.shape[-1] * self.factor)
        cols = self._grow(u, wide)
        return self._grow(cols.swapaxes(-1, -2), high).swapaxes(-1, -2)

    def proximal(self, measurement: Array, v: Array, rho: Any) -> Array:
        """argmin over x of  ||A x - measurement||^2 / 2 + rho / 2 ||x - v||^2, exactly.

        It is  v + A' (A A' + rho)^-1 (measurement - A v),  and A A' is one small matrix along rows and one along
        columns, whose eigenvectors diagonalise it.
        """
        (of_rows, rows), (of_cols, cols) = self._eigen(v.shape[-2]), self._eigen(v.shape[-1])
        rows, cols = same_kind(rows, v), same_kind(cols, v)
        modes = rows.swapaxes(0, 1) @ (measurement - self.forward(v)) @ cols
        # Rounding can make the least eigenvalues negative.
        modes = modes / (same_kind(np.multiply.outer(of_rows, of_cols).clip(1e-9), v) + rho)
        sized = Downsample(self.factor, (v.shape[-2], v.shape[-1]), self.centred)
        return v + sized.adjoint(rows @ modes @ cols.swapaxes(0, 1))

    def _eigen(self, length: int) -> tuple[Vector, Matrix]:
        """Eigenvalues and eigenvectors of A A' along a side of that length."""
        if length not in self._grams:
            count = -(-length // self.factor)
            values, vectors = np.linalg.eigh(self._shrink(self._grow(np.eye(count), length)))
            self._grams[length] = values, vectors
        return self._grams[length]

    def _shrink(self, x: Array) -> Array:
        """Along the last axis: blocks of `factor` pixels, each output being a weighted sum of a few blocks."""
        count, before, after, weights = self._blocks(x.shape[-1])
        x = extend(x, before, after, "symmetric")
        blocks = x.reshape(*x.shape[:-1], -1, self.factor)
        weights = same_kind(weights, x)
        return sum(blocks[..., b : b + count, :] @ weights[b] for b in range(len(weights)))

    def _grow(self, u: Array, length: int) -> Array:
        """The adjoint of `_shrink` for an image of that length."""
        count, before, after, weights = self._blocks(length)
        if count != u.shape[-1]:
            raise ValueError(f"a side of {length} pixels becomes {count}, not {u.shape[-1]}: pass the image's shape")
        last, weights = len(weights) - 1, same_kind(weights, u)
        blocks = library_of(u).stack([zero_pad(u, b, last - b) for b in range(last + 1)], -1) @ weights
        return fold(blocks.reshape(*u.shape[:-1], -1), before, after, "symmetric")

    def _blocks(self, length: int) -> tuple[int, int, int, Vector]:
        """Pixels of the result, pixels to extend by on both sides, and the weights (blocks, factor)."""
        count = -(-length // self.factor)
        offset = (length - count * self.factor) / 2 if self.centred else 0.0
        first, taps = bicubic_taps(self.factor, offset)
        blocks = -(-len(taps) // self.factor)
        weights = np.pad(taps, (0, blocks * self.factor - len(taps))).reshape(blocks, self.factor)
        return count, -first, (count - 1 + blocks) * self.factor + first - length, weights


def bicubic_taps(factor: int, offset: float = 0.0) -> tuple[int, Vector]:
    """Which input pixel the first output pixel begins with (negative: outside), and the weights from there on.

    The cubic of Keys (1981) with a = -1/2, stretched by the factor; sum 1. offset: in input pixels, added to where
    the output's pixels lie.
    """
    centre = (factor - 1) / 2 + offset
    first = ceil(centre - 2 * factor + 1e-9)
    z = np.abs(centre - np.arange(first, ceil(centre + 2 * factor - 1e-9))) / factor
    taps = _keys(z)
    return first, taps / taps.sum()


def enlarging_taps(factor: int) -> Matrix:
    """(factor, taps): the weights of MATLAB's imresize(image, factor) for each output pixel of an input pixel.

    Its neighbours lie symmetrically around it. The cubic of Keys (1981) with a = -1/2.
    """
    reach = 2
    z = np.abs((np.arange(factor)[:, None] + 0.5) / factor - 0.5 - np.arange(-reach, reach + 1))
    taps = _keys(z)
    return np.asarray(taps / taps.sum(axis=1, keepdims=True))


def _keys(z: Vector) -> Vector:
    inner = 1.5 * z**3 - 2.5 * z**2 + 1
    outer = -0.5 * z**3 + 2.5 * z**2 - 4 * z + 2
    return np.where(z <= 1, inner, np.where(z < 2, outer, 0.0))
