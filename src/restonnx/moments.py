"""What several samples have in common, and where they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Moments:
    """Running mean and standard deviation of arrays of one shape (Welford 1962), however many there are."""

    def __init__(self) -> None:
        self._count = 0
        self.mean: Floats = np.zeros(0, np.float32)
        self._squares: Floats | np.float32 = np.float32(0)

    def add(self, values: Floats) -> None:
        self._count += 1
        if self._count == 1:
            self.mean = values
            return
        off = values - self.mean
        self.mean = self.mean + off / np.float32(self._count)
        self._squares += off * (values - self.mean)

    @property
    def std(self) -> Floats:
        """Of the population: the root of the mean squared distance from the mean."""
        squares = np.broadcast_to(self._squares, self.mean.shape)  # of one sample alone: 0
        std: Floats = np.sqrt(squares / np.float32(max(self._count, 1)))
        return std
