"""Too little light, and shadows: brightening by formulas, with a denoiser behind it."""

from __future__ import annotations

import numpy as np

from restonnx.training.evaluation.classical.denoise import estimated, nlm
from restonnx.training.evaluation.classical.haze import guided_filter
from restonnx.training.evaluation.samples import Floats, Sample


def gain(sample: Sample, *, level: float, strength: float) -> Floats:
    """Linear light multiplied until its mean is `level`, then non-local means with the estimated noise."""
    light = _to_light(sample.unit)
    bright = _to_display((light * (level / max(float(light.mean()), 1e-4))).clip(0, 1))
    return nlm(bright, estimated(bright), strength=strength)


def gamma(sample: Sample, *, level: float, strength: float) -> Floats:
    """Display values raised to the power that brings their mean to about `level`, then non-local means."""
    image = sample.unit.clip(1 / 510, 1)
    bright = np.asarray(image ** (np.log(level) / np.log(float(image.mean()))), np.float32)
    return nlm(bright, estimated(bright), strength=strength)


def equalised(sample: Sample, *, clip: float, strength: float) -> Floats:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), then non-local means."""
    from skimage.exposure import equalize_adapthist

    bright = np.asarray(equalize_adapthist(sample.unit.clip(0, 1), clip_limit=clip), np.float32)
    return nlm(bright, estimated(bright), strength=strength)


def retinex(sample: Sample, *, power: float, strength: float, radius: int = 15) -> Floats:
    """Divided by a power of the illumination, which is the largest channel smoothed (Guo et al. 2017, LIME), then
    non-local means."""
    image = sample.unit.clip(0, 1)
    largest = image.max(axis=2)
    illumination = guided_filter(largest, largest, radius, 1e-3).clip(1 / 255, 1)
    bright = np.asarray((image / illumination[..., None] ** power).clip(0, 1), np.float32)
    return nlm(bright, estimated(bright), strength=strength)


def relit(sample: Sample, *, band: int, soft: float) -> Floats:
    """Inside the mask, linear light times the ratio of what is seen on both sides of its border, per channel.

    band: how far from the border the two sides are compared, in pixels.  soft: standard deviation of the Gaussian that
    softens the mask, in pixels, and half of what is left out beside the border.  After Shor and Lischinski 2008.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    image, shaded = sample.unit.clip(0, 1), sample.mask
    if shaded is None or shaded.all() or not shaded.any():
        return image
    light = _to_light(image)
    inside, outside = distance_transform_edt(shaded), distance_transform_edt(~shaded)
    near = [(depth > 2 * soft) & (depth <= 2 * soft + band) for depth in (inside, outside)]
    if not all(side.any() for side in near):
        near = [shaded, ~shaded]
    dark, lit = (light[side].mean(axis=0) for side in near)
    mask = gaussian_filter(shaded.astype(np.float32), soft)[..., None]
    return _to_display((light * (lit / np.maximum(dark, 1e-3)) ** mask).clip(0, 1))


def _to_light(display: Floats) -> Floats:
    import torch

    from restonnx.training.degradations.light import to_light

    return to_light(torch.from_numpy(display)).numpy()


def _to_display(light: Floats) -> Floats:
    import torch

    from restonnx.training.degradations.light import to_display

    return to_display(torch.from_numpy(light)).numpy()
