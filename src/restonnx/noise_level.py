"""How noisy an image is, from the image alone."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

HIGH_PASS = (-0.12940952255126037, -0.2241438680420134, 0.8365163037378079, -0.48296291314453416)
"""Daubechies' wavelet filter of four taps (1988), which no linear ramp passes."""
MEDIAN_OF_MAGNITUDES = 0.6744897501960817
"""Median of the absolute value of a standard normal number."""


def estimate(window: Floats) -> float:
    """The standard deviation of white Gaussian noise in an image (C, H, W), in its values: the channels' median.

    The median of the finest diagonal wavelet coefficients, in which there is little but noise (Donoho and Johnstone
    1994, "Ideal spatial adaptation by wavelet shrinkage", section 4.2). It is what scikit-image's `estimate_sigma`
    computes, without its PyWavelets. 0 for an image without any detail.
    """
    return float(np.median([_of_channel(channel.astype(np.float64)) for channel in window]))


def _of_channel(channel: Floats) -> float:
    details = np.abs(_high_pass(_high_pass(channel).T))
    details = details[details > 0]  # exact zeros come from clipped or painted areas, where the noise is gone
    return float(np.median(details)) / MEDIAN_OF_MAGNITUDES if details.size else 0.0


def _high_pass(rows: Floats) -> Floats:
    """Every second value of each row's convolution with the filter; the rows are mirrored at both ends."""
    padded = np.pad(rows, ((0, 0), (3, 3)), mode="symmetric")
    count = (rows.shape[1] + 3) // 2
    filtered: Floats = sum((tap * padded[:, 1 + n : 2 * count + n : 2] for n, tap in enumerate(HIGH_PASS)), np.zeros(1))
    return filtered
