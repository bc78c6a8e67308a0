"""The directories (IFDs) of a TIFF file: is the file complete, and what EXIF do they hold.

EXIF is a small TIFF of its own in other formats. In a TIFF its first directory is that of the image and the
others hang below it, so it is taken out into the small form on reading and hung in again on writing.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
CAMERA_TAGS = {271: 2, 272: 2, 274: 3, 306: 2, 315: 2, 316: 2, 33432: 2}
"""Make, model, orientation, time, artist, host computer, copyright: tag code -> TIFF type."""
DESCRIPTION_TAG = 270


@dataclass(frozen=True)
class Header:
    order: str
    """< or >, as struct spells it."""
    big: bool
    first: int
    """Offset of the first directory."""

    @property
    def entry(self) -> int:
        """Bytes of an entry: code, type, count, value or its offset."""
        return 20 if self.big else 12

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")


def check_complete(path: Path) -> None:
    """Raises ValueError where a directory, or the pixels one lists, lie beyond the end of the file.

    Readers take such a file for one of fewer pages, or with black pixels: a broken copy would go unnoticed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _header(file)
        for number, (_, entries) in enumerate(_directories(file, header, size)):
            if any(start + count > size for start, count in _segments(file, header, entries)):
                raise ValueError(f"the pixels of page {number + 1} are missing")


def read_exif(path: Path) -> bytes | None:
    """The camera's tags, EXIF and GPS directories of the first page as an EXIF stream; None without any."""
    from PIL import Image

    with path.open("rb") as file:
        header = _header(file)
        if header.big:  # Pillow reads no EXIF there, and no camera writes it
            return None
        file.seek(0)
        found, exif = Image.Exif(), Image.Exif()
        found.load_from_fp(file)
        for code in CAMERA_TAGS:
            if code in found and not (code == 274 and found[code] == 1):
                exif[code] = _exact(found[code])
        for code in (EXIF_IFD, GPS_IFD):
            values = _directory(found, code)
            if values:
                exif.get_ifd(code).update(values)
                exif[code] = values
        if not exif:
            return None
        return exif.tobytes().removeprefix(b"Exif\0\0")


def exif_tags(exif: bytes | None, taken: set[int]) -> list[tuple[int, int, int, Any, bool]]:
    """The first directory of an EXIF stream as tifffile's extra tags, without the codes `taken`."""
    if exif is None:
        return []
    values = _loaded(exif)
    tags: list[tuple[int, int, int, Any, bool]] = []
    for code, kind in CAMERA_TAGS.items():
        if code not in values or code in taken:
            continue
        if kind == 3:
            tags.append((code, kind, 1, int(values[code]), True))
        else:
            text = str(values[code]).encode("latin-1", "replace") + b"\0"
            tags.append((code, kind, len(text), text, True))
    return tags


def append_exif(path: Path, exif: bytes | None) -> None:
    """Hang the EXIF and GPS directories of an EXIF stream below the first page of a finished TIFF file."""
    values = {} if exif is None else {code: _directory(_loaded(exif), code) for code in (EXIF_IFD, GPS_IFD)}
    if not any(values.values()):
        return
    with path.open("r+b") as file:
        header = _header(file)
        _, entries = next(_directories(file, header, path.stat().st_size))
        following = file.read(struct.calcsize(header.offset))  # _directories stopped right before it
        for code, directory in values.items():
            if directory:
                offset = _at_end(file)
                file.write(_serialised(directory, code, header, offset))
                entries.append(struct.pack(header.order + "HH", code, 4) + _one_offset(header, offset))
        entries.sort(key=lambda entry: struct.unpack_from(header.order + "H", entry))
        first = _at_end(file)
        file.write(struct.pack(header.count, len(entries)) + b"".join(entries) + following)
        file.seek(8 if header.big else 4)
        file.write(struct.pack(header.offset, first))


