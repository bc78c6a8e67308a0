"""PNG: 8 and 16 bits, grey and RGB, with alpha.

libpng does the pixels, the metadata chunks are done here: Pillow would cut RGB of 16 bits down to 8.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from restonnx.errors import InputError
from restonnx.images.flat import flat
from restonnx.images.picture import Picture, Resolution

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
KEPT = {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt", b"tIME"}
"""Chunks that stay true whatever the pixels become. iCCP, eXIf, pHYs and XMP are taken apart; others go."""
LARGEST_PROFILE = 1 << 26
"""In bytes; a profile that inflates to more is an attack and not a profile."""


@dataclass(frozen=True)
class PngChunks:
    """Chunks to be written back as they are, in their order: (type, data)."""

    chunks: tuple[tuple[bytes, bytes], ...]


def read(path: Path) -> Picture:
    """Raises InputError for animations, and whatever libpng raises."""
    import imagecodecs

    data = path.read_bytes()
    chunks = tuple(_chunks(data))
    found = dict(reversed(chunks))
    if b"acTL" in found:
        raise InputError(f"{path} is an animation; save its frames as a TIFF stack first")
    samples = imagecodecs.png_decode(data)
    colors = {2: 1, 4: 3}.get(samples.shape[-1]) if samples.ndim == 3 else None
    pixels = samples if colors is None else samples[..., 0] if colors == 1 else samples[..., :3]
    xmp = next((text for kind, text in chunks if kind == b"iTXt" and text.startswith(XMP_KEYWORD)), None)
    return Picture(
        pixels=pixels,
        axes="YXS"[: pixels.ndim],
        alpha=None if colors is None else samples[..., -1],
        icc=_profile(found[b"iCCP"]) if b"iCCP" in found else None,
        exif=found.get(b"eXIf"),
        xmp=None if xmp is None else _text(xmp),
        resolution=_resolution(found[b"pHYs"]) if b"pHYs" in found else None,
        native=PngChunks(tuple((kind, text) for kind, text in chunks if kind in KEPT and text is not xmp)),
    )


def write(path: Path, picture: Picture, *, name: Path, quality: int) -> None:
    """Lossless; `quality` has no meaning here."""
    import imagecodecs

    data = imagecodecs.png_encode(flat(picture, name, widest=np.uint16))
    after_header = len(SIGNATURE) + 25
    with path.open("xb") as file:
        file.write(data[:after_header])
        for kind, content in _metadata(picture):
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))
        file.write(memoryview(data)[after_header:])


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every chunk but the pixels'. Raises ValueError where the file ends too soon."""
    position = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ValueError("it ends before its last chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            raise ValueError(f"it ends within chunk {kind.decode('latin-1')}")
        if kind not in (b"IDAT", b"fdAT"):
            yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def _metadata(picture: Picture) -> Iterator[tuple[bytes, bytes]]:
    if picture.icc is not None:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)
    if isinstance(picture.native, PngChunks):
        # A profile outranks them, and a file may hold one of sRGB and iCCP only.
        yield from (c for c in picture.native.chunks if not (c[0] == b"sRGB" and picture.icc is not None))
    if picture.exif is not None:
        yield b"eXIf", picture.exif
    if picture.xmp is not None:
        yield b"iTXt", XMP_KEYWORD + b"\0\0\0\0" + picture.xmp
    resolution = picture.fitted_resolution()
    if resolution is not None:
        x, y = resolution.per("meter") or (resolution.x, resolution.y)
        yield b"pHYs", struct.pack(">IIB", round(x), round(y), resolution.unit != "none")


def _profile(content: bytes) -> bytes:
    compressed = content[content.index(b"\0") + 2 :]
    inflate = zlib.decompressobj()
    profile = inflate.decompress(compressed, LARGEST_PROFILE)
    if not inflate.eof:
        raise ValueError("its colour profile is damaged")
    return profile


def _text(content: bytes) -> bytes:
    """The text of an iTXt chunk: keyword, compression flag and method, language, translated keyword, text."""
    keyword_end = content.index(b"\0")
    compressed = content[keyword_end + 1]
    text = content[keyword_end + 3 :].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, LARGEST_PROFILE) if compressed else text


def _resolution(content: bytes) -> Resolution | None:
    x, y, unit = struct.unpack(">IIB", content)
    if not x or not y:
        return None
    if unit == 1:
        return Resolution(Fraction(x, 100), Fraction(y, 100), "centimeter")
    return Resolution(Fraction(x), Fraction(y), "none")
