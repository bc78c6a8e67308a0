"""Each colour of a restored frame keeps its mean: one gain for the whole frame, never one for a tile."""

from __future__ import annotations

from typing import Any

import numpy as np

from restonnx.errors import ModelError
from restonnx.isp import cfa
from restonnx.isp.frame import Floats, Pattern

MOST_DRIFT = 0.5
"""Of a colour's mean; a model that changes it more does something else than restore."""
NAMES = ("red", "green", "blue")
SURE = 4.0
"""A mean of fewer standard errors is nothing but noise, and no gain can be told from it."""


def with_means_of(image: Floats, restored: Floats, usable: Any, pattern: Pattern | None, name: str) -> Floats:
    """The restored image with the means that the colours had; what is taken for them is `usable`, (H, W) booleans.

    The noise has no mean, so that of the image is right to a tiny part of its noise. name: of the model.
    Raises ModelError where a colour's mean went away by more than half.
    """
    out = restored.copy()
    for colour in range(3):
        if pattern is None:
            places: list[Any] = [(..., colour)]
        else:
            places = [where for its, where in cfa.sites(pattern) if its == colour]
        if not places:  # a monochrome sensor has no red and no blue
            continue
        masks = [usable if pattern is None else usable[where] for where in places]
        before = _values(image, places, masks)
        if not before.size:
            continue
        mean, after = (float(values.mean(dtype=np.float64)) for values in (before, _values(restored, places, masks)))
        error = float(before.std(dtype=np.float64)) / before.size**0.5
        if mean <= SURE * error or after <= 0:
            continue
        if abs(after / mean - 1) > MOST_DRIFT:
            raise ModelError(
                f"{name} changed the mean of {NAMES[colour]} by {100 * (after / mean - 1):.0f} %; "
                "pass keep_means=False to a RestorationStage that is meant to"
            )
        for where in places:
            out[where] *= np.float32(mean / after)
    return out


def _values(image: Floats, places: list[Any], masks: list[Any]) -> Floats:
    return np.concatenate([image[where][mask] for where, mask in zip(places, masks, strict=True)])
