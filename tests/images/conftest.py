"""What pictures come with: noise as pixels, a colour profile, a camera's EXIF, an XMP packet."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageCms

from restonnx.images import Picture, Resolution

Noise = Callable[..., np.ndarray]


@pytest.fixture
def noise() -> Noise:
    """noise(*shape, dtype): the full range of the dtype, [0, 1) for floats."""

    def make(*shape: int, dtype: str = "uint8") -> np.ndarray:
        rng = np.random.default_rng(sum(shape))
        if np.dtype(dtype).kind == "f":
            return rng.random(shape).astype(dtype)
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)

    return make


@pytest.fixture(scope="session")
def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="session")
def exif() -> bytes:
    """Make, model, orientation, exposure, an opaque note and a place, as a TIFF stream."""
    tags = Image.Exif()
    tags[271], tags[272], tags[274], tags[315] = "Maker", "Model 7", 6, "Ansel Ångström".encode()
    tags.get_ifd(0x8769).update({0x829A: 0.01, 0x9003: "2024:05:06 07:08:09", 0x9286: b"ASCII\0\0\0note"})
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 30.5)})
    return tags.tobytes().removeprefix(b"Exif\0\0")


@pytest.fixture(scope="session")
def xmp() -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rating>5</rating></x:xmpmeta>'


@pytest.fixture
def rich(noise: Noise, icc: bytes, exif: bytes, xmp: bytes) -> Picture:
    """An RGB picture of 24x30 pixels with alpha, profile, EXIF, XMP and 300 pixels per inch."""
    samples = noise(24, 30, 4)
    resolution = Resolution(Fraction(300), Fraction(300), "inch")
    return Picture(samples[..., :3], "YXS", samples[..., 3], icc=icc, exif=exif, xmp=xmp, resolution=resolution)
