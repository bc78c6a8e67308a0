"""Sharpening: with the kernel that blurred the image, with a guess of it, and without any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from restonnx.diffusion.blurs import gaussian_kernel
from restonnx.training.evaluation.samples import Floats, Sample


def richardson_lucy(sample: Sample, *, iterations: int) -> Floats:
    """Richardson 1972, Lucy 1974, with the known kernel."""
    from skimage.restoration import richardson_lucy as run

    return framed(sample.unit, _known(sample), lambda image, psf: run(image, psf, num_iter=iterations))


def wiener(sample: Sample, *, balance: float) -> Floats:
    """Wiener-Hunt deconvolution with the known kernel; balance: weight of smoothness."""
    from skimage.restoration import wiener as run

    return framed(sample.unit, _known(sample), lambda image, psf: run(image, psf, balance, clip=False))


def guessed_richardson_lucy(sample: Sample, *, sigma: float, iterations: int) -> Floats:
    """Richardson-Lucy with a Gaussian kernel of that sigma for any blur."""
    from skimage.restoration import richardson_lucy as run

    kernel = gaussian_kernel(2 * int(4 * sigma + 0.5) + 1, sigma)
    return framed(sample.unit, kernel, lambda image, psf: run(image, psf, num_iter=iterations))


def unsharp_mask(sample: Sample, *, radius: float, amount: float) -> Floats:
    """What a Gaussian of that radius takes away is added once more, times the amount."""
    from skimage.filters import unsharp_mask as run

    image = sample.unit
    axis = 2 if image.ndim == 3 else None  # scikit-image 0.26 leaves most of the result unset for -1
    return np.asarray(run(image, radius, amount, channel_axis=axis, preserve_range=True), np.float32)


def framed(image: Floats, kernel: Floats, restore: Callable[[Any, Any], Any]) -> Floats:
    """scikit-image's deconvolution, channel by channel.

    It turns the kernel round, and takes what lies beyond the border for 0 or for the opposite side, so the image is
    mirrored there first.

    kernel: as `diffusion.blurs` has it.  restore: (image (H, W), kernel) -> image, float64.
    """
    margin = 2 * max(kernel.shape)
    margins = ((margin, margin), (margin, margin))
    turned = kernel[::-1, ::-1].astype(np.float64)

    def one(channel: Floats) -> Floats:
        wide = np.pad(channel.clip(0, 1), margins, mode="reflect").astype(np.float64)
        restored = restore(wide, turned)[margin:-margin, margin:-margin]
        return np.asarray(restored.clip(0, 1), np.float32)

    return one(image) if image.ndim == 2 else np.stack([one(image[..., c]) for c in range(image.shape[2])], axis=2)


def _known(sample: Sample) -> Floats:
    if sample.kernel is None:
        raise ValueError("this sample has no known kernel")
    return sample.kernel
