"""Enlarging: MATLAB's imresize, alone, after a denoiser, and with a reference pasted over it."""

from __future__ import annotations

import numpy as np

from restonnx.diffusion.resizing import enlarging_taps
from restonnx.training.evaluation.classical.denoise import estimated, nlm
from restonnx.training.evaluation.samples import Floats, Sample, to_unit


def bicubic(sample: Sample) -> Floats:
    """imresize(image, scale)."""
    return enlarged(sample.unit, sample.scale)


def denoised_bicubic(sample: Sample, *, strength: float) -> Floats:
    """After non-local means with the estimated noise level."""
    return enlarged(nlm(sample.unit, estimated(sample.unit), strength=strength), sample.scale)


def pasted(sample: Sample, *, sigma: float) -> Floats:
    """Bicubic, and where there is a reference its detail: what a Gaussian of that sigma takes from it."""
    from scipy.ndimage import gaussian_filter

    large = bicubic(sample)
    if sample.reference is None:
        return large
    reference = to_unit(sample.reference)
    seen = (reference > 0).any(axis=2, keepdims=True).astype(np.float32)
    widths = (sigma, sigma, 0)
    share = gaussian_filter(seen, widths)
    detail = reference - gaussian_filter(reference * seen, widths) / np.maximum(share, 1e-3)
    own = gaussian_filter(large * seen, widths) / np.maximum(share, 1e-3)
    return np.where(seen > 0, own + detail, large).astype(np.float32)


def enlarged(image: Floats, scale: int) -> Floats:
    """(H, W) or (H, W, C) -> `scale` times as large, by the cubic of Keys (1981), mirrored at the border."""
    weights = enlarging_taps(scale).astype(np.float32)
    for axis in (0, 1):
        image = np.moveaxis(_along_first(np.moveaxis(image, axis, 0), weights), 0, axis)
    return np.ascontiguousarray(image)


def _along_first(image: Floats, weights: Floats) -> Floats:
    """weights: (scale, taps), the taps lying symmetrically around a pixel."""
    length, reach = len(image), weights.shape[1] // 2
    padded = np.pad(image, [(reach, reach)] + [(0, 0)] * (image.ndim - 1), mode="symmetric")
    taps = np.stack([padded[start : start + length] for start in range(weights.shape[1])])
    large = np.tensordot(weights, taps, axes=1).swapaxes(0, 1)
    return large.reshape(-1, *image.shape[1:])
