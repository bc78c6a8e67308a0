"""The damage of the synthetic tests; every function gives one that makes a sample of a clean image and its number.

The same arguments give the same function, so that tests can be compared by it.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restonnx.diffusion.blurs import Blur, gaussian_kernel, motion_kernel
from restonnx.diffusion.operators import random_mask
from restonnx.diffusion.resizing import Downsample
from restonnx.training.evaluation.samples import Damage, Floats, Sample, to_file

if TYPE_CHECKING:
    from restonnx.training.degradations.every import AnyDegradation

SEED = 0


@functools.cache
def gaussian(sigma: float) -> Damage:
    """White Gaussian noise of that standard deviation in 1/255, not clipped: the protocol of the published tables."""
    return lambda clean, index: Sample(noisy(clean, sigma, index), clean, sigma=sigma / 255)


def noisy(clean: Floats, sigma: float, index: int) -> Floats:
    """Add Gaussian noise of standard deviation sigma / 255, the same for every method."""
    rng = np.random.default_rng((SEED, index, round(sigma * 100)))
    return clean + np.float32(sigma / 255) * rng.standard_normal(clean.shape, dtype=np.float32)


@functools.cache
def of_recipe(task: str, *settings: str, as_file: bool = True) -> Damage:
    """What a shipped recipe does for training, with "key=value" settings, seeded by the image's number.

    as_file: the degraded image and the reference are clipped and rounded to 8 bit.
    """

    def damage(clean: Floats, index: int) -> Sample:
        from restonnx.training.degrade import degrade

        chosen = _degradation(task, settings)
        truth, degraded, *guides = degrade(clean, chosen, index)
        stored = to_file if as_file else np.asarray
        sample = Sample(stored(degraded), np.asarray(truth, np.float32))
        if getattr(chosen, "guide", None) == "mask":
            return replace(sample, mask=guides[0] < 0.5)
        return replace(sample, reference=stored(guides[0])) if guides else sample

    return damage


@functools.cache
def of_middle(damage: Damage, *, reference: bool = True) -> Damage:
    """The middle half of both sides alone, with or without the second camera's image of it."""

    def damage_middle(clean: Floats, index: int) -> Sample:
        sample = damage(clean, index)
        scale, (height, width) = sample.scale, sample.degraded.shape[:2]
        top, left = height // 4, width // 4
        part = slice(top, top + height // 2), slice(left, left + width // 2)
        enlarged = tuple(slice(side.start * scale, side.stop * scale) for side in part)
        seen = None if sample.reference is None or not reference else sample.reference[enlarged]
        return replace(sample, degraded=sample.degraded[part], truth=sample.truth[enlarged], reference=seen)

    return damage_middle


@functools.cache
def blurred(kind: str, sigma: float) -> Damage:
    """A known blur, the image being mirrored at its border, and noise of that standard deviation in 1/255.

    kind: "shake", a camera's path over 25 pixels, another for every image, or "gaussian" of 2 pixels.
    """

    def damage(clean: Floats, index: int) -> Sample:
        rng = np.random.default_rng((SEED, index, 1))
        kernel = motion_kernel(25, 0.5, rng) if kind == "shake" else gaussian_kernel(17, 2.0)
        soft = _planes(Blur(kernel).forward(_batch(clean)), clean)
        return Sample(to_file(noisy(soft, sigma, index)), clean, sigma=sigma / 255, kernel=kernel)

    return damage


@functools.cache
def missing(kind: str) -> Damage:
    """Pixels that are lost and stand at mid-grey; the others are exact.

    kind: "half", every other pixel at random, or "strokes", thick lines over about an eighth of the image.
    """

    def damage(clean: Floats, index: int) -> Sample:
        rng = np.random.default_rng((SEED, index, 2))
        lost = random_mask(rng.random(clean.shape[:2]), 0.5) == 0 if kind == "half" else strokes(clean.shape[:2], rng)
        where = lost if clean.ndim == 2 else lost[..., None]
        return Sample(to_file(np.where(where, np.float32(0.5), clean)), clean, sigma=0.0, mask=lost)

    return damage


@functools.cache
def smaller(scale: int, sigma: float) -> Damage:
    """MATLAB's imresize(image, 1 / scale), which is known, and noise of that standard deviation in 1/255."""

    def damage(clean: Floats, index: int) -> Sample:
        height, width = (side // scale * scale for side in clean.shape[:2])
        clean = clean[:height, :width]
        small = _planes(Downsample(scale).forward(_batch(clean)), clean)
        return Sample(to_file(noisy(small, sigma, index)), clean, sigma=sigma / 255)

    return damage


def strokes(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """True on lines of 3 to 9 pixels' width that wander over the image, until they cover an eighth of it."""
    from scipy.ndimage import distance_transform_edt

    height, width = shape
    lost = np.zeros((height, width), dtype=bool)
    while lost.mean() < 0.125:
        angles = rng.uniform(0, 2 * np.pi) + np.cumsum(0.1 * rng.standard_normal(max(height, width) // 2))
        path = rng.uniform((0, 0), (height, width)) + np.cumsum(np.stack([np.sin(angles), np.cos(angles)], 1), axis=0)
        rows, cols = np.rint(path).astype(int).T
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        line = np.ones_like(lost)
        line[rows[inside], cols[inside]] = False
        lost |= distance_transform_edt(line) < rng.uniform(1.5, 4.5)
    return lost


@functools.cache
def _degradation(task: str, settings: tuple[str, ...]) -> AnyDegradation:
    from restonnx.training.degrade import degradation

    return degradation(task, settings)


def _batch(image: Floats) -> NDArray[Any]:
    """(1, C, H, W)"""
    return np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1))[None]


def _planes(batch: NDArray[Any], like: Floats) -> Floats:
    """The image of a batch of one, with the axes of `like`."""
    return np.asarray(batch[0].transpose(1, 2, 0), np.float32).reshape(*batch.shape[2:], *like.shape[2:])
