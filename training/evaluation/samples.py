"""Where a test's images come from: clean ones that are damaged from a seed, or pairs that somebody photographed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restonnx.errors import InputError
from restonnx.images import SUFFIXES, read

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """One image of a test: what a method is given, and the truth."""

    degraded: NDArray[Any]
    """(H, W) or (H, W, 3) as a file holds it: uint8, uint16, or float32 with white at 1."""
    truth: Floats
    """White is 1; larger where the task is to enlarge."""
    sigma: float | None = None
    """Standard deviation of the noise, white being 1, where it is told."""
    mask: NDArray[np.bool_] | None = None
    """(H, W), true where the image is to be restored."""
    kernel: Floats | None = None
    """(kh, kw), as `diffusion.blurs` has it."""
    reference: NDArray[Any] | None = None
    """(H, W, 3) of the truth's size; 0 where it sees nothing."""
    name: str = ""
    gray: bool = False
    """Whether the true image's file has one channel."""

    @property
    def unit(self) -> Floats:
        """The degraded image with white at 1."""
        return to_unit(self.degraded)

    @property
    def scale(self) -> int:
        return self.truth.shape[0] // self.degraded.shape[0]


Damage = Callable[[Floats, int], Sample]
"""(clean image with white at 1, its number in the sorted set) -> the sample; the number is the seed."""


@dataclass(frozen=True)
class Synthetic:
    """Every image of a folder, damaged."""

    folder: str
    """Below the folder of the data."""
    damage: Damage

    def names(self, data: Path) -> list[str]:
        """Of all its images; empty where the folder is missing."""
        return [path.name for path in _images(data / self.folder)]

    def sample(self, data: Path, index: int, channels: int) -> Sample:
        """channels: 3 repeats grey images, 1 takes the luma of colour ones."""
        path = _images(data / self.folder)[index]
        image = read_unit(path)
        sample = self.damage(with_channels(image, channels), index)
        return replace(sample, name=path.name, gray=image.ndim == 2)


@dataclass(frozen=True)
class Pairs:
    """input/ and gt/ of a folder: files of equal names, or inputs named after their truth and "-7" or "_2_0.9"."""

    folder: str
    truth: str = "gt"
    shaded: bool = False
    """Samples have a mask, of where the truth is brighter: see `shade`."""

    def names(self, data: Path) -> list[str]:
        return [path.name for path, _ in self._pairs(data)]

    def sample(self, data: Path, index: int, channels: int) -> Sample:
        """The pair as its files hold it; raises InputError where their sizes differ."""
        path, truth_path = self._pairs(data)[index]
        degraded, truth = with_channels(_pixels(path), channels), with_channels(read_unit(truth_path), channels)
        if degraded.shape != truth.shape:
            raise InputError(f"{path} is {degraded.shape} and its truth {truth.shape}: both must have the same size")
        mask = shade(to_unit(degraded), truth) if self.shaded else None
        return Sample(degraded, truth, mask=mask, name=path.name)

    def _pairs(self, data: Path) -> list[tuple[Path, Path]]:
        truths = {path.stem: path for path in _images(data / self.folder / self.truth)}
        found = []
        for path in _images(data / self.folder / "input"):
            beginnings = [path.stem, *(path.stem[: cut.start()] for cut in reversed([*re.finditer("[-_]", path.stem)]))]
            known = [truths[stem] for stem in beginnings if stem in truths]
            found += [(path, known[0])] if known else []
        return found


@dataclass(frozen=True)
class References:
    """Images and others of the same place: the first is reduced, the second registered on the host, as users do it.

    A folder with input/ (the other image) and gt/, or one with 001_0 (the image) and 001_1, 001_2, ... (the others).
    Where the two cannot be brought together the model is given a reference that sees nothing.
    """

    folder: str
    scale: int = 2

    def names(self, data: Path) -> list[str]:
        return [path.name for path, _ in self._pairs(data)]

    def sample(self, data: Path, index: int, channels: int) -> Sample:
        from restonnx.diffusion.resizing import Downsample
        from restonnx.registration import aligned

        path, truth_path = self._pairs(data)[index]
        truth = with_channels(read_unit(truth_path), channels)
        height, width = (side // self.scale * self.scale for side in truth.shape[:2])
        truth = truth[:height, :width]
        small = Downsample(self.scale).forward(truth.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
        degraded = to_file(small)
        try:
            reference = aligned(degraded, with_channels(_pixels(path), channels), scale=self.scale)[0]
        except InputError:
            reference = None
        return Sample(degraded, truth, reference=reference, name=path.name)

    def _pairs(self, data: Path) -> list[tuple[Path, Path]]:
        if (data / self.folder / "gt").is_dir():
            return Pairs(self.folder)._pairs(data)
        images = _images(data / self.folder)
        first = [path for path in images if path.stem.endswith("_0")]
        return [(path, first[0]) for path in images if first and path != first[0]]


def shade(shaded: Floats, lit: Floats) -> NDArray[np.bool_]:
    """(H, W): true where a pair's truth is brighter, for sets of shadows whose masks are not there.

    By Otsu's threshold of the difference of the channels' means (Hu et al. 2019, arXiv 1903.10683), without specks and
    gaps that are thinner than a fiftieth of the image's side.
    """
    from skimage.filters import gaussian, threshold_otsu
    from skimage.morphology import closing, disk, opening

    difference = gaussian(lit.mean(axis=2) - shaded.mean(axis=2), 1.0)
    size = max(1, min(difference.shape) // 100)
    found: NDArray[np.bool_] = closing(opening(difference > threshold_otsu(difference), disk(size)), disk(size))
    return found


def to_unit(image: NDArray[Any]) -> Floats:
    """Integers divided by their type's maximum; floats as they are."""
    white = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 1
    return image.astype(np.float32) / np.float32(white)


def to_file(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Clipped and rounded to 8 bit."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def read_unit(path: Path) -> Floats:
    """An image file (H, W) or (H, W, 3) with white at 1."""
    return to_unit(_pixels(path))


def with_channels(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """(H, W) for one channel, of colours their luma; (H, W, 3) for three, grey repeated."""
    if channels == 3 and image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    if channels == 1 and image.ndim == 3:
        from skimage.color import rgb2gray

        luma: Floats = rgb2gray(to_unit(image)).astype(np.float32)
        return luma
    return image


def _pixels(path: Path) -> NDArray[Any]:
    picture = read(path)
    pixels = np.asarray(picture.pixels)
    if pixels.ndim != (2 if picture.color_axis is None else 3):
        raise InputError(f"{path} holds a stack with the axes {picture.axes}: give single images")
    if picture.color_axis is None:
        return pixels
    pixels = np.moveaxis(pixels, picture.color_axis, -1)
    return pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
