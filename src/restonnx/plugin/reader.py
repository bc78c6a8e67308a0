"""What is dropped on the viewer: a model is added to the user's library, a camera RAW file is developed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx.errors import InputError, RestonnxError
from restonnx.plugin.settings import RAW_KEY
from restonnx.plugin.words import sentence

if TYPE_CHECKING:
    from restonnx.isp import Frame

LayerData = tuple[Any, dict[str, Any], str]
NOTHING: list[Any] = [(None,)]
"""What tells napari that a file was dealt with and there is nothing to show."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """napari asks with one path or several; None for what is no .onnx file."""
    paths = [path] if isinstance(path, str) else path
    return add_models if paths and all(Path(one).suffix.lower() == ".onnx" for one in paths) else None


def add_models(path: str | list[str]) -> list[Any]:
    """Add each file and say so. -> what tells napari that there is nothing to show."""
    from napari.utils.notifications import show_error, show_info

    from restonnx.plugin import catalogue

    for one in [path] if isinstance(path, str) else path:
        try:
            entry = catalogue.add(one)
        except (RestonnxError, OSError) as error:
            show_error(str(error))
        else:
            show_info(f'Added the model "{entry.name}"; choose it in Plugins > restonnx > Restore.')
    return NOTHING


def get_raw_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]]:
    """For the camera RAW files that the manifest lists; napari asks for no others."""
    return open_raw


def open_raw(path: str | list[str]) -> list[Any]:
    """Each path as a layer, several that napari wants stacked as one. A file that cannot be read is told in a line."""
    from napari.utils.notifications import show_error

    try:
        return [developed(path) if isinstance(path, str) else stacked([developed(one) for one in path])]
    except RestonnxError as error:
        show_error(sentence(error))
        return NOTHING


def developed(path: str) -> LayerData:
    """What LibRaw renders of a RAW file, without restoration: 16 bits of sRGB, upright.

    (rows, columns, 3), or (rows, columns) of a monochrome sensor. Raises InputError as `isp.read_raw` does.
    """
    from restonnx.isp import libraw

    with libraw.opened(path) as raw:
        frame = libraw.frame_of(raw, path)
        pixels = libraw.render(raw)
    rgb = not frame.meta.is_monochrome
    # Without limits napari would stretch the picture from its darkest to its brightest value.
    about = {"rgb": rgb, "contrast_limits": (0, 65535), "metadata": {RAW_KEY: notes(frame)}}
    return (pixels if rgb else np.ascontiguousarray(pixels[..., 0])), about, "image"


def notes(frame: Frame) -> dict[str, Any]:
    """What is known of a frame, as plain values; None for what is not. The noise profile as `isp.noise_profile`."""
    from restonnx.isp import noise_profile
    from restonnx.isp.frame import pattern_name

    meta = frame.meta
    try:
        noise: dict[str, Any] | None = asdict(noise_profile(frame))
    except InputError:  # too small or too bright to tell
        noise = None
    return {
        "camera": meta.camera,
        "iso": meta.iso,
        "exposure_time": meta.exposure_time,
        "pattern": pattern_name(meta.cfa),
        "noise_profile": noise,
        "source": meta.source,
    }


def stacked(layers: list[LayerData]) -> LayerData:
    """One layer of several; its metadata lists theirs. Raises InputError for pictures of different sizes."""
    shapes = {pixels.shape for pixels, _, _ in layers}
    if len(shapes) > 1:
        found = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        raise InputError(f"these files cannot be one stack, their pictures have the sizes {found}; open them singly")
    about = layers[0][1] | {"metadata": {RAW_KEY: [one["metadata"][RAW_KEY] for _, one, _ in layers]}}
    return np.stack([pixels for pixels, _, _ in layers]), about, "image"
