"""Images to try the plugin on: a noisy photograph, a noisy RAW file, and a noisy stack as a microscope makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

PLANES, SIDE = 12, 320
ELECTRONS = 60.0
"""In the brightest pixel of the stack."""
READ_NOISE = 2.0
"""Standard deviation in electrons."""
OFFSET, GAIN = 100.0, 12.0
"""Of the camera, in counts and in counts per electron."""

BALANCE = (2.1, 1.0, 1.6)
"""Gains of red, green and blue, by which daylight becomes white."""
BLACK, WHITE = 512, 16383
"""Levels of the RAW file."""
PHOTON, FLOOR = 2.5e-3, 1e-5
"""Its noise: the variance of a value x, with 0 black and 1 saturation, is PHOTON x + FLOOR."""
ISO, SECONDS = 6400, (1, 60)


def photograph() -> list[tuple[Any, dict[str, Any], str]]:
    """The photograph that comes with restonnx, with a camera's noise, (rows, columns, 3) uint8."""
    from restonnx import photograph

    return [(photograph.noisy(), {"name": "noisy photograph", "rgb": True}, "image")]


def raw() -> list[tuple[Any, dict[str, Any], str]]:
    """The same photograph in a Bayer DNG, as a small camera would have taken it in little light.

    The file is written anew into the user's cache, where it stays for `restonnx develop`, and opened as any other.
    Raises InputError where it cannot be written.
    """
    from restonnx.plugin.reader import developed

    pixels, about, kind = developed(str(raw_file()))
    return [(pixels, {"name": "noisy RAW file", **about}, kind)]


def raw_file() -> Path:
    """Write the sample's DNG. -> where it lies."""
    import platformdirs

    from restonnx.files import explained, replaced
    from restonnx.isp import dng

    path = Path(platformdirs.user_cache_dir("restonnx", appauthor=False)) / "noisy-photograph.dng"
    with explained(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, overwrite=True) as temporary:
            dng.write(temporary, _negative())
    return path


def micrograph() -> list[tuple[Any, dict[str, Any], str]]:
    """A drawn stack of cells with nuclei, fibres and spots, (planes, rows, columns) uint16, as a camera with Poisson
    noise and read noise sees it; 0.5 by 0.1 by 0.1 micrometres."""
    random = np.random.default_rng(7)
    photons = random.poisson(ELECTRONS * _cells(random)) + random.normal(0, READ_NOISE, (PLANES, SIDE, SIDE))
    counts = np.clip(np.rint(OFFSET + GAIN * photons), 0, 65535).astype(np.uint16)
    about = {
        "name": "noisy micrograph",
        "scale": (0.5, 0.1, 0.1),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
        "colormap": "gray",
        "contrast_limits": (OFFSET - GAIN * READ_NOISE, OFFSET + GAIN * ELECTRONS),
    }
    return [(counts, about, "image")]


def _negative() -> Any:
    """Mosaic and tags of the RAW sample."""
    from PIL import Image, TiffImagePlugin

    from restonnx import photograph
    from restonnx.isp import FrameMeta, NoiseProfile, cfa, colors, dng

    shown = photograph.clean()
    meta = FrameMeta("cfa", cfa=((0, 1), (1, 2)), black=(BLACK,), white=(WHITE,), wb=BALANCE)
    light: Any = colors.decode(np.float32(1 / 255) * shown.astype(np.float32))
    sensor = light / np.array(BALANCE, np.float32)
    mosaic = np.empty(shown.shape[:2], np.float32)
    assert meta.cfa is not None
    for colour, where in cfa.sites(meta.cfa):
        mosaic[where] = sensor[..., colour][where]
    random = np.random.default_rng(5)
    noisy = mosaic + random.standard_normal(mosaic.shape) * np.sqrt(PHOTON * mosaic + FLOOR)
    counts = np.clip(np.rint(noisy * (WHITE - BLACK) + BLACK), 0, WHITE).astype(np.uint16)
    exif = Image.Exif()
    exif[271], exif[272] = "restonnx", "drawn camera"
    exif[0x8769] = {0x8827: ISO, 0x829A: TiffImagePlugin.IFDRational(*SECONDS)}
    return dng.Negative(
        counts,
        meta,
        white=WHITE,
        noise=NoiseProfile((PHOTON,) * 3, (FLOOR,) * 3),
        preview=shown,
        exif=exif.tobytes().removeprefix(b"Exif\0\0"),
    )


def _cells(random: np.random.Generator) -> Floats:
    """What there is to see, from 0 to 1."""
    z, y, x = np.meshgrid(np.arange(PLANES) * 5.0, np.arange(SIDE), np.arange(SIDE), indexing="ij", sparse=True)
    seen = np.full((PLANES, SIDE, SIDE), 0.03)
    for _ in range(14):
        cz, cy, cx = random.uniform((10, 0, 0), (PLANES * 5 - 10, SIDE, SIDE))
        wide, tall, turn = random.uniform(14, 26), random.uniform(10, 18), random.uniform(0, np.pi)
        u = (y - cy) * np.cos(turn) + (x - cx) * np.sin(turn)
        v = (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
        radius = np.sqrt((u / wide) ** 2 + (v / tall) ** 2 + ((z - cz) / 14) ** 2)
        texture = 1 + 0.35 * np.sin(u / 2.3 + cz) * np.sin(v / 2.9 + cy)
        seen += 0.35 * texture / (1 + np.exp((radius - 1) * 14))
    for _ in range(22):
        cz, cy, cx = random.uniform((5, 0, 0), (PLANES * 5 - 5, SIDE, SIDE))
        turn, bend = random.uniform(0, np.pi), random.uniform(-0.002, 0.002)
        along = (y - cy) * np.cos(turn) + (x - cx) * np.sin(turn)
        off = (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn) - bend * along**2
        seen += 0.5 * np.exp(-(off**2) / 3 - ((z - cz) / 6) ** 2 - (along / 90) ** 4)
    for _ in range(160):
        cz, cy, cx = random.uniform((0, 0, 0), (PLANES * 5, SIDE, SIDE))
        rows, cols = (slice(max(0, int(c) - 8), int(c) + 9) for c in (cy, cx))
        spot = np.exp(-((y[:, rows] - cy) ** 2 + (x[:, :, cols] - cx) ** 2) / 4 - ((z - cz) / 5) ** 2)
        seen[:, rows, cols] += random.uniform(0.3, 0.9) * spot
    clipped: Floats = np.clip(seen, 0, 1)
    return clipped
