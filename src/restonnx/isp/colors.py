"""Colour spaces: their primaries, their transfer functions, and the way from a camera's colours to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.isp.frame import Floats, FrameMeta, Matrix

Doubles = np.ndarray[Any, np.dtype[np.float64]]

D65 = (0.3127, 0.3290)
D50 = (0.3457, 0.3585)
XYZ_OF_D50 = (0.9642, 1.0, 0.8249)
"""The white of ICC's connection space."""
BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
"""Cone responses of the chromatic adaptation that ICC profiles use (ICC.1, annex E)."""


@dataclass(frozen=True)
class ColorSpace:
    """An RGB space of a screen or a file. Transfer: y = (1 + offset) x^(1/gamma) - offset, and slope x near black."""

    title: str
    primaries: tuple[tuple[float, float], ...]
    """x, y of red, green and blue."""
    white: tuple[float, float]
    libraw: str
    """Name in rawpy.ColorSpace."""
    libraw_gamma: tuple[float, float]
    """Inverse power and slope near black, as LibRaw's option gamma takes them."""
    gamma: float
    offset: float = 0.0
    slope: float = 0.0
    threshold: float = 0.0
    """Linear light below which the slope holds."""


SPACES = {
    "srgb": ColorSpace(
        "sRGB", ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), D65, "sRGB", (2.4, 12.92), 2.4, 0.055, 12.92, 0.0031308
    ),
    "display-p3": ColorSpace(
        "Display P3",
        ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
        D65,
        "P3D65",
        (2.4, 12.92),
        2.4,
        0.055,
        12.92,
        0.0031308,
    ),
    "rec2020": ColorSpace(
        "Rec. 2020",
        ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
        D65,
        "Rec2020",
        (1 / 0.45, 4.5),
        1 / 0.45,
        0.09929682680944,
        4.5,
        0.018053968510807,
    ),
    "prophoto": ColorSpace(
        "ProPhoto RGB",
        ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
        D50,
        "ProPhoto",
        (1.8, 0.0),
        1.8,
    ),
}
"""sRGB: IEC 61966-2-1; Display P3: SMPTE EG 432-1 with sRGB's transfer; Rec. 2020: ITU-R BT.2020; ProPhoto: ISO 22028-2
without its linear toe, as most programs write it."""


def space(name: str) -> ColorSpace:
    if name not in SPACES:
        raise InputError(f"the color space is one of {', '.join(SPACES)}, not {name!r}")
    return SPACES[name]


def encode(linear: Floats, name: str = "srgb") -> Floats:
    """Linear light to display values. Odd around 0 and not cut at 1, so that `decode` gives everything back."""
    form, size = space(name), np.abs(linear)
    root = (1 + form.offset) * np.power(size, np.float32(1 / form.gamma)) - form.offset
    return np.copysign(np.where(size <= form.threshold, form.slope * size, root), linear).astype(np.float32)


def decode(display: Floats, name: str = "srgb") -> Floats:
    """The inverse of `encode`."""
    form, size = space(name), np.abs(display)
    power = np.power((size + form.offset) / (1 + form.offset), np.float32(form.gamma))
    if form.slope:
        power = np.where(size <= form.slope * form.threshold, size / form.slope, power)
    return np.copysign(power, display).astype(np.float32)


def to_xyz(name: str) -> Doubles:
    """(3, 3): linear RGB of a space to CIE XYZ, its white at Y = 1."""
    form = space(name)
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in form.primaries]).T
    x, y = form.white
    sums = np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y]))
    matrix: Doubles = columns * sums
    return matrix


def adapted(matrix: Doubles, white: Doubles, to: Doubles) -> Doubles:
    """A matrix to XYZ whose white becomes that of another illuminant."""
    cones = np.array(BRADFORD)
    gains = (cones @ to) / (cones @ white)
    result: Doubles = np.linalg.inv(cones) @ np.diag(gains) @ cones @ matrix
    return result


def camera_to_srgb(xyz_to_cam: Matrix | None) -> Doubles:
    """(3, 3) for balanced camera colours, white onto white; the identity where nothing is known of the camera.

    As dcraw and LibRaw do it: the camera's answer to sRGB's primaries, each row scaled to a sum of 1, inverted.
    """
    if xyz_to_cam is None:
        return np.eye(3)
    answer = np.array(xyz_to_cam, np.float64) @ to_xyz("srgb")
    matrix: Doubles = np.linalg.inv(answer / answer.sum(axis=1, keepdims=True))
    return matrix


def camera_matrix(meta: FrameMeta) -> Doubles:
    """(3, 3): the sensor's colours, not yet balanced, to linear sRGB."""
    gains = np.ones(3) if meta.wb_applied else np.array(meta.wb)
    matrix: Doubles = camera_to_srgb(meta.xyz_to_cam) * gains
    return matrix


def icc_profile(name: str) -> bytes:
    """The ICC profile of a space."""
    from restonnx.images import icc

    form = space(name)
    x, y = form.white
    white = np.array([x / y, 1.0, (1 - x - y) / y])
    columns = adapted(to_xyz(name), white, np.array(XYZ_OF_D50)).T
    curve = (form.gamma, form.offset, form.slope, form.threshold)
    return icc.matrix_profile(form.title, [[float(value) for value in column] for column in columns], curve)
