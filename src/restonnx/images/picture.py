"""A picture in memory: the pixels and everything of its file that must outlive their restoration."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from restonnx.errors import InputError

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit along x and y."""

    x: Fraction
    y: Fraction
    unit: Literal["inch", "centimeter", "none"]

    def per(self, unit: Literal["inch", "meter"]) -> tuple[Fraction, Fraction] | None:
        """Pixels per inch or metre along x and y; None where the unit is not known."""
        if self.unit == "none":
            return None
        meter = Fraction(100) if self.unit == "centimeter" else Fraction(10000, 254)
        factor = meter if unit == "meter" else meter * Fraction(254, 10000)
        return self.x * factor, self.y * factor


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels with what their file says about them. Replace `pixels` and write it again: the rest follows."""

    pixels: Pixels
    """In `axes`, without alpha. May be read-only and mapped to the file."""
    axes: str
    """One letter per axis of `pixels`. S, the last axis of most, is red, green and blue."""
    alpha: Pixels | None = None
    """`pixels` without its colour axis, of the size and dtype that it was read with."""
    premultiplied: bool = False
    """The colours are multiplied by alpha already (TIFF's "associated" alpha)."""
    icc: bytes | None = None
    """The ICC profile."""
    exif: bytes | None = None
    """EXIF as a TIFF stream, without the "Exif" marker that JPEG puts before it."""
    xmp: bytes | None = None
    """The XMP packet."""
    resolution: Resolution | None = None
    """For pixels of `size`; pixels of another size are written with the one that keeps the image as wide."""
    size: tuple[int, int] | None = None
    """Height and width that alpha and resolution belong to: those of `pixels` unless given."""
    native: object = None
    """What only the format it was read from can hold; ignored when it is written in another."""

    def __post_init__(self) -> None:
        if len(self.axes) != self.pixels.ndim or not {"Y", "X"} <= set(self.axes):
            raise InputError(f'axes "{self.axes}" do not fit pixels of shape {self.pixels.shape}; name every axis once')
        if self.size is None:
            object.__setattr__(self, "size", (self.height, self.width))

    @property
    def height(self) -> int:
        return int(self.pixels.shape[self.axes.index("Y")])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[self.axes.index("X")])

    @property
    def zoom(self) -> tuple[Fraction, Fraction]:
        """How many times higher and wider the pixels are than the file they came from."""
        height, width = self.size or (self.height, self.width)
        return Fraction(self.height, height), Fraction(self.width, width)

    @property
    def color_axis(self) -> int | None:
        """Where the colour samples stand: the S axis, or a last axis C of at most 4."""
        if "S" in self.axes:
            return self.axes.index("S")
        return len(self.axes) - 1 if self.axes[-1] == "C" and self.pixels.shape[-1] <= 4 else None

    def fitted_resolution(self) -> Resolution | None:
        """The resolution of the pixels as they are now."""
        if self.resolution is None:
            return None
        tall, wide = self.zoom
        return Resolution(self.resolution.x * wide, self.resolution.y * tall, self.resolution.unit)

    def with_alpha(self) -> tuple[Pixels, str]:
        """Pixels and alpha in one array whose last axis holds the samples, and its axes (grey: no S).

        Alpha takes the size of the pixels (nearest neighbour) and their dtype (full scale stays full scale).
        """
        pixels, axes = np.asarray(self.pixels), self.axes
        if self.color_axis is not None:
            pixels, axes = (
                np.moveaxis(pixels, self.color_axis, -1),
                axes.replace(axes[self.color_axis], "") + "S",
            )
        if self.alpha is None:
            return pixels, axes
        plane = axes.removesuffix("S")
        alpha = np.asarray(self.alpha)
        for letter in "YX":
            axis = plane.index(letter)
            new, old = pixels.shape[axis], alpha.shape[axis]
            if new != old:
                alpha = alpha.take(np.arange(new) * old // new, axis=axis)
        samples = pixels if axes.endswith("S") else pixels[..., None]
        return np.concatenate([samples, to_depth(alpha, pixels.dtype)[..., None]], axis=-1), plane + "S"


def to_depth(values: Pixels, dtype: npt.DTypeLike) -> Pixels:
    """Scale unsigned integers to another width, full scale to full scale, rounded.

    Floats are taken as [0, 1] and clipped where integers are wanted.
    """
    old, new = values.dtype, np.dtype(dtype)
    if old == new or (old.kind == "f" and new.kind == "f"):
        return values.astype(new, copy=False)
    if old == np.uint16 and new == np.uint8:  # without floats, which need twice the memory
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(new)
    if old == np.uint8 and new == np.uint16:
        return values.astype(new) * new.type(257)
    narrow = all(dtype.kind == "f" or dtype.itemsize <= 2 for dtype in (old, new))
    unit: Pixels = values.astype(np.float32 if narrow else np.float64)
    unit = unit if old.kind == "f" else np.divide(unit, np.iinfo(old).max)
    if new.kind == "f":
        return unit.astype(new)
    full: Pixels = np.rint(np.clip(unit, 0, 1) * np.iinfo(new).max)
    return full.astype(new)
