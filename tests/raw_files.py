"""Small RAW files made on the spot: Bayer in every phase, X-Trans, monochrome and linear DNGs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.isp import Frame, FrameMeta, Stage

BAYER = {
    "RGGB": ((0, 1), (1, 2)),
    "BGGR": ((2, 1), (1, 0)),
    "GRBG": ((1, 0), (2, 1)),
    "GBRG": ((1, 2), (0, 1)),
}
X_TRANS = (
    (1, 1, 0, 1, 1, 2),
    (1, 1, 2, 1, 1, 0),
    (2, 0, 1, 0, 2, 1),
    (1, 1, 2, 1, 1, 0),
    (1, 1, 0, 1, 1, 2),
    (0, 2, 1, 2, 0, 1),
)
MATRIX = (0.6461, -0.1164, -0.0857, -0.3825, 1.1597, 0.2534, -0.0416, 0.1540, 0.6039)
NEUTRAL = (0.4, 1.0, 0.6)
BLACK, WHITE = 256, 4095
SHAPE = (70, 92)


def dng(
    path: Path,
    pixels: Any,
    pattern: Any = None,
    *,
    black: Any = BLACK,
    white: int = WHITE,
    area: tuple[int, int, int, int] | None = None,
    noise: tuple[float, ...] | None = None,
    orientation: int = 1,
    compression: Any = None,
    extra: tuple[Any, ...] = (),
) -> Path:
    """Write uint16 `pixels`, (H, W) with a pattern or of a monochrome sensor, (H, W, 3) linear.

    black: one level, or four for the places of a Bayer pattern.  area: top, left, bottom, right inside the masked
    border.  noise: pairs for the tag NoiseProfile.
    """
    import tifffile

    linear = pixels.ndim == 3
    tags: list[Any] = [
        (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50707, 1, 4, bytes((1, 2, 0, 0)), True),
        (50708, 2, 0, "Testcam One", True),
        (271, 2, 0, "Testcam", True),
        (272, 2, 0, "One", True),
        (274, 3, 1, orientation, True),
    ]
    if pattern is not None or linear:
        tags.append((50721, 10, 9, tuple(n for v in MATRIX for n in (round(v * 10000), 10000)), True))
        tags.append((50778, 3, 1, 21, True))
        tags.append((50728, 5, 3, tuple(n for v in NEUTRAL for n in (round(v * 1000), 1000)), True))
    if pattern is not None:
        flat = [colour for row in pattern for colour in row]
        tags.append((33421, 3, 2, (len(pattern), len(pattern[0])), True))
        tags.append((33422, 1, len(flat), bytes(flat), True))
    levels = tuple(int(level) for level in np.ravel(black)) * (3 if linear else 1)
    tags.append((50713, 3, 2, (2, 2) if len(levels) == 4 else (1, 1), True))
    tags.append((50714, 3, len(levels), levels if len(levels) > 1 else levels[0], True))
    tags.append((50717, 4, 3 if linear else 1, (white,) * 3 if linear else white, True))
    if area is not None:
        tags.append((50829, 4, 4, area, True))
    if noise is not None:
        tags.append((51041, 12, len(noise), noise, True))
    mono = pattern is None and not linear
    kind: Any = "minisblack" if mono else 34892 if linear else 32803
    tifffile.imwrite(
        path,
        pixels,
        photometric=kind,
        extratags=[*tags, *extra],
        metadata=None,
        compression=compression,
        software=False,
    )
    if mono:
        with tifffile.TiffFile(path) as tiff:
            place = tiff.pages[0].tags[262].valueoffset
        with path.open("r+b") as file:
            file.seek(place)
            file.write(struct.pack("<H", 34892))
    return path


def with_exif(path: Path) -> Path:
    """Give a DNG what a camera notes: ISO 800, 1/50 s, f/4, the lens, the place."""
    from PIL import Image, TiffImagePlugin

    from restonnx.images import tiff_ifd

    values, exact = Image.Exif(), TiffImagePlugin.IFDRational
    camera = {0x8827: 800, 0x829A: exact(1, 50), 0x829D: exact(4, 1), 0xA434: "Testlens 50mm"}
    values.get_ifd(0x8769).update(camera)
    values.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 30.5)})
    tiff_ifd.append_exif(path, values.tobytes().removeprefix(b"Exif\0\0"))
    return path


def shape_of(kind: str, small: tuple[int, int] = SHAPE) -> tuple[int, ...]:
    """Of a test file: LibRaw demosaics X-Trans from some 512 pixels on."""
    return {"X-Trans": (530, 526), "linear": (*small, 3)}.get(kind, small)


def numbers(shape: tuple[int, ...] = SHAPE, *, bits: int = 12, seed: int = 0) -> Any:
    """Random sensor values that reach black and white, smooth enough that demosaicking has something to do."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    scene = 0.5 + 0.45 * np.sin(rows / 9.0) * np.cos(cols / 7.0)
    scene = scene if len(shape) == 2 else np.stack([scene * gain for gain in (0.5, 1.0, 0.7)], axis=-1)
    noisy = scene * 2**bits + rng.normal(0, 2**bits / 100, shape)
    noisy.flat[:2] = 0, 2**bits
    return np.clip(noisy, 0, 2**bits - 1).astype(np.uint16)


