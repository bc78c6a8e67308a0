"""WebP: RGB and RGBA of 8 bits; grey comes back as RGB, since the format has none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.images.flat import flat
from restonnx.images.jpeg import without_marker
from restonnx.images.picture import Picture


@dataclass(frozen=True)
class WebpDetails:
    lossless: bool


def read(path: Path) -> Picture:
    """Raises InputError for animations, and whatever the decoder raises."""
    import imagecodecs

    data = path.read_bytes()  # not through Pillow, which refuses large photographs as decompression bombs
    chunks = dict(_chunks(data))
    if b"ANIM" in chunks:
        raise InputError(f"{path} is an animation; save its frames as a TIFF stack first")
    samples = imagecodecs.webp_decode(data)
    return Picture(
        pixels=samples[..., :3],
        axes="YXS",
        alpha=samples[..., 3] if samples.shape[-1] == 4 else None,
        icc=chunks.get(b"ICCP"),
        exif=without_marker(chunks.get(b"EXIF")),
        xmp=chunks.get(b"XMP "),
        native=WebpDetails(lossless=b"VP8L" in chunks),
    )


def write(path: Path, picture: Picture, *, name: Path, quality: int) -> None:
    """Lossless where the picture was read from a lossless WebP, else with `quality`."""
    from PIL import Image

    samples = flat(picture, name, widest=np.uint8)
    image = Image.fromarray(samples)
    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA" if image.mode == "LA" else "RGB")
    lossless = isinstance(picture.native, WebpDetails) and picture.native.lossless
    kept: dict[str, Any] = {
        "icc_profile": picture.icc or b"",
        "exif": picture.exif or b"",
        "xmp": picture.xmp or b"",
    }
    with path.open("xb") as file:
        # exact: colours below full transparency are pixels too
        image.save(file, "WEBP", lossless=lossless, quality=quality, exact=lossless, **kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of the RIFF file. Raises ValueError where it ends too soon."""
    end, position = 8 + int.from_bytes(data[4:8], "little"), 12
    if end > len(data):
        raise ValueError(f"{end - len(data)} bytes are missing")
    while position + 8 <= end:
        start = position + 8
        length = int.from_bytes(data[position + 4 : start], "little")
        yield data[position : position + 4], data[start : start + length]
        position = start + length + length % 2