def _header(file: IO[bytes]) -> Header:
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    big = 43 in start[2:4]
    return Header(order, big, struct.unpack_from(order + ("Q" if big else "I"), start, 8 if big else 4)[0])


def _directories(file: IO[bytes], header: Header, size: int) -> Iterator[tuple[int, list[bytes]]]:
    """Offset and raw entries of each directory of the chain; the file stands right behind the entries."""
    offset, seen = header.first, set[int]()
    while offset:
        if offset in seen:
            raise ValueError("its pages form a loop")
        seen.add(offset)
        width = struct.calcsize(header.count)
        if offset + width > size:
            raise ValueError(f"page {len(seen)} is missing")
        file.seek(offset)
        (count,) = struct.unpack(header.count, file.read(width))
        end = offset + width + count * header.entry
        if end + struct.calcsize(header.offset) > size:
            raise ValueError(f"page {len(seen)} is missing")
        entries = [file.read(header.entry) for _ in range(count)]
        yield offset, entries
        file.seek(end)
        (offset,) = struct.unpack(header.offset, file.read(struct.calcsize(header.offset)))


def _segments(file: IO[bytes], header: Header, entries: list[bytes]) -> Iterator[tuple[int, int]]:
    """Start and byte count of each strip or tile that a directory lists."""
    found = {struct.unpack_from(header.order + "H", entry)[0]: entry for entry in entries}
    for starts, counts in ((273, 279), (324, 325)):
        if starts in found and counts in found:
            yield from zip(_integers(file, header, found[starts]), _integers(file, header, found[counts]), strict=False)


def _integers(file: IO[bytes], header: Header, entry: bytes) -> tuple[int, ...]:
    kind = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(struct.unpack_from(header.order + "H", entry, 2)[0])
    (count,) = struct.unpack_from(header.offset, entry, 4)
    if kind is None:
        return ()
    length, place = count * struct.calcsize(kind), 4 + struct.calcsize(header.offset)
    if length <= header.entry - place:
        return struct.unpack_from(f"{header.order}{count}{kind}", entry, place)
    file.seek(struct.unpack_from(header.offset, entry, place)[0])
    return struct.unpack(f"{header.order}{count}{kind}", file.read(length))


def _loaded(exif: bytes) -> Any:
    from PIL import Image

    values = Image.Exif()
    try:
        values.load(exif)
    except (SyntaxError, struct.error):  # the pixels are worth more than a broken note about them
        return Image.Exif()
    return values


def _directory(exif: Any, code: int) -> dict[int, Any]:
    """The entries of a directory of `PIL.Image.Exif`, with the one that may hang below it."""
    values = {tag: _exact(value) for tag, value in exif.get_ifd(code).items()}
    if INTEROP_IFD in values:
        values[INTEROP_IFD] = dict(exif.get_ifd(INTEROP_IFD))
    return values


def _exact(value: Any) -> Any:
    """Text as the bytes it was read from, where Pillow would write question marks: it reads Latin-1, writes ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def _serialised(values: dict[int, Any], code: int, header: Header, offset: int) -> bytes:
    from PIL import TiffImagePlugin

    start = b"II+\0\x08" + bytes(11) if header.big else b"II*\0" + bytes(4)
    prefix = b"II" if header.order == "<" else b"MM"
    directory = TiffImagePlugin.ImageFileDirectory_v2(start, prefix, group=code)
    for tag, value in values.items():
        if not (header.big and tag == INTEROP_IFD):  # Pillow nests no directories in a BigTIFF
            directory[tag] = value
    return directory.tobytes(offset)


def _one_offset(header: Header, offset: int) -> bytes:
    if header.big:
        return struct.pack(header.order + "QQ", 1, offset)
    return struct.pack(header.order + "II", 1, offset)


def _at_end(file: IO[bytes]) -> int:
    """The end of the file, made even as TIFF asks."""
    end = file.seek(0, 2)
    if end % 2:
        file.write(b"\0")
    return end + end % 2
