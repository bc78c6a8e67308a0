"""A camera image between sensor and screen: float32 pixels, and what must be known to go on with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from restonnx.errors import InputError

Floats = np.ndarray[Any, np.dtype[np.float32]]
Domain = Literal["cfa", "camera_rgb", "linear_rgb", "display_rgb"]
Pattern = tuple[tuple[int, ...], ...]
Matrix = tuple[tuple[float, float, float], ...]
Area = tuple[int, int, int, int]

DOMAINS: tuple[Domain, ...] = ("cfa", "camera_rgb", "linear_rgb", "display_rgb")
"""In the order of a pipeline."""
COLOURS = "RGB"
MONOCHROME: Pattern = ((1,),)
"""The pattern of a sensor without colour filters."""
SATURATED = 0.99
"""From this share of saturation on a pixel tells nothing but that it is bright; restoring it would invent."""


@dataclass(frozen=True)
class NoiseProfile:
    """Poisson-Gaussian noise: the variance of a value of expectation x is a x + b, with 0 black and 1 saturation.

    It is what the DNG tag NoiseProfile calls S and O.
    """

    a: tuple[float, ...]
    """Of red, green and blue, or of the one colour of a monochrome sensor: photon noise."""
    b: tuple[float, ...]
    """The same of the noise that is there without light."""
    source: str = "given"
    """Where the numbers come from: "DNG", "estimate", "table" or "given"."""

    def __post_init__(self) -> None:
        values = (*self.a, *self.b)
        if len(self.a) != len(self.b) or len(self.a) not in (1, 3):
            raise InputError(
                f"a noise profile has one or three pairs (a, b), not {len(self.a)} and {len(self.b)} values"
            )
        if not all(math.isfinite(value) and value >= 0 for value in values) or max(values) <= 0:
            raise InputError(f"a noise profile has values of at least 0, not all 0: a {self.a}, b {self.b} are refused")

    def of(self, colour: int) -> tuple[float, float]:
        """(a, b) of a colour, 0 red, 1 green, 2 blue."""
        index = colour if len(self.a) == 3 else 0
        return self.a[index], self.b[index]


@dataclass(frozen=True)
class FrameMeta:
    """What is known of a frame. Immutable: `dataclasses.replace` makes another one."""

    domain: Domain
    """cfa: the sensor's mosaic; camera_rgb: the sensor's colours, linear, not balanced; linear_rgb: linear light in
    `color_space`, white balance on; display_rgb: the same after the transfer function, for screens."""
    cfa: Pattern | None = None
    """Colours of one period of the mosaic, 0 red, 1 green, 2 blue, beginning at image[0, 0]: 2x2 for Bayer, 6x6 for
    X-Trans, ((1,),) for monochrome sensors; None for colour images."""
    black: tuple[float, ...] = (0.0,)
    """In the file's numbers, of each place of the pattern row by row, or of each channel; one value goes for all."""
    white: tuple[float, ...] = (65535.0,)
    """The same for saturation."""
    wb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue as shot, that of green being 1."""
    wb_applied: bool = False
    xyz_to_cam: Matrix | None = None
    """From CIE XYZ to the camera's colours at daylight (D65), as DNG's ColorMatrix; None where it is not known."""
    color_space: str = "camera"
    """camera, srgb, display-p3, rec2020 or prophoto."""
    transfer: str = "linear"
    """linear, or the color space whose transfer function is on the values."""
    noise: NoiseProfile | None = None
    """Of these pixels; None where it is not known, and then estimated when it is needed."""
    iso: float | None = None
    exposure_time: float | None = None
    """In seconds."""
    orientation: int = 1
    """EXIF's; it is not applied to the pixels."""
    active_area: Area | None = None
    """Top, left, bottom, right of the image in the sensor's full array, whose masked border it leaves out."""
    camera: str | None = None
    """Make and model."""
    source: str | None = None
    """The file that it was read from."""

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise InputError(f"a frame's domain is one of {', '.join(DOMAINS)}, not {self.domain!r}")
        if (self.cfa is not None) != (self.domain == "cfa"):
            raise InputError("a frame of the domain cfa needs its pattern, and no other has one")
        if self.cfa is not None:
            _check_pattern(self.cfa)

    @property
    def is_monochrome(self) -> bool:
        return self.cfa == MONOCHROME

    @property
    def is_bayer(self) -> bool:
        return self.cfa is not None and len(self.cfa) == len(self.cfa[0]) == 2


class Frame(NamedTuple):
    """Pixels with their meaning."""

    image: Floats
    """float32, (rows, columns) in the domain cfa, else (rows, columns, 3). In linear domains 0 is black and 1 is
    saturation before white balance; noise below 0 and light above 1 are kept."""
    meta: FrameMeta


def checked(frame: Frame) -> Frame:
    """The frame as C-contiguous float32. Raises InputError where the pixels do not fit their domain."""
    image, meta = np.asarray(frame.image), frame.meta
    wanted = "(rows, columns)" if meta.domain == "cfa" else "(rows, columns, 3)"
    fits = image.ndim == 2 if meta.domain == "cfa" else image.ndim == 3 and image.shape[-1] == 3
    if not fits or 0 in image.shape or image.dtype.kind not in "f":
        raise InputError(f"a frame of {meta.domain} holds floats {wanted}, not {image.dtype} {image.shape}")
    if not np.isfinite(image).all():
        raise InputError("the frame holds values that are not finite; replace them first (numpy.nan_to_num)")
    return Frame(np.ascontiguousarray(image, np.float32), meta)


def pattern_name(pattern: Pattern | None) -> str:
    """Such as "RGGB", "X-Trans", "monochrome", "linear"."""
    if pattern is None:
        return "linear"
    if pattern == MONOCHROME:
        return "monochrome"
    return "X-Trans" if len(pattern) == 6 else "".join(COLOURS[c] for row in pattern for c in row)


def pattern_of(name: str | Pattern) -> Pattern:
    """The Bayer pattern of a name such as "RGGB", in any case; a pattern itself is only checked."""
    if not isinstance(name, str):
        _check_pattern(name)
        return tuple(tuple(int(c) for c in row) for row in name)
    letters = name.upper()
    if sorted(letters) != list("BGGR"):
        raise InputError(f'a Bayer pattern is one of "RGGB", "BGGR", "GRBG" and "GBRG", not {name!r}')
    indices = [COLOURS.index(letter) for letter in letters]
    pattern = (tuple(indices[:2]), tuple(indices[2:]))
    _check_pattern(pattern)
    return pattern


def _check_pattern(pattern: Pattern) -> None:
    shape = np.shape(pattern)
    if shape == (1, 1):
        return
    flat = [colour for row in pattern for colour in row]
    if shape not in ((2, 2), (6, 6)) or set(flat) != {0, 1, 2}:
        raise InputError(
            f"a mosaic has a period of 2x2 or 6x6 with all of 0, 1 and 2 (red, green, blue), not {pattern}"
        )
    if shape == (2, 2) and (1, 1) not in ((flat[0], flat[3]), (flat[1], flat[2])):
        raise InputError(f"a Bayer pattern has green on a diagonal, not {pattern}")
