"""Writing DNGs (Adobe Digital Negative specification 1.4): a mosaic or linear colours, with previews of the result.

The first directory holds a thumbnail and the shared tags, the two below it the sensor's data and a larger preview.
Data are lossless JPEG in tiles of 256 pixels, the one compression of 16-bit integers that LibRaw, dcraw, darktable and
RawTherapee all decode exactly.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from restonnx.images import tiff_ifd
from restonnx.isp import cfa, colors
from restonnx.isp.dng_tags import CFA, LINEAR_RAW, NOISE_PROFILE, DngTags
from restonnx.isp.frame import Area, FrameMeta, NoiseProfile

Compression = Literal["lossless-jpeg", "none"]
TILE = 256
THUMBNAIL, PREVIEW = 256, 2048
"""Longest side in pixels."""
JPEG_QUALITY = 88
JPEG, YCBCR = 7, 6
VERSION, READABLE_SINCE = bytes((1, 4, 0, 0)), bytes((1, 2, 0, 0))
DAYLIGHT = 21
CROP_TAGS = (50718, 50719, 50720, 51125)
BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12


@dataclass(frozen=True, eq=False)
class Negative:
    """What goes into a DNG."""

    pixels: Any
    """uint16, (H, W) of a mosaic or a monochrome sensor, masked border included, or (H, W, 3) linear."""
    meta: FrameMeta
    """Of these pixels: pattern, levels, balance, matrix, active area, orientation."""
    white: float
    """The level that is rendered as white."""
    noise: NoiseProfile | None = None
    """Of these pixels, not of those they were made of."""
    source: DngTags | None = None
    """Tags of the file that it was made of, colour tags of which are kept as they are."""
    same_geometry: bool = True
    """The picture is as large as the source's."""
    preview: Any = None
    """(H, W, 3) uint8 sRGB, turned as the sensor was."""
    exif: bytes | None = None
    software: str = "restonnx"


def write(path: Path, negative: Negative, *, compression: Compression = "lossless-jpeg") -> None:
    """Write to a path that does not exist yet."""
    with path.open("x+b") as file:
        _write(file, negative, compression)
    tiff_ifd.append_exif(path, negative.exif)


def to_bytes(negative: Negative) -> bytes:
    """Uncompressed and without EXIF, for LibRaw to render."""
    file = io.BytesIO()
    _write(file, negative, "none")
    content = file.getvalue()
    return content


