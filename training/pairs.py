"""A user's own pairs: degraded images in input/, the clean ones under the same names in gt/.

Unlike photographs to be degraded, they keep their depth: a file of 16 bits is read as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restonnx.errors import InputError
from restonnx.images import SUFFIXES
from restonnx.training.files import single
from restonnx.training.networks.backbone import Guide

INPUT, TRUTH = "input", "gt"
"""The folders' names; that of a guide is its own."""
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey (ITU-R BT.601)."""
BEYOND = 1.0
"""How far noise may carry floats beyond black and white."""
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Pairs:
    """Crops of pairs at the same place, chosen in proportion to their area and turned by the dihedral group."""

    images: tuple[tuple[Pixels, ...], ...]
    """For each pair the clean image (H, W, C), the degraded one (H / scale, W / scale, C), and where there is one the
    reference (H, W, C), or the mask (H, W, 1), 1 where the image is as it should be; integers, or floats in [0, 1]."""
    size: int
    """Side of the clean image's crops in pixels, a multiple of `scale`."""
    scale: int
    seed: int

    def batch(self, iteration: int, count: int) -> tuple[Tensor, ...]:
        """Clean, degraded and maybe a guide, (count, C, h, w) float32 in [0, 1]: a function of the arguments."""
        rng = np.random.default_rng((self.seed, iteration))
        areas = np.array([clean.shape[0] * clean.shape[1] for clean, *_ in self.images], dtype=np.float64)
        chosen = rng.choice(len(self.images), size=count, p=areas / areas.sum())
        crops = [self._crop(self.images[index], rng) for index in chosen]
        stacks = (np.stack(crop).transpose(0, 3, 1, 2) for crop in zip(*crops, strict=True))
        return tuple(torch.from_numpy(np.ascontiguousarray(stack)) for stack in stacks)

    def _crop(self, pair: Sequence[Pixels], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        side = self.size // self.scale
        top, left = (int(rng.integers(0, length - side + 1)) for length in pair[1].shape[:2])
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        crops = []
        for image in pair:
            times = 1 if image is pair[1] else self.scale
            crop = image[top * times : (top + side) * times, left * times : (left + side) * times]
            crop = np.rot90(crop, turns)
            crops.append(_floats(crop[:, ::-1] if mirrored else crop))
        return crops


def load_pairs(
    folder: str | Path, *, channels: int, size: int, seed: int, scale: int = 1, guide: Guide | None = None
) -> Pairs:
    """Every pair below `folder`, whose input/ and gt/ (and reference/ or mask/) hold files of equal names.

    channels: 1 makes colour images grey, 3 grey ones colour.  size, scale, seed: as in `Pairs`.
    A mask is a grey image, nonzero where the image is to be restored.
    Raises InputError, in one line that names the file, for what is missing and for sizes and depths that do not fit.
    """
    folder = Path(folder)
    names = (TRUTH, INPUT, *([guide] if guide else []))
    files = [_files(folder / name) for name in names]
    for found in files:
        for other, others in zip(names, files, strict=True):
            if missing := sorted(found.keys() - others.keys()):
                raise InputError(
                    f"{found[missing[0]]} has no partner: put a file named {missing[0]} into {folder / other}"
                    f"{f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''}"
                )
    masked = guide == "mask"
    pairs = [_pair([found[stem] for found in files], channels, scale, size, masked) for stem in sorted(files[0])]
    return Pairs(tuple(pairs), size, scale, seed)


def _files(folder: Path) -> dict[str, Path]:
    """By their paths below the folder without the suffix."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: pairs are files of equal names in input/ and gt/")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(f"{found[stem]} and {path} differ by their suffix alone: remove or rename one of them")
        found[stem] = path
    if not found:
        raise InputError(f"no image in {folder}: pairs are files of equal names in input/ and gt/")
    return found


def _pair(paths: list[Path], channels: int, scale: int, size: int, masked: bool) -> tuple[Pixels, ...]:
    images = [_image(path, channels) for path in (paths[:2] if masked else paths)]
    truth, (high, wide) = images[0], images[0].shape[:2]
    if masked:
        images.append((_image(paths[2], 1) == 0).astype(truth.dtype) * truth.dtype.type(_full(truth)))
    for path, image in zip(paths[1:], images[1:], strict=True):
        times = scale if image is images[1] else 1
        if (image.shape[0] * times, image.shape[1] * times) != (high, wide):
            wanted = f"must be {times} times as large" if times > 1 else "must be as large"
            raise InputError(
                f"{path} has {image.shape[1]} x {image.shape[0]} pixels and {paths[0]} {wide} x {high}: "
                f"the second {wanted}"
            )
        if image.dtype != truth.dtype:
            raise InputError(f"{path} holds {_depth(image)} and {paths[0]} {_depth(truth)}: save both in one depth")
    if min(high, wide) < size:
        raise InputError(f"{paths[0]} is smaller than training.patch, {size} x {size} pixels: remove it or set that")
    return tuple(images)


def _image(path: Path, channels: int) -> Pixels:
    """(H, W, channels), of the file's depth."""
    pixels = single(path)
    if pixels.dtype.kind == "f":
        _check_floats(pixels, path)
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3 and pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if channels == 1 and pixels.shape[-1] == 3:
        gray = pixels.astype(np.float32) @ np.array(LUMA, np.float32)
        return (np.rint(gray) if pixels.dtype.kind == "u" else gray)[..., None].astype(pixels.dtype)
    raise InputError(f"{path} has {pixels.shape[-1]} channels, and the recipe's images have {channels}")


def _check_floats(pixels: Pixels, path: Path) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{path} holds values that are not finite: replace them")
    if low < -BEYOND or high > 1 + BEYOND:
        raise InputError(f"{path} holds values from {low:g} to {high:g}: scale it so that black is 0 and white is 1")


def _floats(crop: Pixels) -> NDArray[np.float32]:
    return crop.astype(np.float32) / np.float32(_full(crop))


def _full(image: Pixels) -> int:
    """What stands for 1."""
    return int(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1


def _depth(image: Pixels) -> str:
    bits = 8 * image.dtype.itemsize
    return f"{bits} bits" if image.dtype.kind == "u" else f"floats of {bits} bits"