def photograph(height: int = 512, width: int = 512, *, seed: int = 0) -> Any:
    """(H, W, 3) float32 linear light from 0 to 0.85: soft shapes with edges above a dark floor, not white balanced."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    image = np.stack([0.25 + 0.2 * np.sin(rows / 70 + n) * np.cos(cols / (50 + 5 * n)) for n in range(3)], axis=-1)
    for _ in range(12):
        tall, wide = rng.integers(height // 16, height // 3), rng.integers(width // 16, width // 3)
        top, left = rng.integers(0, height - tall), rng.integers(0, width - wide)
        image[top : top + tall, left : left + wide] = rng.uniform(0.01, 0.85, 3)
    image[-height // 5 :] *= 0.01
    return image.astype(np.float32).clip(0, 0.85)


def mosaic_of(image: Any, pattern: Any) -> Any:
    """(H, W): of each pixel the colour that its filter lets through."""
    colours = np.array(pattern)
    height, width = image.shape[:2]
    tiled = np.tile(colours, (-(-height // len(colours)), -(-width // len(colours))))[:height, :width]
    return np.take_along_axis(image, tiled[..., None], axis=-1)[..., 0]


def with_noise(image: Any, a: float, b: float, seed: int = 1) -> Any:
    """Gaussian noise of variance a x + b."""
    noise = np.random.default_rng(seed).standard_normal(image.shape)
    return (image + noise * np.sqrt(a * np.maximum(image, 0) + b)).astype(np.float32)


def frame(image: Any, pattern: Any = None, **fields: Any) -> Frame:
    """A frame of the domain cfa with a pattern, else of camera_rgb."""
    return Frame(image.astype(np.float32), FrameMeta("camera_rgb" if pattern is None else "cfa", pattern, **fields))


class Changed:
    """A stage that multiplies by a gain; by default one that changes nothing."""

    name = "changed"

    def __init__(self, domain: Any = "cfa", gain: float = 1.0, scale: int = 1) -> None:
        self.domain, self.gain, self.scale = domain, gain, scale
        self.seen: list[Any] = []

    def __call__(self, image: Any, *, meta: FrameMeta, progress: Any = None, **options: Any) -> Any:
        self.seen.append((image, meta, options))
        if progress is not None:
            progress(1, 1)
        large = image.repeat(self.scale, 0).repeat(self.scale, 1)
        return (large * np.float32(self.gain)).astype(np.float32)


IS_STAGE: type[Stage] = Changed


def libraw_render(path: Path, **options: Any) -> Any:
    """What rawpy alone makes of a file, with the settings that `develop` promises."""
    import rawpy

    fixed = {"use_camera_wb": True, "no_auto_bright": True, "adjust_maximum_thr": 0.0, "output_bps": 16}
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(**{**fixed, "gamma": (2.4, 12.92), **options})


def libraw_numbers(path: Path) -> Any:
    """The sensor's data as LibRaw decodes them, masked border included."""
    import rawpy

    with rawpy.imread(str(path)) as raw:
        return raw.raw_image.copy()