def _write(file: BinaryIO, negative: Negative, compression: Compression) -> None:
    import tifffile

    pixels, mono = negative.pixels, negative.meta.is_monochrome
    preview = negative.preview if negative.preview is not None else np.zeros((8, 8, 3), np.uint8)
    photometric: Any = "minisblack" if mono else CFA if pixels.ndim == 2 else LINEAR_RAW
    with tifffile.TiffWriter(file, bigtiff=pixels.nbytes > 3_900_000_000) as tiff:
        common: dict[str, Any] = {"metadata": None, "description": None}
        first = {"subifds": 2, "subfiletype": 1, "extratags": _first_tags(negative), "software": negative.software}
        _write_jpeg(tiff, _shrunk(preview, THUMBNAIL), **common, **first)
        data = {"photometric": photometric, "subfiletype": 0, "extratags": _raw_tags(negative), "software": False}
        # LibRaw mistakes tiles that are wider than the picture, and TIFF wants multiples of 16.
        tile = TILE, min(TILE, pixels.shape[1] // 16 * 16)
        if compression == "none" or tile[1] == 0:
            tiff.write(pixels, **common, **data)
        else:
            form = {"shape": pixels.shape, "dtype": np.uint16, "tile": tile, "compression": JPEG}
            form |= {"bitspersample": 16}  # otherwise 12, which tifffile takes for what a JPEG holds
            tiff.write(_tiles(pixels, tile), **common, **data, **form)
        _write_jpeg(tiff, _shrunk(preview, PREVIEW), **common, subfiletype=1, software=False)
    if mono:
        _call_linear(file)


def _first_tags(negative: Negative) -> list[tuple[int, int, int, Any, bool]]:
    meta, source = negative.meta, negative.source
    copied = [] if source is None else source.to_copy(mosaic=meta.cfa is not None)
    tags = [
        (50706, BYTE, 4, VERSION, True),
        (50707, BYTE, 4, READABLE_SINCE, True),
        _text(50708, _unique_model(negative)),
        (274, SHORT, 1, meta.orientation, True),
    ]
    if not meta.is_monochrome:
        matrix = np.linalg.inv(colors.to_xyz("srgb")) if meta.xyz_to_cam is None else np.array(meta.xyz_to_cam)
        neutral = 1 / np.array(meta.wb)
        if not any(tag.code in (50721, 50722) for tag in copied):
            tags.append((50721, SRATIONAL, 9, _ratios(matrix.ravel(), 10**6), True))
        if not any(tag.code == 50778 for tag in copied):  # without it some readers drop the matrix
            tags.append((50778, SHORT, 1, DAYLIGHT, True))
        if not any(tag.code in (50728, 50729) for tag in copied):
            tags.append((50728, RATIONAL, 3, _ratios(neutral / neutral.max(), 2**31), True))
    if not any(tag.code == 50730 for tag in copied):
        tags.append((50730, SRATIONAL, 1, (0, 1), True))
    if meta.source and not any(tag.code == 50827 for tag in copied):
        tags.append(_text(50827, Path(meta.source).name))
    own = {tag[0] for tag in tags}
    tags += [tag.extra() for tag in copied if tag.code not in own and tag.code not in (51009, 51022)]
    tags += tiff_ifd.exif_tags(negative.exif, {tag[0] for tag in tags})
    return tags


def _raw_tags(negative: Negative) -> list[tuple[int, int, int, Any, bool]]:
    meta, pixels = negative.meta, negative.pixels
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    area: Area = meta.active_area or (0, 0, *pixels.shape[:2])
    if area[2] > pixels.shape[0] or area[3] > pixels.shape[1]:
        area = (0, 0, *pixels.shape[:2])
    tags: list[tuple[int, int, int, Any, bool]] = []
    if meta.cfa is not None and not meta.is_monochrome:
        flat = [colour for row in meta.cfa for colour in row]
        tags += [
            (33421, SHORT, 2, (len(meta.cfa), len(meta.cfa[0])), True),
            (33422, BYTE, len(flat), bytes(flat), True),
            (50710, BYTE, 3, bytes((0, 1, 2)), True),
            (50711, SHORT, 1, 1, True),
        ]
    tags += _black_tags(negative, channels)
    tags.append((50717, LONG, channels, (round(negative.white),) * channels, True))
    tags.append((50829, LONG, 4, area, True))
    tags += _crop_tags(negative, area)
    if negative.noise is not None:
        count = len(negative.noise.a)
        pairs = [value for pair in zip(negative.noise.a, negative.noise.b, strict=True) for value in pair]
        tags.append((NOISE_PROFILE, DOUBLE, 2 * count, tuple(pairs), True))
    if negative.source is not None and negative.same_geometry:
        lists = [tag for tag in negative.source.to_copy(mosaic=meta.cfa is not None) if tag.code in (51009, 51022)]
        tags += [tag.extra() for tag in lists]
    return tags


def _black_tags(negative: Negative, channels: int) -> list[tuple[int, int, int, Any, bool]]:
    meta = negative.meta
    levels = list(np.ravel(cfa.spread(meta.black, meta.cfa))) if meta.cfa else list(meta.black)
    period = (len(meta.cfa), len(meta.cfa[0])) if meta.cfa else (1, 1)
    if meta.cfa and len(set(levels)) == 1:
        levels, period = levels[:1], (1, 1)
    if meta.cfa is None and len(levels) != channels:
        levels = levels[:1] * channels
    values = _ratios(levels, 256)
    return [(50713, SHORT, 2, period, True), (50714, RATIONAL, len(levels), values, True)]


def _crop_tags(negative: Negative, area: Area) -> list[tuple[int, int, int, Any, bool]]:
    """The source's crop where it still fits, else all of the active area."""
    height, width = area[2] - area[0], area[3] - area[1]
    source = negative.source
    if source is not None and negative.same_geometry and all(code in source.raw for code in (50719, 50720)):
        return [source.raw[code].extra() for code in CROP_TAGS if code in source.raw]
    return [(50719, LONG, 2, (0, 0), True), (50720, LONG, 2, (width, height), True)]


def _unique_model(negative: Negative) -> str:
    if negative.source is not None and 50708 in negative.source.first:
        return str(negative.source.first[50708].value)
    return negative.meta.camera or "unknown camera"


def _tiles(pixels: Any, shape: tuple[int, int]) -> Iterator[bytes]:
    """Lossless JPEG streams, row by row; the edges are repeated to fill the last tiles."""
    import imagecodecs

    options: dict[str, Any] = {"lossless": True, "bitspersample": 16}
    if pixels.ndim == 3:  # otherwise libjpeg would turn them into luma and chroma
        options |= {"colorspace": "rgb", "outcolorspace": "rgb"}
    for top in range(0, pixels.shape[0], shape[0]):
        for left in range(0, pixels.shape[1], shape[1]):
            tile = pixels[top : top + shape[0], left : left + shape[1]]
            missing = [(0, shape[n] - tile.shape[n]) for n in (0, 1)] + [(0, 0)] * (pixels.ndim - 2)
            yield bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(np.pad(tile, missing, mode="edge")), **options))


def _write_jpeg(tiff: Any, image: Any, **options: Any) -> None:
    import imagecodecs

    stream = bytes(imagecodecs.jpeg_encode(image, level=JPEG_QUALITY, subsampling="422"))
    tiff.write(
        iter([stream]),
        shape=image.shape,
        dtype=np.uint8,
        photometric=YCBCR,
        subsampling=(2, 1),
        compression=JPEG,
        rowsperstrip=image.shape[0],
        **options,
    )


def _shrunk(image: Any, longest: int) -> Any:
    from PIL import Image

    if max(image.shape[:2]) <= longest:
        return np.ascontiguousarray(image)
    factor = longest / max(image.shape[:2])
    size = [max(1, round(side * factor)) for side in (image.shape[1], image.shape[0])]
    return np.asarray(Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.BOX, reducing_gap=2.0))


def _call_linear(file: BinaryIO) -> None:
    """tifffile writes LinearRaw of three samples only, so a monochrome one is written as grey and renamed."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        first: Any = tiff.pages[0]
        place, order = first.pages[0].tags[262].valueoffset, tiff.byteorder
    file.seek(place)
    file.write(LINEAR_RAW.to_bytes(2, "little" if order == "<" else "big"))


def _ratios(values: Iterable[float], most: int) -> tuple[int, ...]:
    """Numerators and denominators, in turn."""
    found = (Fraction(float(value)).limit_denominator(most) for value in values)
    return tuple(number for ratio in found for number in (ratio.numerator, ratio.denominator))


def _text(code: int, text: str) -> tuple[int, int, int, Any, bool]:
    content = text.encode("ascii", "replace") + b"\0"
    return code, ASCII, len(content), content, True
