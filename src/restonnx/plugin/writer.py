"""Image layers as TIFF and PNG, with what napari's own writers leave out: axes, scale and units, 16 bits of colour,
and the EXIF and colour profile of the file that the layer was read from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.plugin.calibration import LENGTHS, Axis, axes_of, length_unit
from restonnx.plugin.origin import file_behind, notes_of
from restonnx.plugin.settings import FILE_KEY, KEY, RAW_KEY

TIFF_SUFFIXES, PNG_SUFFIXES = (".tif", ".tiff"), (".png",)
OME_SUFFIXES = (".ome.tif", ".ome.tiff")
IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
IMAGEJ_BYTES = 4_000_000_000
OME_DTYPES = (*IMAGEJ_DTYPES, "int8", "int16", "int32", "uint32", "float64")
PATHS = {KEY: FILE_KEY, RAW_KEY: "source"}
"""The notes that are written with a layer, and what in them is a path."""
ORDER = "TZCYXS"
"""Of axes, for ImageJ and OME."""
BIG_BYTES = 4_000_000_000
"""More pixels than this need 64-bit offsets."""


def write_tiff(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """A layer of any axes and numbers, plane by plane: what is lazy or on the disk is never held as a whole.

    Names that end in .ome.tif become OME-TIFF. Others become what ImageJ reads where its format holds the layer, which
    is 8 and 16 bits, float32 and 8-bit colour, else OME-XML within a plain name; and plain TIFF for a single plane
    without calibration. A multiscale layer is written in its finest level.
    data, meta: as napari gives them to writers.  -> the path.  Raises InputError, in one line.
    """
    import tifffile

    from restonnx.files import explained, replaced
    from restonnx.images import tiff_ifd

    target, overwrite = _target(path, TIFF_SUFFIXES)
    pixels, rgb = _finest(data, meta), bool(meta.get("rgb"))
    exif, icc = _camera_notes(data, meta)
    dtype = _written_dtype(pixels.dtype, target)
    axes = axes_of(meta, pixels.ndim - rgb)
    letters = "".join(axis.letter for axis in axes) + ("S" if rgb else "")
    form = _form(target, letters, tuple(pixels.shape), dtype, any(axis.is_calibrated for axis in axes))
    options = {
        "imagej": _imagej_options,
        "ome": _ome_options,
        "shaped": _shaped_options,
        "plain": _plain_options,
    }[form](axes, letters, meta, pixels)
    if rgb:
        options |= {"photometric": "rgb", "planarconfig": "contig"}
        options |= {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
    else:
        options["photometric"] = "minisblack"
    size = float(np.prod([float(n) for n in pixels.shape])) * dtype.itemsize
    if form != "imagej":  # which maps its files, and reads no others as fast
        options |= {"compression": "ADOBE_DEFLATE", "predictor": dtype.itemsize <= 4 or dtype.kind == "f"}
        options["bigtiff"] = size > BIG_BYTES
    with explained(target, "write"), replaced(target, overwrite=overwrite) as temporary, temporary.open("xb") as file:
        planes = _planes(pixels, 2 + rgb, dtype)
        options |= {"extratags": tiff_ifd.exif_tags(exif, set()), "iccprofile": icc}
        tifffile.imwrite(file, planes, shape=tuple(pixels.shape), dtype=dtype, software="restonnx", **options)
        file.close()
        tiff_ifd.append_exif(temporary, exif)
    return [str(target)]


def write_png(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """One plane of 8 or 16 bits, grey or colour, with its alpha; the scale as resolution where it is a length.

    data, meta: as napari gives them to writers.  -> the path.  Raises InputError for what PNG cannot hold, in one line.
    """
    from restonnx import images
    from restonnx.images.png import PngChunks

    target, overwrite = _target(path, PNG_SUFFIXES)
    pixels, rgb = _finest(data, meta), bool(meta.get("rgb"))
    planes = int(np.prod(pixels.shape[: pixels.ndim - 2 - rgb]))
    if planes != 1:
        raise InputError(f"{target} holds one plane, but this layer has {planes}: save it as .tif")
    if pixels.dtype not in (np.uint8, np.uint16, np.bool_):
        raise InputError(
            f"{target} holds whole numbers of 8 or 16 bits, but this layer is {pixels.dtype}: save it as .tif, "
            "which keeps every value"
        )
    image = np.asarray(pixels).reshape(pixels.shape[pixels.ndim - 2 - rgb :])
    image = image.astype(np.uint8) * 255 if image.dtype == np.bool_ else image
    alpha = image[..., 3] if rgb and image.shape[-1] == 4 else None
    exif, icc = _camera_notes(data, meta)
    chunks = [(b"tEXt", b"Software\0restonnx")]
    if note := _note(meta):
        chunks.append((b"tEXt", b"Description\0" + note.encode("ascii")))
    images.write(
        target,
        images.Picture(
            image[..., :3] if rgb else image,
            "YXS" if rgb else "YX",
            alpha=alpha,
            icc=icc,
            exif=exif,
            resolution=_resolution(axes_of(meta, pixels.ndim - rgb)),
            native=PngChunks(tuple(chunks)),
        ),
        overwrite=overwrite,
    )
    return [str(target)]


def _target(path: str, suffixes: Sequence[str]) -> tuple[Path, bool]:
    """Where to write, and whether that may be replaced: napari's dialog has asked about the very name alone."""
    if path.lower().endswith(tuple(suffixes)):
        return Path(path), True
    return Path(path + suffixes[0]), False


