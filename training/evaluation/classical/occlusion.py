"""Things in front of the scene: rain, drops, and pixels that are missing altogether."""

from __future__ import annotations

import numpy as np

from restonnx.training.evaluation.classical.haze import guided_filter
from restonnx.training.evaluation.samples import Floats, Sample


def median(sample: Sample, *, side: int) -> Floats:
    """The median over a square of that side, of each channel."""
    from scipy.ndimage import median_filter

    image = sample.unit
    filtered: Floats = median_filter(image, (side, side, 1)[: image.ndim], mode="reflect")
    return filtered


def opened(sample: Sample, *, width: int) -> Floats:
    """Grey opening along rows: what is bright and narrower than this many pixels goes, as streaks of rain are."""
    from scipy.ndimage import grey_opening

    image = sample.unit
    filtered: Floats = grey_opening(image, (1, width, 1)[: image.ndim], mode="reflect")
    return filtered


def guided(sample: Sample, *, radius: int, epsilon: float) -> Floats:
    """Each channel by the guided filter with itself for a guide, of rain after Xu et al. 2012 and Ding et al. 2016."""
    image = sample.unit
    return np.stack([guided_filter(image[..., c], image[..., c], radius, epsilon) for c in range(3)], axis=2)


def biharmonic(sample: Sample) -> Floats:
    """The missing pixels solve the biharmonic equation (Damelin and Hoang 2018); it has no setting."""
    from skimage.restoration import inpaint_biharmonic

    if sample.mask is None:
        raise ValueError("this sample has no mask")
    image = sample.unit
    axis = -1 if image.ndim == 3 else None
    return np.asarray(inpaint_biharmonic(image, sample.mask, channel_axis=axis), np.float32)
