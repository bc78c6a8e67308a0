"""What a model that generates makes of noise: 32 patches beside as many pieces of photographs, and how they compare.

    python benchmarks/generated.py generate --data PHOTOGRAPHS

Writes docs/images/generated.webp, patches of seeds 0 to 31 on the left and pieces on the right, and of both
to results/generated.json the means of luma, its standard deviation within a piece, the distance from grey, and the
power of luma in octaves of frequency, beside those of uncorrelated noise of a standard deviation of 0.1.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from results import write

from restonnx import Restorer
from restonnx.images import Picture
from restonnx.images import write as write_image
from restonnx.training.evaluation.samples import Floats, read_unit, to_file

SIDE, COLUMNS, ROWS, GAP = 64, 4, 8, 24
"""Of a patch in pixels; of either half of the sheet in patches; white between the halves."""
OCTAVES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Bounds in cycles per pixel."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="photographs, of which none was trained on")
    options = parser.parse_args()
    restorer, count = Restorer(options.model), COLUMNS * ROWS
    blank = np.zeros((SIDE, SIDE, 3), np.float32)
    made = np.stack([restorer(blank, seed=seed) for seed in range(count)]).clip(0, 1)
    found, random = pieces(options.data, count), np.random.default_rng(0)
    noise = (0.5 + 0.1 * random.standard_normal((count, SIDE, SIDE, 1))).astype(np.float32).repeat(3, axis=3)
    content = {"model": restorer.metadata.name, "version": restorer.metadata.version, "side": SIDE, "count": count}
    compared = {"patches": facts_of(made), "photographs": facts_of(found), "noise": facts_of(noise)}
    for name, values in compared.items():
        print(name, values)
    write("generated", content | {"octaves": OCTAVES, "data": options.data.name} | compared)
    white = np.ones((ROWS * SIDE, GAP, 3), np.float32)
    path = Path(__file__).parents[1] / "docs" / "images" / "generated.webp"
    picture = np.concatenate([sheet(made), white, sheet(found)], axis=1)
    write_image(path, Picture(to_file(picture), "YXC"), overwrite=True, quality=80)
    print(f"written: {path}")


def pieces(folder: Path, count: int) -> Floats:
    """(count, SIDE, SIDE, 3) in [0, 1]: one of each of `count` photographs, evenly taken, from a random place."""
    paths, random = sorted(p for p in folder.iterdir() if p.is_file()), np.random.default_rng(0)
    cut = []
    for path in paths[:: len(paths) // count][:count]:
        image = read_unit(path)
        row, column = (int(random.integers(side - SIDE + 1)) for side in image.shape[:2])
        cut.append(image[row : row + SIDE, column : column + SIDE])
    return np.stack(cut)


def facts_of(images: Floats) -> dict[str, float | list[float]]:
    """images: (N, SIDE, SIDE, 3) in [0, 1]."""
    luma = images @ LUMA
    flat = luma - luma.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(flat * np.outer(np.hanning(SIDE), np.hanning(SIDE)))) ** 2).mean(axis=0) / SIDE**2
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None])
    bands = [power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(OCTAVES)]
    return {
        "luma": round(float(luma.mean()), 3),
        "luma_std": round(float(luma.std(axis=(1, 2)).mean()), 3),
        "colour": round(float(np.abs(images - luma[..., None]).mean()), 3),
        "power": [float(f"{band:.2e}") for band in bands],
    }


def sheet(images: Floats) -> Floats:
    """Row by row."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in images.reshape(ROWS, COLUMNS, SIDE, SIDE, 3)])


if __name__ == "__main__":
    main()
