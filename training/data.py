"""Clean images in memory and the crops that a training step sees: a function of (seed, iteration) alone.

Because nothing but the iteration's number decides a batch, a resumed run goes on exactly where it was, and any number
of processes sees the same whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restonnx.errors import InputError
from restonnx.training.files import eight_bits

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
LARGE = 3_000_000
"""Photographs of more pixels than this are halved until they are not: that removes their own noise and compression."""


@dataclass(frozen=True)
class Crops:
    """Square crops of uint8 images (H, W, C), chosen in proportion to their area and turned by the dihedral group."""

    images: tuple[NDArray[np.uint8], ...]
    size: int
    seed: int

    def batch(self, iteration: int, count: int) -> Tensor:
        """(count, C, size, size) float32 in [0, 1]."""
        rng = np.random.default_rng((self.seed, iteration))
        areas = np.array([image.shape[0] * image.shape[1] for image in self.images], dtype=np.float64)
        chosen = rng.choice(len(self.images), size=count, p=areas / areas.sum())
        crops = [self._crop(self.images[index], rng) for index in chosen]
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().div_(255)

    def _crop(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        top, left = (rng.integers(0, side - self.size + 1) for side in image.shape[:2])
        crop = image[top : top + self.size, left : left + self.size]
        crop = np.rot90(crop, int(rng.integers(4)))
        return crop[:, ::-1] if rng.integers(2) else crop


def load_clean(
    folder: Path, *, channels: int, smallest: int, reduced: Sequence[float] = ()
) -> tuple[NDArray[np.uint8], ...]:
    """Every image below the folder as uint8 (H, W, channels), in the order of their paths.

    What has more than 8 bits is scaled as `restonnx.restore` scales it: what lies between black and white of the file.
    reduced: fractions of the sides at which each is there again.
    Raises InputError for files that cannot be read or hold stacks, and where no image is large enough.
    """
    from PIL import Image

    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give one of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    images = []
    for path in paths:
        image = eight_bits(path).convert("RGB" if channels == 3 else "L")
        while image.width * image.height > LARGE:
            image = image.reduce(2)
        for share in (1.0, *reduced):
            size = round(share * image.width), round(share * image.height)
            if min(size) >= smallest:
                pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
                images.append(pixels if channels == 3 else pixels[:, :, None])
    if not images:
        raise InputError(f"no image of at least {smallest} x {smallest} pixels below {folder}: give a folder of such")
    return tuple(images)
