"""TIFF: any dtype, stacks, tiles, lossless compressions, ImageJ and OME axes and calibration, BigTIFF."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from restonnx.errors import InputError
from restonnx.images import geotiff, ome, tiff_ifd
from restonnx.images.picture import Picture, Pixels, Resolution, to_depth

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAPPED_BYTES = 1 << 28
"""Uncompressed images of at least this many bytes are mapped, not loaded."""
BIG_BYTES = 4_000_000_000
"""More pixels than this need 64-bit offsets."""
LOSSLESS = {"NONE", "LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "ZSTD", "LZMA"}
"""Compressions kept on writing; pixels of lossy ones are written with deflate."""
KEPT_TAGS = {33723, 34377} | geotiff.TAGS
"""IPTC captions, Photoshop's resources, and where on the Earth the image lies."""
IMAGEJ_COUNTS = {"ImageJ", "images", "channels", "slices", "frames", "hyperstack"}
"""What tifffile writes anew from the axes."""
IMAGEJ_DTYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True, eq=False)
class TiffDetails:
    """How the file was written, so that it is written the same way again."""

    kind: str = "plain"
    """imagej, ome, shaped (tifffile's JSON) or plain."""
    description: str | None = None
    """The text of a plain file, or the XML of an OME file."""
    metadata: dict[str, Any] | None = None
    """What ImageJ or tifffile's JSON hold beside the axes."""
    inverted: bool = False
    """0 is white in the file; it is black in the pixels."""
    compression: str = "ADOBE_DEFLATE"
    predictor: bool = True
    tile: tuple[int, int] | None = None
    big: bool = False
    byteorder: Literal["<", ">"] | None = None
    alpha_kind: int = 2
    """TIFF's ExtraSamples: 0 unknown, 1 premultiplied, 2 straight."""
    software: str | None = None
    tags: tuple[tuple[int, int, int, Any, bool], ...] = ()
    """(code, dtype, count, value, first page only), as tifffile takes them."""


def read(path: Path) -> Picture:
    """Raises InputError for several images in one, camera raw and CMYK; ValueError for a file cut off."""
    import tifffile

    tiff_ifd.check_complete(path)
    with tifffile.TiffFile(path) as tiff:
        series = _only_series(tiff, path)
        page = series.keyframe
        pixels, axes = _pixels(tiff, series, path), _each_once(series.axes)
        if page.photometric.name == "PALETTE":
            pixels, axes = _from_palette(pixels, page.colormap), f"{axes}S"
        inverted = page.photometric.name == "MINISWHITE" and pixels.dtype.kind == "u"
        if inverted:
            pixels = np.iinfo(pixels.dtype).max - pixels
        details = _details(tiff, page, axes, inverted)
        icc, xmp = _tag(page, 34675), _tag(page, 700)
        resolution = _resolution(page)
    pixels, axes, alpha = _split_alpha(pixels, axes, page)
    return Picture(
        pixels=pixels,
        axes=axes,
        alpha=alpha,
        premultiplied=alpha is not None and details.alpha_kind == 1,
        icc=None if icc is None else bytes(icc),
        exif=tiff_ifd.read_exif(path),
        xmp=xmp.encode() if isinstance(xmp, str) else None if xmp is None else bytes(xmp),
        resolution=resolution,
        native=details,
    )


def write(path: Path, picture: Picture, *, name: Path, quality: int) -> None:
    """Lossless; `quality` has no meaning here."""
    import tifffile

    samples, axes = picture.with_alpha()
    details = _fitting(picture, samples, axes, name)
    if details.inverted:
        samples = np.iinfo(samples.dtype).max - samples
    if _is_planar(picture):
        samples, axes = np.moveaxis(samples, -1, -3), axes[:-3] + "SYX"
    description, metadata = _description(details, picture, samples, axes)
    options: dict[str, Any] = {"metadata": metadata, "description": description, "tile": details.tile}
    options |= {
        "imagej": details.kind == "imagej",
        "ome": details.kind == "new ome",
        "iccprofile": picture.icc,
    }
    options |= _samples_options(picture, samples, axes, details)
    if details.compression != "NONE":
        options |= {"compression": details.compression, "predictor": _predictor(details, samples.dtype)}
    resolution = picture.fitted_resolution()
    if resolution is not None:
        pair = tuple(_ratio(n) for n in (resolution.x, resolution.y))
        options |= {"resolution": pair, "resolutionunit": resolution.unit.upper()}
    tags = _tags(details, picture) + tiff_ifd.exif_tags(picture.exif, {tag[0] for tag in details.tags})
    if picture.xmp is not None:
        tags.append((700, 1, len(picture.xmp), picture.xmp, True))
    software = details.software or False
    big = samples.nbytes > BIG_BYTES or details.big
    byteorder = details.byteorder if details.kind != "imagej" else None
    with path.open("xb") as file:
        tifffile.imwrite(file, samples, bigtiff=big, byteorder=byteorder, software=software, extratags=tags, **options)
    tiff_ifd.append_exif(path, picture.exif)


