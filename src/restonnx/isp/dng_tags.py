"""The tags of a DNG (Adobe Digital Negative specification 1.7) or another file made of TIFF directories."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.isp.frame import Matrix, NoiseProfile

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"IIU\0", b"IIRO", b"IIRS")
"""TIFF, BigTIFF, Panasonic and Olympus."""
CFA, LINEAR_RAW = 32803, 34892
"""Values of PhotometricInterpretation."""
LOSSY_JPEG = 34892
"""A value of Compression, whose curve LibRaw has put on the pixels already."""
DAYLIGHT = (21, 20, 22, 23, 1, 10, 11, 4)
"""Values of CalibrationIlluminant, the nearest to D65 first."""

COLOUR_TAGS = frozenset(
    code
    for first, last in (
        (50721, 50730),
        (50734, 50734),
        (50739, 50739),
        (50778, 50779),
        (50931, 50942),
        (50964, 50965),
        (50981, 50982),
        (51107, 51110),
        (52525, 52525),
        (52529, 52544),
    )
    for code in range(first, last + 1)
)
"""What makes colours of the sensor's numbers: matrices, calibrations, neutral, baseline exposure, profiles."""
DESCRIPTION_TAGS = frozenset((50735, 50736, 50827, 50731, 50732))
LINEARIZATION_TABLE, OPCODES_ON_MOSAIC, OPCODES_ON_COLOURS, NOISE_PROFILE = 50712, 51009, 51022, 51041


@dataclass(frozen=True)
class Tag:
    """A directory's entry as tifffile reads and writes it."""

    code: int
    dtype: int
    count: int
    value: Any

    @property
    def is_valid(self) -> bool:
        """False for rationals with a denominator of 0, which some programs write for "unknown"."""
        return self.dtype not in (5, 10) or all(self.value[1::2])

    def extra(self) -> tuple[int, int, int, Any, bool]:
        """As an item of tifffile's `extratags`."""
        return self.code, self.dtype, self.count, self.value, True


@dataclass(frozen=True, eq=False)
class DngTags:
    """The first directory and the one with the sensor's data."""

    first: Mapping[int, Tag]
    raw: Mapping[int, Tag]

    def find(self, code: int) -> Tag | None:
        return self.raw.get(code) or self.first.get(code)

    @property
    def is_lossy(self) -> bool:
        return int(self.raw[259].value) == LOSSY_JPEG

    def to_copy(self, *, mosaic: bool) -> list[Tag]:
        """What still holds for the same picture as LibRaw decodes it, in a mosaic or demosaicked."""
        codes = COLOUR_TAGS | DESCRIPTION_TAGS | {OPCODES_ON_COLOURS}
        kept = [tag for code, tag in self.first.items() if code in codes]
        kept += [tag for code, tag in self.raw.items() if code in codes and code not in self.first]
        still_to_do = mosaic and not self.is_lossy  # lens shading, which LibRaw leaves to the reader
        if still_to_do and OPCODES_ON_MOSAIC in self.raw:
            kept.append(self.raw[OPCODES_ON_MOSAIC])
        return [tag for tag in kept if tag.is_valid]


def read(path: Path) -> DngTags | None:
    """None for files that are no DNG."""
    with _directories(path) as found:
        if found is None or 50706 not in found[0].tags:
            return None
        page = raw_page(found)
        return None if page is None else DngTags(tags_of(found[0]), tags_of(page))


def check_complete(path: Path) -> None:
    """Raise InputError where a directory of a DNG lists pixels beyond the end of the file.

    LibRaw fills up with black what is missing in some of these. It has the last word on other files, in whose
    directories makers write all sorts of things.
    """
    size = path.stat().st_size
    with _directories(path) as found:
        for page in found if found and 50706 in found[0].tags else []:
            places = zip(page.dataoffsets, page.databytecounts, strict=False)
            if any(start + count > size for start, count in places):
                raise InputError(f"{path} is damaged or cut off; copy it again from where it came from")


def raw_page(pages: list[Any]) -> Any:
    """The directory with the sensor's data in full, or None."""
    kinds = (CFA, LINEAR_RAW)
    data = [page for page in pages if _value(page, 262) in kinds and not int(_value(page, 254, 0)) & 1]
    return max(data, key=lambda page: page.imagelength * page.imagewidth, default=None)


def tags_of(page: Any) -> dict[int, Tag]:
    return {tag.code: Tag(tag.code, int(tag.dtype), tag.count, tag.value) for tag in page.tags}


def xyz_to_cam(tags: DngTags) -> Matrix | None:
    """The ColorMatrix of the illuminant that is nearest to daylight; None for one of another form."""
    found = [(tags.find(matrix), tags.find(light)) for matrix, light in ((50721, 50778), (50722, 50779))]
    lights = {n: light.value if light else 0 for n, (matrix, light) in enumerate(found) if matrix}
    if not lights:
        return None
    best = min(lights, key=lambda n: DAYLIGHT.index(lights[n]) if lights[n] in DAYLIGHT else len(DAYLIGHT) + n)
    matrix = found[best][0]
    return matrix_of(fractions(matrix)) if matrix is not None and matrix.count == 9 else None


def matrix_of(values: Any) -> Matrix | None:
    """Nine numbers row by row; None where they are no invertible matrix."""
    matrix = np.asarray(values, np.float64).reshape(3, 3)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        return None
    first, second, third = ((float(r), float(g), float(b)) for r, g, b in matrix)
    return first, second, third


def noise_profile(tags: DngTags, colours: int) -> NoiseProfile | None:
    """What the tag NoiseProfile says, one pair for all colours or one for each; None without a valid one.

    colours: 3, or 1 for monochrome sensors.
    """
    tag = tags.find(NOISE_PROFILE)
    values = () if tag is None else tuple(float(v) for v in np.atleast_1d(tag.value))
    pairs = [(values[n], values[n + 1]) for n in range(0, len(values) - 1, 2)]
    if len(pairs) not in (1, 3, 4):
        return None
    chosen = [pairs[0]] * colours if len(pairs) == 1 else pairs[:colours]
    try:
        return NoiseProfile(tuple(a for a, _ in chosen), tuple(b for _, b in chosen), "DNG")
    except InputError:  # zeros, where the camera has nothing to say
        return None


def fractions(tag: Tag) -> list[float]:
    """The values of a tag of rationals."""
    values = [int(v) for v in tag.value]
    return [top / bottom if bottom else 0.0 for top, bottom in zip(values[::2], values[1::2], strict=True)]


@contextlib.contextmanager
def _directories(path: Path) -> Iterator[list[Any] | None]:
    """All directories with pixels, those below others too; None for a file without or with damaged ones."""
    import tifffile

    with path.open("rb") as file:
        start = file.read(4)
    with contextlib.ExitStack() as stack:
        found: list[Any] | None = None
        if start in SIGNATURES[:4]:
            try:
                tiff = stack.enter_context(tifffile.TiffFile(path))
                found = [page for top in tiff.pages for page in (top, *(top.pages or ()))]
                found = [page for page in found if hasattr(page, "tags")]
            except (ValueError, LookupError, TypeError, OSError, RuntimeError):
                found = None  # makers build odd directories; LibRaw has the last word
        yield found or None


def _value(page: Any, code: int, default: Any = None) -> Any:
    tag = page.tags.get(code)
    return default if tag is None else tag.value
