"""The EXIF of a RAW file, for the file that is made of it."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

from restonnx.images import tiff_ifd
from restonnx.isp.dng_tags import SIGNATURES

SOFTWARE, ORIENTATION, EXIF_IFD = 305, 274, 0x8769


def read(path: Path, raw: Any) -> bytes | None:
    """From the directories of a TIFF-like file, else from its embedded JPEG, else what LibRaw knows of it."""
    with path.open("rb") as file:
        start = file.read(4)
    try:
        found = tiff_ifd.read_exif(path) if start in SIGNATURES[:4] else _of_thumbnail(raw)
    except (ValueError, TypeError, LookupError, SyntaxError, OSError, RuntimeError, struct.error, AttributeError):
        found = None  # the pixels are worth more than a note about them that Pillow cannot read
    return found or _of_libraw(raw)


def finished(exif: bytes | None, software: str, orientation: int) -> bytes:
    """The EXIF with the name of the program and the orientation of the new pixels."""
    from PIL import Image

    values = Image.Exif()
    if exif is not None:
        values.load(exif)
        for code in (EXIF_IFD, tiff_ifd.GPS_IFD):  # read now: they are lost with a tag that changes
            directory = dict(values.get_ifd(code))
            if directory:
                values[code] = directory
    values[SOFTWARE], values[ORIENTATION] = software, orientation
    return values.tobytes().removeprefix(b"Exif\0\0")


def _of_thumbnail(raw: Any) -> bytes | None:
    import io

    import rawpy
    from PIL import Image

    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if thumbnail.format != rawpy.ThumbFormat.JPEG:
        return None
    with Image.open(io.BytesIO(thumbnail.data)) as image:
        content: bytes | None = image.info.get("exif")
    return None if content is None else content.removeprefix(b"Exif\0\0")


def _of_libraw(raw: Any) -> bytes | None:
    """Exposure, aperture, ISO, focal length, time, lens, where they are known."""
    from PIL import Image
    from PIL.TiffImagePlugin import IFDRational

    def ratio(value: float) -> Any:
        exact = Fraction(float(value)).limit_denominator(100000)
        return IFDRational(exact.numerator, exact.denominator)

    other, lens = raw.other, raw.lens
    values: dict[int, Any] = {}
    if other.iso_speed > 0:
        values[0x8827] = round(other.iso_speed)
        if other.shutter_speed > 0:
            values[0x829A] = ratio(other.shutter_speed)
        if other.aperture > 0:
            values[0x829D] = ratio(round(other.aperture, 2))
    if other.focal_length > 0:
        values[0x920A] = ratio(round(other.focal_length, 2))
    if other.timestamp is not None and other.timestamp.year > 1970:
        values[0x9003] = other.timestamp.strftime("%Y:%m:%d %H:%M:%S")
    if lens.model:
        values[0xA434] = str(lens.model)
    if not values:
        return None
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD).update(values)
    exif[EXIF_IFD] = values
    return exif.tobytes().removeprefix(b"Exif\0\0")
