"""JPEG: grey and RGB of 8 bits. Written with the chroma subsampling that it was read with."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.images.flat import flat
from restonnx.images.picture import Picture, Resolution

SIGNATURE = b"\xff\xd8\xff"
EXIF_MARKER = b"Exif\0\0"
KEPT_SEGMENTS = {"APP13": 0xED}
"""Segments written back as they are: APP13 holds captions and keywords (IPTC)."""


@dataclass(frozen=True)
class JpegDetails:
    subsampling: int
    """As Pillow counts: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0."""
    progressive: bool
    comment: bytes | None
    segments: bytes
    """Whole marker segments."""


def read(path: Path) -> Picture:
    """Raises InputError for CMYK, and whatever the decoder raises."""
    from PIL import JpegImagePlugin

    with path.open("rb") as file:
        # The plugin itself and not Image.open, which refuses large photographs as decompression bombs.
        image = JpegImagePlugin.JpegImageFile(file)
        if image.mode not in ("L", "RGB"):
            raise InputError(f"{path} is a {image.mode} image; convert it to RGB first")
        pixels = np.asarray(image)
    info = image.info
    segments = b"".join(
        struct.pack(">BBH", 0xFF, KEPT_SEGMENTS[kind], len(content) + 2) + content
        for kind, content in image.applist
        if kind in KEPT_SEGMENTS
    )
    progressive, comment = bool(info.get("progressive")), info.get("comment")
    subsampling = max(0, JpegImagePlugin.get_sampling(image))
    return Picture(
        pixels=pixels,
        axes="YXS"[: pixels.ndim],
        icc=info.get("icc_profile"),
        exif=without_marker(info.get("exif")),
        xmp=info.get("xmp"),
        resolution=_resolution(info),
        native=JpegDetails(subsampling, progressive, comment, segments),
    )


def write(path: Path, picture: Picture, *, name: Path, quality: int) -> None:
    """Raises InputError for pixels that are not opaque."""
    from PIL import Image

    samples = flat(picture, name, widest=np.uint8)
    if samples.ndim == 3 and samples.shape[-1] in (2, 4):
        if samples[..., -1].min() < 255:
            raise InputError(f"{name} cannot hold transparency; write .png, .webp or .tif instead")
        samples = np.ascontiguousarray(samples[..., :-1]).squeeze()
    details = picture.native if isinstance(picture.native, JpegDetails) else JpegDetails(0, False, None, b"")
    options: dict[str, Any] = {
        "icc_profile": picture.icc,
        "exif": EXIF_MARKER + picture.exif if picture.exif else b"",
        "xmp": picture.xmp,
    }
    options |= {"progressive": details.progressive, "extra": details.segments, "comment": details.comment}
    if picture.resolution is not None and picture.resolution.unit != "none":
        options["dpi"] = _dots_per_inch(picture)
    with path.open("xb") as file:
        image = Image.fromarray(samples)
        image.save(file, "JPEG", quality=quality, subsampling=details.subsampling, **options)


def without_marker(exif: bytes | None) -> bytes | None:
    """EXIF as a TIFF stream; None for nothing."""
    return exif.removeprefix(EXIF_MARKER) or None if exif else None


def _dots_per_inch(picture: Picture) -> tuple[int, int]:
    resolution = picture.fitted_resolution()
    dots = resolution.per("inch") if resolution is not None else None
    x, y = (min(65535, max(1, round(n))) for n in dots or (72, 72))
    return x, y


def _resolution(info: dict[Any, Any]) -> Resolution | None:
    x, y = info.get("jfif_density", (0, 0))
    unit = {1: "inch", 2: "centimeter"}.get(info.get("jfif_unit", 0))
    if unit is None or not x or not y:
        return None
    return Resolution(Fraction(x), Fraction(y), "inch" if unit == "inch" else "centimeter")
