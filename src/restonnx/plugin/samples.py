"""Images to try the plugin on: a noisy photograph, and a noisy stack as a microscope makes it."""

from __future__ import annotations

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


def photograph() -> list[tuple[Any, dict[str, Any], str]]:
    """The photograph that ships with restonnx, with Gaussian noise, (rows, columns, 3) uint8."""
    from PIL import Image

    from restonnx.library import SHIPPED

    with Image.open(SHIPPED / "demo_noisy.png") as picture:
        pixels = np.array(picture.convert("RGB"))
    return [(pixels, {"name": "noisy photograph", "rgb": True}, "image")]


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