def _finest(data: Any, meta: Mapping[str, Any]) -> Any:
    return data[0] if meta.get("multiscale") else data


def _written_dtype(dtype: Any, target: Path) -> np.dtype[Any]:
    """bool is written as 0 and 255, and half floats as whole ones, which more programs read."""
    kept = np.dtype(dtype)
    if kept == np.bool_:
        return np.dtype(np.uint8)
    if kept.kind not in "iuf":
        raise InputError(f"{target} cannot hold {kept} pixels: save real and imaginary part as layers of their own")
    return np.dtype(np.float32) if kept == np.float16 else kept.newbyteorder("=")


def _planes(pixels: Any, inner: int, dtype: np.dtype[Any]) -> Iterator[Any]:
    """One array after the other of the last `inner` axes."""
    for index in itertools.product(*(range(n) for n in pixels.shape[: pixels.ndim - inner])):
        plane = np.asarray(pixels[index])
        full = plane.astype(np.uint8) * 255 if plane.dtype == np.bool_ else plane
        yield np.ascontiguousarray(full, dtype)


def _form(target: Path, letters: str, shape: tuple[int, ...], dtype: np.dtype[Any], calibrated: bool) -> str:
    ordered = letters == "".join(letter for letter in ORDER if letter in letters)
    ome = ordered and dtype.name in OME_DTYPES
    if target.name.lower().endswith(OME_SUFFIXES):
        if not ome:
            raise InputError(f"{target} cannot hold the axes {letters} of {dtype} as OME-TIFF: save it as plain .tif")
        return "ome"
    if len(letters.removesuffix("S")) == 2 and not calibrated and {"Y", "X"} <= set(letters):
        return "plain"
    size = float(np.prod([float(n) for n in shape])) * dtype.itemsize
    colours = "S" not in letters or (shape[-1] == 3 and dtype == np.uint8)
    if ordered and colours and dtype.name in IMAGEJ_DTYPES and size <= IMAGEJ_BYTES:
        return "imagej"
    return "ome" if ome else "shaped"


def _imagej_options(axes: Sequence[Axis], letters: str, meta: Mapping[str, Any], pixels: Any) -> dict[str, Any]:
    """ImageJ has one unit for all lengths, and its resolution is in pixels of that; origins are in pixels."""
    unit = length_unit(axes)
    found: dict[str, Any] = {"axes": letters}
    if unit or any(axis.is_calibrated for axis in axes if axis.letter in "ZYX"):
        found["unit"] = (unit or "pixel").replace("\u00b5", "u")
    steps = {axis.letter: _step(axis, unit) for axis in axes}
    for axis in axes:
        if axis.letter == "Z":
            found["spacing"] = steps["Z"]
        elif axis.letter == "T" and axis.unit == "s":
            found["finterval"] = axis.step
        if axis.letter in "ZYX" and axis.start and axis.step:
            found[f"{axis.letter.lower()}origin"] = -axis.start / axis.step
    limits = meta.get("contrast_limits")
    if limits is not None and "S" not in letters:
        found |= {"min": float(limits[0]), "max": float(limits[1])}
    if note := _note(meta):
        found["Info"] = note
    resolution = tuple(_rational(1 / steps[letter]) if steps[letter] else (1, 1) for letter in "XY")
    return {"imagej": True, "metadata": found, "resolution": resolution, "resolutionunit": "NONE"}