def _tags(details: TiffDetails, picture: Picture) -> list[tuple[int, int, int, Any, bool]]:
    keys = next((value for code, _, _, value, _ in details.tags if code == geotiff.KEYS), None)
    return [
        (code, dtype, count, geotiff.zoomed(code, value, keys, picture.zoom), first)
        for code, dtype, count, value, first in details.tags
    ]


def _only_series(tiff: Any, path: Path) -> Any:
    whole = [
        s for s in tiff.series if not s.keyframe.is_reduced and s.name.lower() not in ("label", "macro", "thumbnail")
    ]
    if not whole:
        raise ValueError("it holds no image")
    if len(whole) > 1:
        raise InputError(f"{path} holds {len(whole)} images of their own; save each as a file first")
    series, page = whole[0], whole[0].keyframe
    if tiff.is_ome and any(frame is None for frame in series.pages):
        raise InputError(f"{path} lists pages that are missing or in other files; put its OME files side by side")
    if page.photometric.name in ("CFA", "LINEAR_RAW"):
        raise InputError(f"{path} is camera raw and not a developed image; develop it first (restonnx develop)")
    if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE", "YCBCR"):
        raise InputError(f"{path} holds {page.photometric.name} colours; convert it to RGB first")
    if page.photometric.name == "YCBCR" and page.compression.name in LOSSLESS:  # tifffile converts those of JPEG
        raise InputError(f"{path} holds YCbCr colours without JPEG; convert it to RGB first")
    if series.dtype is None or series.dtype.kind not in "iuf":
        raise InputError(f"{path} holds {series.dtype} pixels; convert it to integers or floats first")
    return series


def _pixels(tiff: Any, series: Any, path: Path) -> Pixels:
    import tifffile

    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > path.stat().st_size:
            raise ValueError("it ends within its pixels")
        if series.nbytes >= MAPPED_BYTES:
            mapped: Pixels = tifffile.memmap(path, mode="r", series=list(tiff.series).index(series))
            return mapped
    pixels: Pixels = series.asarray()
    return pixels


def _each_once(axes: str) -> str:
    """Files without axes have several called Q: all but the last get letters of their own."""
    unused = [letter for letter in "PRIVEALHMTZ" if letter not in axes]
    while axes.count("Q") > 1:
        axes = axes.replace("Q", unused.pop(0), 1)
    return axes


def _from_palette(indices: Pixels, palette: Any) -> Pixels:
    """(..., 3): 8 bits where the palette's 16 bits hold no more."""
    colors = np.asarray(palette).T
    return to_depth(colors, np.uint8)[indices] if not (colors % 257).any() else _eight_bits(colors)[indices]


def _eight_bits(colors: Pixels) -> Pixels:
    """Palettes of many programs hold 8 bits shifted by 8; others use all 16."""
    return colors if (colors & 255).any() else (colors >> 8).astype(np.uint8)


def _split_alpha(pixels: Pixels, axes: str, page: Any) -> tuple[Pixels, str, Pixels | None]:
    if "S" not in axes:
        return pixels, axes, None
    axis, extra = axes.index("S"), [int(kind) for kind in page.extrasamples]
    colors = pixels.shape[axis] - 1
    is_alpha = len(extra) == 1 and (colors == 3 or (colors == 1 and extra[0] in (1, 2)))
    if not is_alpha:
        return pixels, axes, None
    before: tuple[Any, ...] = (slice(None),) * axis
    if colors == 1:
        return pixels[(*before, 0)], axes.replace("S", ""), pixels[(*before, 1)]
    return pixels[(*before, slice(3))], axes, pixels[(*before, 3)]


