"""The file that a layer comes from, and what its camera noted there: napari's readers give pixels alone."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restonnx.errors import RestonnxError
from restonnx.plugin.settings import FILE_KEY, KEY, RAW_KEY

MOST_BYTES = 1_000_000_000
"""Of a file that is read for its notes; what is larger is no photograph."""
COLOUR_SPACE = slice(16, 20)
"""Where an ICC profile says whether it is one of colours or of grey (ICC.1, 7.2.6)."""


def file_of(layer: Any) -> str:
    """The file that a layer was read from, or that the input of its restoration was; "" without one."""
    source: Any = getattr(layer, "source", None)
    if found := noted_file(layer.metadata) or str(getattr(source, "path", None) or ""):
        return found
    parent = getattr(source, "parent", None)  # of a duplicate
    if isinstance(parent, weakref.ref):
        parent = parent()
    return "" if parent is None else file_of(parent)


def noted_file(metadata: Mapping[str, Any] | None) -> str:
    """The same as far as the layer's metadata says: of results, and of RAW files."""
    for key, name in ((KEY, FILE_KEY), (RAW_KEY, "source")):
        notes = (metadata or {}).get(key)
        if isinstance(notes, Mapping) and notes.get(name):
            return str(notes[name])
    return ""


def file_behind(data: Any, meta: Mapping[str, Any]) -> str:
    """The file behind what napari gives to a writer. Of a layer that was neither restored nor developed that says only
    napari itself, where the layer is one of the open viewer."""
    if found := noted_file(meta.get("metadata")):
        return found
    import sys

    napari = sys.modules.get("napari")
    viewer = napari.current_viewer() if napari is not None else None
    for layer in () if viewer is None else viewer.layers:
        if layer.name == meta.get("name") and layer.data is data:
            return file_of(layer)
    return ""


def notes_of(path: str, shape: tuple[int, int], *, rgb: bool) -> tuple[bytes | None, bytes | None]:
    """EXIF as a TIFF stream and ICC profile of an image file or a camera RAW file; None for what is not there.

    shape: rows and columns of the layer. Where they are those of the file turned by EXIF's orientation, that is told
    as done. A file that is gone or cannot be read has no notes: the pixels are worth more.
    """
    from restonnx import images
    from restonnx.isp import exif, libraw

    file = Path(path) if path else None
    if file is None or not file.is_file() or file.stat().st_size > MOST_BYTES:
        return None, None
    try:
        if file.suffix.lower() not in images.SUFFIXES:
            with libraw.opened(file) as raw:
                return exif.finished(exif.read(file, raw), "restonnx", 1), None
        picture = images.read(file)
    except RestonnxError:
        return None, None
    known, profile = picture.exif, picture.icc
    if known is not None and _is_turned((picture.height, picture.width), shape):
        known = exif.finished(known, "restonnx", 1)
    if profile is not None and profile[COLOUR_SPACE] != (b"RGB " if rgb else b"GRAY"):
        profile = None
    return known, profile


def _is_turned(stored: tuple[int, int], shown: tuple[int, int]) -> bool:
    """Whether an image, perhaps enlarged since, lies on its side: rows are columns."""
    tall, wide = stored
    return tall != wide and shown[0] * tall == shown[1] * wide
