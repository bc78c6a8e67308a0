"""The dark channel prior (He, Sun and Tang 2009, extended 2011) with the guided filter (He et al. 2010)."""

from __future__ import annotations

import numpy as np

from restonnx.training.evaluation.samples import Floats, Sample

BRIGHTEST = 0.001
"""Share of the pixels, those of the highest dark channel, among which the airlight is looked for."""


def dark_channel_prior(sample: Sample, *, patch: int, kept: float, least: float, radius: int = 40) -> Floats:
    """I = J t + A (1 - t) with t = 1 - kept times the dark channel of I / A, which without haze is about 0.

    patch: side of the dark channel's window in pixels.  kept: the paper's omega, how much of the haze is removed.
    least: the paper's t0, below which t is not taken for true.  radius: of the guided filter that refines t.
    """
    image = sample.unit.clip(0, 1)
    airlight = _airlight(image, patch)
    transmission = 1 - kept * _dark_channel((image / airlight).astype(np.float32), patch)
    refined = guided_filter(transmission, image.mean(axis=2), radius, 1e-3).clip(least, 1)[..., None]
    return np.asarray((image - airlight) / refined + airlight, np.float32)


def guided_filter(image: Floats, guide: Floats, radius: int, epsilon: float) -> Floats:
    """Smooth `image` (H, W) where `guide` (H, W) is smooth: in every window it is a linear function of the guide.

    radius: of the window in pixels.  epsilon: variance of the guide (white is 1) below which a window counts as flat.
    """
    from scipy.ndimage import uniform_filter

    def box(values: Floats) -> Floats:
        return np.asarray(uniform_filter(values.astype(np.float64), 2 * radius + 1, mode="reflect"))

    mean_guide, mean_image = box(guide), box(image)
    slope = (box(guide * image) - mean_guide * mean_image) / (box(guide * guide) - mean_guide**2 + epsilon)
    offset = mean_image - slope * mean_guide
    return np.asarray(box(slope) * guide + box(offset), np.float32)


def _dark_channel(image: Floats, patch: int) -> Floats:
    from scipy.ndimage import minimum_filter

    dark: Floats = minimum_filter(image.min(axis=2), patch, mode="reflect")
    return dark


def _airlight(image: Floats, patch: int) -> Floats:
    """(3,): the brightest pixel among those whose dark channel is highest."""
    dark = _dark_channel(image, patch).ravel()
    count = max(1, int(BRIGHTEST * dark.size))
    candidates = image.reshape(-1, 3)[np.argpartition(dark, -count)[-count:]]
    return np.maximum(candidates[candidates.mean(axis=1).argmax()], 0.05)
