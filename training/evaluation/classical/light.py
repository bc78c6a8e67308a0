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


def relit(sample: Sample, *, share: float, soft: int) -> Floats:
    """Where lightness is a third of its deviation below its mean is shadow, and gets the colour that the rest has
    (Murali and Govindan 2013), by this share of the way; soft: radius of the guided filter that softens the mask."""
    from skimage.color import rgb2lab

    image = sample.unit.clip(0, 1)
    lightness = rgb2lab(image)[..., 0] / 100
    dark = lightness <= lightness.mean() - lightness.std() / 3
    if dark.all() or not dark.any():
        return image
    light = _to_light(image)
    ratio = light[~dark].mean(axis=0) / np.maximum(light[dark].mean(axis=0), 1e-3)
    mask = guided_filter(dark.astype(np.float32), lightness.astype(np.float32), soft, 1e-3).clip(0, 1)
    return _to_display((light * ratio ** (share * mask[..., None])).clip(0, 1))


def _to_light(display: Floats) -> Floats:
    import torch

    from restonnx.training.degradations.light import to_light

    return to_light(torch.from_numpy(display)).numpy()


def _to_display(light: Floats) -> Floats:
    import torch

    from restonnx.training.degradations.light import to_display

    return to_display(torch.from_numpy(light)).numpy()
