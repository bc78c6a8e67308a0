"""Whether the spread over seeds of a stochastic model says where it is wrong.

    python benchmarks/uncertainty.py denoise-detail --test CLEAN_IMAGES

For every image with Gaussian noise: PSNR of one sample and of the mean of 8; Spearman's rank correlation of the
standard deviation with the absolute error of the mean, by pixel and by 8x8 block; and the share of true values inside
the central 90 % interval for one more draw, mean +- t s sqrt(1 + 1/8) with Student's t of 7 degrees of freedom.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from results import write
from scipy.stats import spearmanr
from scipy.stats import t as student
from skimage.measure import block_reduce

from restonnx import Restorer
from restonnx.images import read
from restonnx.training.evaluate import noisy, psnr_ssim

SAMPLES = 8
BLOCK = (8, 8, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--sigma", type=float, nargs="+", default=[15.0, 25.0, 50.0])
    options = parser.parse_args()
    restorer = Restorer(options.model)
    paths = sorted(p for p in options.test.iterdir() if p.is_file())[:: options.every]
    levels = []
    for sigma in options.sigma:
        rows = [measure(restorer, path, index, sigma) for index, path in enumerate(paths)]
        level = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
        levels.append({"sigma": sigma, "images": len(rows)} | level)
        print(levels[-1], flush=True)
    name = restorer.metadata.name
    write("uncertainty", {"model": name, "samples": SAMPLES, "data": options.test.name, "levels": levels})


def measure(restorer: Restorer, path: Path, index: int, sigma: float) -> dict[str, float]:
    clean = read(path).pixels.astype(np.float32) / 255
    degraded = noisy(clean, sigma, index)
    one = restorer(degraded)
    mean, std = restorer(degraded, samples=SAMPLES, return_std=True)
    error = np.abs(mean - clean)
    unbiased = std * math.sqrt(SAMPLES / (SAMPLES - 1))
    half_width = student.ppf(0.95, SAMPLES - 1) * unbiased * math.sqrt(1 + 1 / SAMPLES)
    blocks = [block_reduce(values, BLOCK, np.mean).ravel() for values in (std, error)]
    return {
        "psnr_one": psnr_ssim(one, clean)[0],
        "psnr_mean": psnr_ssim(mean, clean)[0],
        "rank_correlation_pixels": spearmanr(std.ravel(), error.ravel()).statistic,
        "rank_correlation_blocks": spearmanr(*blocks).statistic,
        "coverage_of_90": float(np.mean(error <= half_width)),
        "mean_std": float(std.mean() * 255),
    }


if __name__ == "__main__":
    main()
