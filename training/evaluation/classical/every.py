"""All classical methods by the names that the tables give them, with their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from restonnx.training.evaluation.classical import denoise, enlarge, haze, light, occlusion, sharpen
from restonnx.training.evaluation.samples import Floats, Sample

METHODS: dict[str, Callable[..., Floats]] = {
    "non-local means, told": lambda sample, **s: denoise.non_local_means(sample, told=True, **s),
    "non-local means": lambda sample, **s: denoise.non_local_means(sample, told=False, **s),
    "non-local means, two scales": denoise.non_local_means_of_cameras,
    "wavelets, told": lambda sample: denoise.wavelets(sample, told=True),
    "wavelets": lambda sample: denoise.wavelets(sample, told=False),
    "bicubic": enlarge.bicubic,
    "non-local means, bicubic": enlarge.denoised_bicubic,
    "bicubic with the reference's detail": enlarge.pasted,
    "dark channel prior": haze.dark_channel_prior,
    "Richardson-Lucy": sharpen.richardson_lucy,
    "Wiener": sharpen.wiener,
    "Richardson-Lucy, kernel guessed": sharpen.guessed_richardson_lucy,
    "unsharp mask": sharpen.unsharp_mask,
    "gain": light.gain,
    "gamma": light.gamma,
    "CLAHE": light.equalised,
    "Retinex": light.retinex,
    "relighting": light.relit,
    "median": occlusion.median,
    "opening": occlusion.opened,
    "guided filter": occlusion.guided,
    "biharmonic": occlusion.biharmonic,
}
"""Each takes a sample and its settings; "told" are those that are given the noise level, others estimate it."""


def classical(name: str, sample: Sample, settings: Mapping[str, Any]) -> Floats:
    """What that method makes of a sample."""
    return METHODS[name](sample, **settings)
