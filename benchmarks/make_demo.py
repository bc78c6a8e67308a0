"""Make the photograph of `restonnx demo`: scikit-image's coffee (CC0, by Rachel Michetti) with a camera's noise.

    python benchmarks/make_demo.py src/restonnx/zoo

Poisson-Gaussian noise in the display's values, variance = 0.012 x + 0.0004, clipped and rounded to 8 bit.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

SHOT, READ = 0.012, 0.0004


def main(folder: Path) -> None:
    clean = data.coffee()[40:360, 100:580]
    light = clean / 255
    noise = np.random.default_rng(2307).standard_normal(light.shape)
    noisy = light + np.sqrt(SHOT * light + READ) * noise
    Image.fromarray(clean).save(folder / "demo_clean.png", optimize=True)
    Image.fromarray(np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)).save(folder / "demo_noisy.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
