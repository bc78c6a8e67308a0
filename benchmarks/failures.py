"""Where a model fails: of a test's images the piece whose error is largest; truth, what was given, what came out.

    python benchmarks/failures.py denoise derain --data TEST_SETS

For a model's card, as docs/images/failures/MODEL.webp. The test is the last of the model's first suite (of noise the
strongest level); of its images at most 12 are looked at, every k-th, or as many as --images says.
For a model without tests --tests-of names one whose tests it takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from restonnx import Restorer
from restonnx.images import Picture, write
from restonnx.training.evaluation.run_model import restored
from restonnx.training.evaluation.samples import Floats, Sample, to_file, with_channels
from restonnx.training.evaluation.table import Suite, Test, limited, suites

SIDE, TIMES, GAP = 96, 2, 6
"""Side of the piece; how many times it is enlarged; white between the panels."""
PICTURES = Path(__file__).parents[1] / "docs" / "images" / "failures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12, help="at most so many; slow models do with fewer")
    parser.add_argument("--tests-of", help="another model")
    options = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        restorer = Restorer(name)
        suite = suites(options.tests_of or restorer.metadata.name, restorer.metadata.recipe)[0]
        picture, where = worst(restorer, suite, suite.tests[-1], options.data, options.images)
        path = PICTURES / f"{restorer.metadata.name}.webp"
        write(path, Picture(to_file(picture), "YXC"), overwrite=True, quality=70)
        print(f"{path}: {where}")


def worst(restorer: Restorer, suite: Suite, test: Test, data: Path, images: int) -> tuple[Floats, str]:
    """The picture, and what it is a piece of."""
    names = test.source.names(data)
    found: tuple[float, Floats, str] = (-1.0, np.zeros(()), "")
    for index in limited(len(names), images):
        sample = test.source.sample(data, index, suite.channels)
        result = restored(restorer, sample)
        error, row, column = worst_piece(sample, result)
        if error > found[0]:
            where = f"{test.name}, {names[index]}, row {row}, column {column}"
            found = error, panels(sample, result, row, column), where
    return found[1:]


def worst_piece(sample: Sample, result: Floats) -> tuple[float, int, int]:
    """Its mean absolute error, and its first row and column."""
    error = np.abs(result - sample.truth).reshape(*result.shape[:2], -1).mean(axis=2)
    half = SIDE // 2
    pieces = uniform_filter(error, SIDE)[half : 1 - half, half : 1 - half]
    row, column = (int(n) // sample.scale * sample.scale for n in np.unravel_index(pieces.argmax(), pieces.shape))
    return float(pieces.max()), row, column


def panels(sample: Sample, result: Floats, row: int, column: int) -> Floats:
    """Side by side, pixels enlarged as squares."""

    def piece(image: Floats, scale: int = 1) -> Floats:
        top, left, side = row // scale, column // scale, SIDE // scale
        cut = with_channels(image, 3)[top : top + side, left : left + side]
        return np.kron(cut.clip(0, 1), np.ones((TIMES * scale, TIMES * scale, 1), np.float32))

    shown = [piece(sample.truth), piece(sample.unit, sample.scale), piece(result)]
    gap = np.ones((SIDE * TIMES, GAP, 3), np.float32)
    return np.concatenate([part for panel in shown for part in (panel, gap)][:-1], axis=1)


if __name__ == "__main__":
    main()
