"""Whether the spread over seeds of a stochastic model says where it is wrong.

For every image: PSNR of one sample and of the mean of 8; Spearman's rank correlation of the standard deviation with the
absolute error of the mean, by pixel and by 8 x 8 block; and the share of true values inside the central 90 % interval
for one more draw, mean +- t s sqrt(1 + 1/8) with Student's t of 7 degrees of freedom.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from restonnx.restore import Restorer
from restonnx.training.evaluation.measures import psnr_ssim
from restonnx.training.evaluation.run_model import given, white
from restonnx.training.evaluation.samples import Floats, Sample, to_unit

SAMPLES = 8
BLOCK = 8


def spread(restorer: Restorer, sample: Sample) -> tuple[dict[str, float], Floats]:
    """The measures for one image, and the mean of its samples, white being 1; the model must draw noise."""
    further, unit = given(restorer, sample), white(sample.degraded)
    one = to_unit(restorer(sample.degraded, **further))
    mean, std = restorer(sample.degraded, samples=SAMPLES, return_std=True, **further)
    mean = to_unit(mean)
    measures = {"psnr_one": psnr_ssim(one, sample.truth)[0], "psnr_mean": psnr_ssim(mean, sample.truth)[0]}
    return reliability(mean, std / np.float32(unit), sample.truth) | measures, mean


def reliability(mean: Floats, std: Floats, truth: Floats) -> dict[str, float]:
    """Of a mean and a standard deviation (of the population) over `SAMPLES` samples, white being 1."""
    from scipy.stats import spearmanr
    from scipy.stats import t as student
    from skimage.measure import block_reduce

    error = np.abs(mean - truth)
    unbiased = std * math.sqrt(SAMPLES / (SAMPLES - 1))
    half_width = student.ppf(0.95, SAMPLES - 1) * unbiased * math.sqrt(1 + 1 / SAMPLES)
    block = (BLOCK, BLOCK, 1)[: truth.ndim]
    blocks: list[Any] = [block_reduce(values, block, np.mean).ravel() for values in (std, error)]
    return {
        "rank_correlation_pixels": float(spearmanr(std.ravel(), error.ravel()).statistic),
        "rank_correlation_blocks": float(spearmanr(*blocks).statistic),
        "coverage_of_90": float(np.mean(error <= half_width)),
        "mean_std": float(std.mean() * 255),
    }
