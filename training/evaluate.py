"""Quality on clean images with added Gaussian noise: the protocol of the published denoising tables.

Noise is added to float images without clipping, from a seed per image and level; the restored image is clipped to
[0, 1] and rounded to 8 bit, as a file would hold it; PSNR is over all channels, SSIM with the Gaussian window of Wang
et al. 2004, both averaged over the images.
"""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from restonnx.errors import InputError
from restonnx.images import SUFFIXES
from restonnx.restore import Restorer
from restonnx.training.evaluation.classical.every import classical
from restonnx.training.evaluation.damage import noisy
from restonnx.training.evaluation.measures import psnr_ssim
from restonnx.training.evaluation.samples import Floats, Sample, read_unit, with_channels
from restonnx.training.evaluation.settings import settings
from restonnx.training.machine import facts

Method = Callable[[Floats, float], Floats]
CLASSICAL = ("non-local means, told", "wavelets, told")


@dataclass(frozen=True)
class Score:
    """One method at one noise level, averaged over the images of a folder."""

    method: str
    data: str
    sigma: float
    """In 1/255."""
    images: int
    psnr: float
    ssim: float
    seconds_per_megapixel: float


def evaluate(
    models: Sequence[str | Path],
    *,
    data: str | Path,
    sigma: Sequence[float] = (15.0, 25.0, 50.0),
    json: str | Path | None = None,
    baselines: bool = False,
    every: int = 1,
) -> list[Score]:
    """Measure models (names or .onnx files) on a folder of clean images.

    baselines: also scikit-image's non-local means and wavelets, which are told the noise level.
    every: use only every so-manieth image.  json: write the scores and the machine's facts there.
    Prints a table and returns the scores; grey models see luma.
    """
    paths = list(enumerate(sorted(p for p in Path(data).rglob("*") if p.suffix.lower() in SUFFIXES)))[::every]
    if not paths:
        raise InputError(f"no images in {data}")
    scores = []
    channels = set()
    for model in models:
        restorer = Restorer(model)
        channels.add(restorer.metadata.channels)
        clean = [(index, with_channels(read_unit(path), restorer.metadata.channels)) for index, path in paths]
        for level in sigma:
            scores.append(_score(restorer.metadata.name, _of(restorer), clean, Path(data).name, level))
    for count in sorted(channels) if baselines else ():
        clean = [(index, with_channels(read_unit(path), count)) for index, path in paths]
        methods = {"noisy input": _unchanged} | {name: _classical(name, count) for name in CLASSICAL}
        for name, method in methods.items():
            named = name if channels == {3} else f"{name}, {count} channel{'s' * (count > 1)}"
            scores += [_score(named, method, clean, Path(data).name, level) for level in sigma]
    _print(scores)
    if json is not None:
        report = {"protocol": __doc__, "machine": facts(), "scores": [asdict(score) for score in scores]}
        Path(json).write_text(jsonlib.dumps(report, indent=1) + "\n", encoding="utf-8")
    return scores


def _score(name: str, method: Method, images: Sequence[tuple[int, Floats]], data: str, sigma: float) -> Score:
    quality, seconds, pixels = [], 0.0, 0
    for index, clean in images:
        degraded = noisy(clean, sigma, index)
        started = time.perf_counter()
        restored = method(degraded, sigma)
        seconds += time.perf_counter() - started
        pixels += clean.shape[0] * clean.shape[1]
        quality.append(psnr_ssim(restored, clean))
    psnr, ssim = np.mean(quality, axis=0)
    return Score(
        name,
        data,
        sigma,
        len(images),
        round(float(psnr), 3),
        round(float(ssim), 4),
        round(seconds / pixels * 1e6, 3),
    )


def _of(restorer: Restorer) -> Method:
    """A model as it is run: a prior is told the noise level, as the baselines are; the others are blind."""
    told = any(spec.role == "noise_level" for spec in restorer.metadata.inputs)
    return lambda image, sigma: restorer(image, noise_level=sigma / 255 if told else None)


def _unchanged(image: Floats, sigma: float) -> Floats:
    return image


def _classical(name: str, channels: int) -> Method:
    """One that is told the noise level, with the settings of the tests of denoisers."""
    chosen = settings("denoise" if channels == 3 else "denoise-gray", name)
    return lambda image, sigma: classical(name, Sample(image, image, sigma=sigma / 255), chosen)


def _print(scores: Sequence[Score]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("method", "data", "sigma", "PSNR dB", "SSIM", "s/megapixel")
    for s in scores:
        table.add_row(
            s.method,
            s.data,
            f"{s.sigma:g}",
            f"{s.psnr:.2f}",
            f"{s.ssim:.4f}",
            f"{s.seconds_per_megapixel:.2f}",
        )
    Console().print(table)