def _details(tiff: Any, page: Any, axes: str, inverted: bool) -> TiffDetails:
    kind, description, metadata = "plain", page.description or None, None
    if tiff.is_imagej:
        kind, description = "imagej", None
        metadata = {k: v for k, v in (tiff.imagej_metadata or {}).items() if k not in IMAGEJ_COUNTS}
    elif tiff.is_ome:
        kind = "ome"
    elif tiff.is_shaped:
        kind, description = "shaped", None
        metadata = {k: v for k, v in (tiff.shaped_metadata or [{}])[0].items() if k not in ("shape", "axes")}
    elif len(axes.replace("S", "")) > 3:
        kind, description = "shaped", None
    compression = page.compression.name if page.compression.name in LOSSLESS else "ADOBE_DEFLATE"
    return TiffDetails(
        kind=kind,
        description=description,
        metadata=metadata,
        inverted=inverted,
        compression="ADOBE_DEFLATE" if compression == "DEFLATE" else compression,
        predictor=int(page.predictor) > 1,
        tile=tuple(page.tile) if page.is_tiled and len(page.tile) == 2 else None,
        big=tiff.is_bigtiff,
        byteorder=tiff.byteorder,
        alpha_kind=int(page.extrasamples[0]) if page.extrasamples else 2,
        software=page.software or None,
        tags=tuple((t.code, int(t.dtype), t.count, t.value, True) for t in page.tags if t.code in KEPT_TAGS),
    )


def _fitting(picture: Picture, samples: Pixels, axes: str, name: Path) -> TiffDetails:
    """The details to write with: those read, unless what they describe no longer holds these pixels."""
    named_ome = name.name.lower().endswith((".ome.tif", ".ome.tiff"))
    details = picture.native if isinstance(picture.native, TiffDetails) else None
    if details is None:
        stack = len(axes.replace("S", "")) > 2
        return TiffDetails(kind="new ome" if named_ome else "shaped" if stack else "plain")
    if samples.dtype.kind != "u":
        details = replace(details, inverted=False)
    if details.kind == "imagej":
        order = [letter for letter in "TZCYXS" if letter in axes]
        fits = axes == "".join(order) and samples.dtype.name in IMAGEJ_DTYPES and samples.nbytes < BIG_BYTES
        if "S" in axes:
            fits = fits and samples.shape[-1] == 3 and samples.dtype == np.uint8
        if not fits:
            return replace(details, kind="shaped", metadata=None)
    if details.kind == "ome" and not set(axes) <= set("TZCYXS"):
        return replace(details, kind="shaped", description=None)
    if named_ome and details.kind != "ome":
        return replace(details, kind="new ome", description=None, metadata=None)
    return details


def _description(details: TiffDetails, picture: Picture, samples: Pixels, axes: str) -> tuple[Any, Any]:
    """tifffile's `description` and `metadata`."""
    if details.kind == "ome" and details.description is not None:
        return ome.updated(details.description, axes, samples.shape, samples.dtype, picture.zoom), None
    if details.kind == "plain":
        return None if details.description is None else details.description.encode(), None
    return None, {**(details.metadata or {}), "axes": axes}


def _samples_options(picture: Picture, samples: Pixels, axes: str, details: TiffDetails) -> dict[str, Any]:
    """tifffile's options for what the last axis (or, planar, the third last) holds."""
    count = samples.shape[axes.index("S")] if "S" in axes else 1
    colors = 3 if count >= 3 else 1
    gray = "miniswhite" if details.inverted else "minisblack"
    options: dict[str, Any] = {"photometric": "rgb" if colors == 3 else gray}
    if count > colors:
        kind = details.alpha_kind if picture.alpha is not None else 0
        options["extrasamples"] = [kind] + [0] * (count - colors - 1)
    if count > 1:
        options["planarconfig"] = "contig" if axes.endswith("S") else "separate"
    return options


def _predictor(details: TiffDetails, dtype: np.dtype[Any]) -> int | None:
    """Differences of neighbours compress better: 2 for integers, 3 for floats; None where TIFF has none."""
    if not details.predictor or details.compression == "PACKBITS":
        return None
    if dtype.kind == "f":
        return 3
    return 2 if dtype.itemsize <= 4 else None


def _is_planar(picture: Picture) -> bool:
    """Whether the samples were stored one plane after the other."""
    return "SYX" in picture.axes and isinstance(picture.native, TiffDetails)


def _resolution(page: Any) -> Resolution | None:
    pair = [_tag(page, code) for code in (282, 283)]
    if any(value is None or not value[0] or not value[1] for value in pair):
        return None
    x, y = (Fraction(*value) for value in pair)
    unit = page.tags.get(296)
    if unit is None or unit.value == 2:
        return Resolution(x, y, "inch")
    if unit.value == 3:
        return Resolution(x, y, "centimeter")
    return None if x == y == 1 else Resolution(x, y, "none")


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _ratio(value: Fraction) -> tuple[int, int]:
    """A rational of two 32-bit numbers."""
    short = value if max(value.numerator, value.denominator) < 1 << 32 else value.limit_denominator(1000)
    return short.numerator, short.denominator
