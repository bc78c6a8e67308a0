"""A model on a sample of a test, as its users run it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from restonnx.restore import Restorer
from restonnx.training.evaluation.samples import Floats, Sample, to_unit


def restored(restorer: Restorer, sample: Sample) -> Floats:
    """What the model makes of it, white being 1."""
    return to_unit(restorer(sample.degraded, **given(restorer, sample)))


def given(restorer: Restorer, sample: Sample) -> dict[str, Any]:
    """What the model takes besides the image: of the sample, or as the model's user would have it.

    A noise level that nobody told is estimated; without a reference the second camera sees nothing.
    """
    nothing = np.zeros(sample.truth.shape, sample.degraded.dtype)
    level: Any = "estimate" if sample.sigma is None else sample.sigma * white(sample.degraded)
    known = {
        "noise_level": level,
        "mask": sample.mask,
        # What a point becomes, where `diffusion.blurs` has what each pixel is a sum over: turned by half a turn.
        "kernel": None if sample.kernel is None else sample.kernel[::-1, ::-1],
        "reference": nothing if sample.reference is None else sample.reference,
    }
    return {spec.role: known[spec.role] for spec in restorer.metadata.inputs if spec.role in known}


def white(image: NDArray[Any]) -> float:
    """The value that stands for white in an array of this type."""
    return float(np.iinfo(image.dtype).max) if image.dtype.kind in "iu" else 1.0
