"""What `restonnx restore` hands on to models that take more than an image: a noise level, and files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from restonnx.errors import InputError

if TYPE_CHECKING:
    from restonnx.images import Picture
    from restonnx.restore import Progress
    from restonnx.session import Cancel


def noise_level(text: str | None) -> float | str | None:
    """The number, or "estimate". Raises typer.BadParameter for other text."""
    if text is None or text == "estimate":
        return text
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not (math.isfinite(level) and level >= 0):
        raise typer.BadParameter(f'--noise-level must be a number of at least 0, or "estimate", not {text}')
    return level


def read(mask: Path | None, kernel: Path | None, reference: Path | None) -> dict[str, Any]:
    """The arrays in the files, by the names of `restore`'s arguments, and of a reference the picture, for `placed`;
    None where there is none.

    A pixel of a colour mask is marked where any of its colours is; the colours of a kernel are averaged.
    Raises InputError, which names the file.
    """
    from restonnx import images

    found: dict[str, Any] = {"mask": None, "kernel": None, "reference": None}
    if mask is not None:
        picture = images.read(mask)
        marked = np.asarray(picture.pixels) != 0
        found["mask"] = marked if picture.color_axis is None else marked.any(axis=picture.color_axis)
    if kernel is not None and kernel.suffix.lower() == ".npy":
        found["kernel"] = _read_npy(kernel)
    elif kernel is not None:
        picture = images.read(kernel)
        pixels = np.asarray(picture.pixels)
        found["kernel"] = pixels if picture.color_axis is None else pixels.mean(axis=picture.color_axis)
    if reference is not None:
        found["reference"] = images.read(reference)
    return found


def placed(
    reference: Picture, picture: Picture, scale: int, *, always: bool, progress: Progress, cancel: Cancel | None
) -> tuple[Any, str]:
    """The reference on the pixels of the picture's result, in its axes, and what to say of it: registered where it has
    another size, or `always`."""
    onto, said = _colour_last(reference), ""
    if always or (reference.height, reference.width) != (picture.height * scale, picture.width * scale):
        from restonnx.registration import aligned

        onto, found = aligned(_colour_last(picture), onto, scale=scale, progress=progress, cancel=cancel)
        said = f"the reference was registered: {found}; from there it was followed pixel by pixel"
    if picture.color_axis is not None and onto.ndim == picture.pixels.ndim:
        onto = np.moveaxis(onto, -1, picture.color_axis)
    return onto, said


def _colour_last(picture: Picture) -> Any:
    """Files may hold one colour after the other."""
    return picture.pixels if picture.color_axis is None else np.moveaxis(picture.pixels, picture.color_axis, -1)


def _read_npy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is no array of numbers in numpy's format; save one with numpy.save") from error
