"""scikit-image's denoisers, told the noise level or with an estimate of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from restonnx.training.evaluation.samples import Floats, Sample


def non_local_means(sample: Sample, *, strength: float, patch: int, distance: int, told: bool) -> Floats:
    """Buades et al. 2005 in the fast form of Darbon et al. 2008; strength: of the filter, in noise levels."""
    return nlm(sample.unit, _level(sample, told), strength=strength, patch=patch, distance=distance)


def non_local_means_of_cameras(sample: Sample, *, strength: float, patch: int, distance: int) -> Floats:
    """The same with the larger of two estimates, the image's and that of the image at half its size: what a camera has
    interpolated and compressed shows little noise at the finest scale."""
    image = sample.unit
    height, width = (side // 2 * 2 for side in image.shape[:2])
    half = image[:height, :width].reshape(height // 2, 2, width // 2, 2, *image.shape[2:]).mean(axis=(1, 3))
    sigma = max(estimated(image), estimated(half))
    return nlm(image, sigma, strength=strength, patch=patch, distance=distance)


def wavelets(sample: Sample, *, told: bool) -> Floats:
    """BayesShrink (Chang et al. 2000), of colour images in YCbCr; it has no setting."""
    from skimage.restoration import denoise_wavelet

    image = sample.unit
    colour = image.ndim == 3
    options: dict[str, Any] = {"rescale_sigma": True, "channel_axis": -1 if colour else None, "convert2ycbcr": colour}
    sigma = _level(sample, told)
    return np.asarray(denoise_wavelet(image, sigma=sigma, **options), np.float32) if sigma > 0 else image


def nlm(image: Floats, sigma: float, *, strength: float, patch: int = 5, distance: int = 6) -> Floats:
    """Of an image (H, W) or (H, W, 3) with noise of that standard deviation."""
    from skimage.restoration import denoise_nl_means

    if sigma <= 0:
        return image
    options: dict[str, Any] = {"patch_size": patch, "patch_distance": distance, "fast_mode": True}
    axis = -1 if image.ndim == 3 else None
    restored: Floats = denoise_nl_means(image, h=strength * sigma, sigma=sigma, channel_axis=axis, **options)
    return restored


def estimated(image: Floats) -> float:
    """The noise's standard deviation by scikit-image (Donoho and Johnstone 1994), the mean over the channels."""
    from skimage.restoration import estimate_sigma

    sigma = float(estimate_sigma(image, channel_axis=-1 if image.ndim == 3 else None, average_sigmas=True))
    return sigma if np.isfinite(sigma) else 0.0


def _level(sample: Sample, told: bool) -> float:
    if told and sample.sigma is not None:
        return sample.sigma
    return estimated(sample.unit)
