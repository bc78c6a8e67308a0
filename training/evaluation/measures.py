"""How near a restored image comes to the true one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LOW_SIGMA = 8.0
"""Pixels; standard deviation of the Gaussian behind which two images are compared for shifts of tone and colour."""
PERCENTILES = (0.1, 99.9)
"""Of the true image: black and white where the scale is free."""


@dataclass(frozen=True)
class Quality:
    """One image, or the mean over several. PSNR in dB."""

    psnr: float
    ssim: float
    psnr_y: float | None = None
    ssim_y: float | None = None
    """Of luma alone, where the literature does so."""
    ciede2000: float | None = None
    """Mean colour difference (Sharma et al. 2005) over the pixels; 1 can just be seen. None for grey images."""
    low_frequency_shift: float | None = None
    """Mean absolute difference of the two images after a Gaussian blur of `LOW_SIGMA`, over all pixels and channels, in
    1/255: what is wrong with tone and colour rather than with detail."""


def quality(
    restored: Floats, truth: Floats, *, luma_border: int | None = None, gray: bool = False, free_scale: bool = False
) -> Quality:
    """Compare images (H, W) or (H, W, 3), white being 1.

    The restored one is clipped and rounded to 8 bit, as a file would hold it.
    luma_border: also PSNR and SSIM of luma, without a border of so many pixels.  gray: the true image's file has one
        channel, which then is the luma.
    free_scale: gain and offset say nothing (micrographs): the restored image is first given those that fit best, and
        black and white are the `PERCENTILES` of the true one; nothing is clipped then.
    """
    if restored.shape != truth.shape:
        raise ValueError(f"a restored image of {restored.shape} cannot be compared with {truth.shape}")
    if free_scale:
        restored, truth = fitted(restored, truth)
        return Quality(*psnr_ssim(restored, truth, as_file=False))
    psnr, ssim = psnr_ssim(restored, truth)
    psnr_y = ssim_y = None
    if luma_border is not None and truth.ndim == 3:
        psnr_y, ssim_y = _luma(restored, truth, luma_border, gray)
    colour = _ciede2000(restored, truth) if truth.ndim == 3 else None
    return Quality(psnr, ssim, psnr_y, ssim_y, colour, _low_frequency_shift(restored, truth))


def psnr_ssim(restored: Floats, clean: Floats, *, as_file: bool = True) -> tuple[float, float]:
    """PSNR in dB, at most 100, and SSIM (Gaussian window of Wang et al. 2004) of an image (H, W) or (H, W, 3).

    White is 1.  as_file: clip the restored image and round it to 8 bit first.
    """
    from skimage.metrics import structural_similarity

    restored = _as_file(restored) if as_file else restored
    ssim = structural_similarity(
        clean,
        restored,
        data_range=1.0,
        channel_axis=-1 if clean.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    error = float(np.mean(np.square(restored.astype(np.float64) - clean)))
    return -10 * math.log10(max(error, 1e-10)), float(ssim)


def fitted(restored: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """Both with the true image's percentiles at 0 and 1, the first with the gain and offset of the least squares."""
    low, high = np.percentile(truth, PERCENTILES)
    truth = ((truth - low) / max(high - low, 1e-9)).astype(np.float32)
    off = restored.astype(np.float64) - restored.mean(dtype=np.float64)
    gain = float((off * truth).sum() / max(float((off * off).sum()), 1e-12))
    return (truth.mean(dtype=np.float64) + gain * off).astype(np.float32), truth


def mean(qualities: Iterable[Quality]) -> Quality:
    """Over the images; a measure that one image lacks is lacking."""
    rows = [asdict(quality) for quality in qualities]
    means: dict[str, Any] = {key: _mean([row[key] for row in rows]) for key in rows[0]}
    return Quality(**means)


def rounded(quality: Quality) -> dict[str, float]:
    """As JSON holds it: to a thousandth of a dB, and to four places; without what was not measured."""
    places = {"psnr": 3, "psnr_y": 3}
    return {key: round(value, places.get(key, 4)) for key, value in asdict(quality).items() if value is not None}


def _mean(values: list[Any]) -> float | None:
    return None if any(value is None for value in values) else float(np.mean(values))


def _as_file(image: Floats) -> Floats:
    rounded: Floats = np.rint(image.clip(0, 1) * 255) / 255
    return rounded


def _luma(restored: Floats, truth: Floats, border: int, gray: bool) -> tuple[float, float]:
    """Of Y as MATLAB's rgb2ycbcr has it (ITU-R BT.601, 16 to 235), which the tables of super-resolution go by.

    What is stored grey is its own luma there, from 0 to 255.
    """
    from skimage.color import rgb2ycbcr

    inside = slice(border, -border or None)
    pair = (
        (image.mean(axis=2) if gray else rgb2ycbcr(image)[..., 0] / 255)[inside, inside].astype(np.float32)
        for image in (_as_file(restored), truth)
    )
    return psnr_ssim(*pair, as_file=False)


def _ciede2000(restored: Floats, truth: Floats) -> float:
    from skimage.color import deltaE_ciede2000, rgb2lab

    return float(deltaE_ciede2000(rgb2lab(truth), rgb2lab(_as_file(restored))).mean())


def _low_frequency_shift(restored: Floats, truth: Floats) -> float:
    from scipy.ndimage import gaussian_filter

    widths = (LOW_SIGMA, LOW_SIGMA, 0)[: truth.ndim]
    return float(np.abs(gaussian_filter(_as_file(restored) - truth, widths, mode="nearest")).mean() * 255)
