"""Quality on clean images with added Gaussian noise: the protocol of the published denoising tables.

Noise is added to float images without clipping, from a seed per image and level; the restored image is clipped to
[0, 1] and rounded to 8 bit, as a file would hold it; PSNR is over all channels, SSIM with the Gaussian window of Wang
et al. 2004, both averaged over the images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from restonnx.errors import InputError
from restonnx.files import write_json
from restonnx.images import SUFFIXES
from restonnx.restore import Restorer
from restonnx.training.evaluation.classical.every import classical
from restonnx.training.evaluation.damage import noisy
from restonnx.training.evaluation.measures import psnr_ssim
from restonnx.training.evaluation.samples import Floats, Sample, read_unit, with_channels
from restonnx.training.evaluation.settings import settings
from restonnx.training.machine import facts

if TYPE_CHECKING:
    from restonnx.model import Metadata

Method = Callable[[Floats, float], Floats]
SMALLEST = 11
"""The side of the window that SSIM looks through."""
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
    from rich.console import Console
    from rich.progress import Progress

    if not Path(data).is_dir():
        raise InputError(f"there is no folder {data}: give one of images")
    if bad := [level for level in sigma if not 0 <= level < math.inf]:
        raise InputError(f"sigma must be numbers of at least 0, not {bad[0]:g}")
    paths = list(enumerate(sorted(p for p in Path(data).rglob("*") if p.suffix.lower() in SUFFIXES)))[::every]
    if not paths:
        raise InputError(f"no images in {data}")
    restorers = [Restorer(model) for model in models]
    for restorer in restorers:
        _check_denoises(restorer.metadata)
    tasks: list[tuple[str, int, Method]] = [(r.metadata.name, r.metadata.channels, _of(r)) for r in restorers]
    channels = {count for _, count, _ in tasks}
    for count in sorted(channels) if baselines else ():
        methods = {"noisy input": _unchanged} | {name: _classical(name, count) for name in CLASSICAL}
        named = "" if channels == {3} else f", {count} channel{'s' * (count > 1)}"
        tasks += [(f"{name}{named}", count, method) for name, method in methods.items()]
    scores = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task("", total=len(tasks) * len(sigma) * len(paths))
        for name, count, method in tasks:
            bar.update(shown, description=name)
            clean = [(index, with_channels(_read(path), count)) for index, path in paths]
            for level in sigma:
                scores.append(_score(name, method, clean, Path(data).name, level, lambda: bar.advance(shown)))
    _print(scores)
    if json is not None:
        report = {"protocol": __doc__, "machine": facts(), "scores": [asdict(score) for score in scores]}
        write_json(Path(json), report)
    return scores


def _check_denoises(meta: Metadata) -> None:
    """Raise InputError for models that need more than a noisy image, or make another of it."""
    more = [spec.role for spec in meta.inputs if spec.role not in ("image", "noise", "noise_level")]
    if more or meta.scale > 1:
        needs = f"needs a {more[0]}" if more else f"makes images {meta.scale} times as large"
        raise InputError(
            f"{meta.name} {needs}, and is not measured on noise: `restonnx evaluate --all --model {meta.name}` "
            "measures it on the tests of its task"
        )


def _read(path: Path) -> Floats:
    image = read_unit(path)
    if min(image.shape[:2]) < SMALLEST:
        raise InputError(f"{path} is smaller than {SMALLEST} x {SMALLEST} pixels, and SSIM needs as many: remove it")
    return image


def _score(
    name: str,
    method: Method,
    images: Sequence[tuple[int, Floats]],
    data: str,
    sigma: float,
    advance: Callable[[], object],
) -> Score:
    quality, seconds, pixels = [], 0.0, 0
    for index, clean in images:
        degraded = noisy(clean, sigma, index)
        started = time.perf_counter()
        restored = method(degraded, sigma)
        seconds += time.perf_counter() - started
        pixels += clean.shape[0] * clean.shape[1]
        quality.append(psnr_ssim(restored, clean))
        advance()
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