def _ome_options(axes: Sequence[Axis], letters: str, meta: Mapping[str, Any], pixels: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"axes": letters, "Name": str(meta.get("name", ""))}
    planes = int(np.prod([n for n, letter in zip(pixels.shape, letters, strict=True) if letter not in "YXS"]))
    positions: dict[str, Any] = {}
    for axis in axes:
        if axis.letter in "ZYX" and (axis.unit in LENGTHS or axis.is_calibrated):
            found[f"PhysicalSize{axis.letter}"] = axis.step
            found[f"PhysicalSize{axis.letter}Unit"] = axis.unit
        elif axis.letter == "T" and axis.unit == "s":
            found |= {"TimeIncrement": axis.step, "TimeIncrementUnit": "s"}
        if axis.letter in "YX" and axis.start:
            positions[f"Position{axis.letter}"] = [axis.start] * planes
            positions[f"Position{axis.letter}Unit"] = [axis.unit] * planes
    if positions:
        found["Plane"] = positions
    if note := _note(meta):
        found["Description"] = note
    return {"ome": True, "metadata": found, **_dots(axes)}


def _shaped_options(axes: Sequence[Axis], letters: str, meta: Mapping[str, Any], pixels: Any) -> dict[str, Any]:
    """tifffile's JSON, for axes and numbers that the others do not know."""
    found: dict[str, Any] = {
        "axes": letters,
        "scale": [axis.step for axis in axes],
        "translate": [axis.start for axis in axes],
        "units": [axis.unit.replace("\u00b5", "u") for axis in axes],
    }
    if note := _note(meta):
        found["Description"] = note
    return {"metadata": found, **_dots(axes)}


def _plain_options(axes: Sequence[Axis], letters: str, meta: Mapping[str, Any], pixels: Any) -> dict[str, Any]:
    return {"metadata": None, "description": _note(meta) or None}


def _step(axis: Axis, unit: str | None) -> float:
    return axis.steps_in(unit) if unit and axis.unit in LENGTHS else axis.step


def _dots(axes: Sequence[Axis]) -> dict[str, Any]:
    """TIFF's own resolution, for programs that know no other."""
    found = _resolution(axes)
    if found is None:
        return {}
    pair = (_rational(float(found.x)), _rational(float(found.y)))
    return {"resolution": pair, "resolutionunit": "CENTIMETER"}


def _resolution(axes: Sequence[Axis]) -> Any:
    """Pixels per centimetre, or None where rows and columns are no lengths."""
    from restonnx.images import Resolution

    if length_unit(axes) is None:
        return None
    dots = {axis.letter: _dots_per(axis.steps_in("cm")) for axis in axes if axis.letter in "YX"}
    return Resolution(dots["X"], dots["Y"], "centimeter") if all(dots.values()) else None


def _dots_per(step: float) -> Fraction:
    """Pixels per centimetre; 0 for steps that no image has, and that 32-bit numbers of pixels per metre do not hold."""
    return Fraction(1 / step).limit_denominator(10**6) if 1e-7 < step < 1e9 else Fraction(0)


def _rational(value: float) -> tuple[int, int]:
    """Of two 32-bit numbers."""
    ratio = Fraction(value).limit_denominator(max(1, min(10**6, int(4e9 / max(value, 1)))))
    return ratio.numerator, ratio.denominator


def _note(meta: Mapping[str, Any]) -> str:
    """How the layer was restored and what its camera noted, as JSON in ASCII; "" for layers of other origin.

    Of files it tells the names alone: where they lie is nothing that a file should tell to whoever gets it.
    """
    metadata = meta.get("metadata") or {}
    kept = {key: _without_folder(metadata[key], name) for key, name in PATHS.items() if key in metadata}
    return json.dumps(kept, default=str) if kept else ""


def _without_folder(notes: Any, name: str) -> Any:
    if isinstance(notes, list):
        return [_without_folder(one, name) for one in notes]
    if not isinstance(notes, Mapping) or not notes.get(name):
        return notes
    return {**notes, name: Path(str(notes[name])).name}


def _camera_notes(data: Any, meta: Mapping[str, Any]) -> tuple[bytes | None, bytes | None]:
    """EXIF and ICC profile of the file that the layer was read from."""
    pixels = _finest(data, meta)
    rgb = bool(meta.get("rgb"))
    rows, columns = pixels.shape[pixels.ndim - rgb - 2 : pixels.ndim - rgb]
    return notes_of(file_behind(data, meta), (int(rows), int(columns)), rgb=rgb)
