"""What a second camera's image is good for: a piece of one photograph, enlarged without it and with it.

    python benchmarks/two_cameras.py --data TEST_SETS

The test is that of `dual-camera-x2` in `restonnx evaluate --all`. Side by side: bicubic, the model without a reference,
with one, and the truth; for the card, as docs/images/two-cameras.webp.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from failures import GAP, SIDE, TIMES

from restonnx import Restorer
from restonnx.images import Picture, write
from restonnx.training.evaluation.classical.enlarge import bicubic
from restonnx.training.evaluation.run_model import restored
from restonnx.training.evaluation.samples import to_file
from restonnx.training.evaluation.table import TWO_CAMERAS

MODEL = "dual-camera-x2"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "two-cameras.webp"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--image", type=int, default=6, help="number of the photograph in CBSD68")
    parser.add_argument("--at", type=int, nargs=2, default=(94, 189), help="row and column of the piece")
    parser.add_argument("--model", default=MODEL)
    options = parser.parse_args()
    sample = TWO_CAMERAS.tests[-1].source.sample(options.data, options.image, TWO_CAMERAS.channels)
    restorer, (top, left) = Restorer(options.model), options.at
    images = (
        bicubic(sample),
        restored(restorer, replace(sample, reference=None)),
        restored(restorer, sample),
        sample.truth,
    )
    shown = [
        np.kron(image[top : top + SIDE, left : left + SIDE].clip(0, 1), np.ones((TIMES, TIMES, 1), np.float32))
        for image in images
    ]
    gap = np.ones((SIDE * TIMES, GAP, 3), np.float32)
    picture = np.concatenate([part for panel in shown for part in (panel, gap)][:-1], axis=1)
    write(PICTURE, Picture(to_file(picture), "YXC"), overwrite=True, quality=80)
    print(f"{PICTURE}: {sample.name}, row {top}, column {left}")


if __name__ == "__main__":
    main()
