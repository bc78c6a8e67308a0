"""The shipped models whose operator is in the graph, beside the classical methods that know as much.

    taskset -c 0 python benchmarks/known_operators.py --data TEST_IMAGES

TEST_IMAGES holds CBSD68, Set5 and Set14. Inpainting and deblurring: centre crops of 256 x 256 of every 17th and every
34th image of CBSD68, PSNR and SSIM over all channels. Enlarging: Set5 and every third image of Set14, shrunk as
MATLAB's imresize does it, PSNR and SSIM of the luminance of BT.601 without a border of 4 pixels, as the literature has
it. All that is measured is rounded to 8 bit, the results too. The noise has the standard deviation sigma, in 1/255, and
is drawn once for each image, the same for all methods. Blurred images were blurred with what lies around the crop,
which no method is shown.

Of the classical methods' own numbers (the balance of Wiener's filter, the iterations of Richardson and Lucy) those are
taken which are best on the very images that are reported.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import write

from restonnx import Restorer
from restonnx.diffusion.blurs import Blur, gaussian_kernel, motion_kernel
from restonnx.diffusion.operators import random_mask
from restonnx.diffusion.resizing import Downsample
from restonnx.images import read
from restonnx.training.evaluation.measures import psnr_ssim

Floats = NDArray[np.float32]
SIDE = 256
EVERY = {"inpaint": 17, "blur": 34, "Set5": 1, "Set14": 3}
BALANCES = (0.001, 0.003, 0.01, 0.03)
ITERATIONS = (10, 20, 40)
LUMINANCE = np.array([65.481, 128.553, 24.966]) / 255
"""Of red, green and blue (BT.601), to which 16 / 255 is added."""


@dataclass(frozen=True)
class Case:
    """One image of one problem."""

    image: str
    clean: Floats
    measured: Floats
    given: dict[str, Any]
    """What every method is told: the mask, the kernel, the factor."""


Method = Callable[[Case], Floats]
Compare = Callable[[Floats, Floats], tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["inpaint", "deblur-kernel", "super-resolution-known"])
    parser.add_argument("--images", type=int, help="at most so many of each problem")
    parser.add_argument("--classical", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--name", default="known_operators", help="of the file of results")
    options = parser.parse_args()
    table: list[dict[str, Any]] = []
    for name in options.models:
        restorer = Restorer(name, device="cpu", threads=1)
        operator = str(restorer.metadata.sampler.options["operator"])
        for problem, cases, compare in problems(operator, options.data, options.images, restorer.metadata.scale):
            methods = {restorer.metadata.name: ours(restorer)}
            if options.classical:
                methods |= classical(operator)
            for method, run in methods.items():
                table.append({"problem": problem} | measured(method, run, cases, compare))
                print(table[-1], flush=True)
    rows = _best(table)
    show(rows)
    write(options.name, {"protocol": __doc__, "table": rows, "tried": table})


def problems(operator: str, data: Path, most: int | None, scale: int) -> Iterator[tuple[str, list[Case], Compare]]:
    """Each with its images and how results are compared."""
    if operator == "superresolve":
        for folder in ("Set5", "Set14"):
            paths = _images(data / folder, most, EVERY[folder])
            yield f"x{scale}, {folder}", [_shrunk(path, scale) for path in paths], luminance
        return
    images = {path.stem: _pixels(path) for path in _images(data / "CBSD68", most, EVERY[operator])}
    if operator == "inpaint":
        masks = {"70 % of the pixels": _scattered, "strokes": _strokes, "boxes of 24 x 24": _boxes}
        for kind, mask_of in masks.items():
            yield kind, [_holed(name, clean, mask_of, n) for n, (name, clean) in enumerate(images.items())], psnr_ssim
        return
    kernels = {"Gaussian, 2 pixels": gaussian_kernel(13, 2.0), "motion, 25 pixels": _motion()}
    for kind, kernel in kernels.items():
        for sigma in (0.0, 2.0):
            cases = [_blurred(name, clean, kernel, sigma, n) for n, (name, clean) in enumerate(images.items())]
            yield f"{kind}, sigma {sigma:g}", cases, psnr_ssim


def ours(restorer: Restorer) -> Method:
    """As a user would call it: no noise level is given."""
    roles = {spec.role for spec in restorer.metadata.inputs}

    def run(case: Case) -> Floats:
        result: Floats = restorer(case.measured, **{role: case.given[role] for role in case.given if role in roles})
        return result

    return run


def classical(operator: str) -> dict[str, Method]:
    if operator == "inpaint":
        return {"holes of the mean colour": lambda case: case.measured, "biharmonic": _biharmonic}
    if operator == "superresolve":
        return {"bicubic": _bicubic}
    from skimage.restoration import richardson_lucy, wiener

    return {
        "blurred": lambda case: case.measured,
        **{
            f"Wiener, balance {balance:g}": _framed(lambda image, psf, b=balance: wiener(image, psf, b, clip=False))
            for balance in BALANCES
        },
        **{
            f"Richardson-Lucy, {count} iterations": _framed(
                lambda image, psf, n=count: richardson_lucy(image, psf, num_iter=n)
            )
            for count in ITERATIONS
        },
    }


def measured(name: str, method: Method, cases: Sequence[Case], compare: Compare) -> dict[str, Any]:
    rows, seconds = [], 0.0
    for case in cases:
        started = time.process_time()
        image = method(case)
        seconds += time.process_time() - started
        rows.append(compare(image, case.clean))
    psnr, ssim = np.mean(rows, axis=0)
    return {
        "method": name,
        "psnr": round(float(psnr), 2),
        "ssim": round(float(ssim), 4),
        "seconds": round(seconds / len(cases), 2),
        "psnr_of_each": {case.image: round(row[0], 2) for case, row in zip(cases, rows, strict=True)},
    }


def luminance(image: Floats, clean: Floats) -> tuple[float, float]:
    """PSNR and SSIM of the luminance, rounded to 8 bit in its colours and not again, without 4 pixels of border."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rounded = np.rint(image.clip(0, 1) * 255) / 255
    found, wanted = (16 / 255 + part.astype(np.float64) @ LUMINANCE for part in (rounded, clean))
    pair = found[4:-4, 4:-4], wanted[4:-4, 4:-4]
    ssim = structural_similarity(*pair, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return float(peak_signal_noise_ratio(pair[1], pair[0], data_range=1.0)), float(ssim)


def _images(folder: Path, most: int | None, every: int = 1) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix == ".webp")[::every]
    if not found:
        raise SystemExit(f"no images in {folder}")
    return found[:most]


def _pixels(path: Path) -> Floats:
    pixels = read(path).pixels
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
    return colours.astype(np.float32) / np.iinfo(pixels.dtype).max


def _cut(image: Floats) -> tuple[slice, slice]:
    """The crop in the middle."""
    top, left = ((side - SIDE) // 2 for side in image.shape[:2])
    return slice(top, top + SIDE), slice(left, left + SIDE)


def _rounded(image: Floats) -> Floats:
    result: Floats = np.rint(image.clip(0, 1) * 255).astype(np.float32) / 255
    return result


def _holed(name: str, image: Floats, mask_of: Callable[[np.random.Generator], NDArray[np.bool_]], seed: int) -> Case:
    clean, missing = image[_cut(image)], mask_of(np.random.default_rng(seed))
    holed = np.where(missing[..., None], clean[~missing].mean(axis=0), clean)
    return Case(name, clean, holed.astype(np.float32), {"mask": missing})


def _scattered(rng: np.random.Generator) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = random_mask(rng.random((SIDE, SIDE)), 0.7) == 0
    return missing


def _boxes(rng: np.random.Generator) -> NDArray[np.bool_]:
    missing = np.zeros((SIDE, SIDE), bool)
    for top, left in rng.integers(8, SIDE - 32, (6, 2)):
        missing[top : top + 24, left : left + 24] = True
    return missing


def _strokes(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Scratches of 3 to 7 pixels across the image."""
    from skimage.draw import line
    from skimage.morphology import dilation, disk

    missing = np.zeros((SIDE, SIDE), bool)
    for width in (1, 1, 2, 2, 3, 3):
        drawn = np.zeros_like(missing)
        ends = rng.integers(0, SIDE, 4)
        drawn[line(*(int(end) for end in ends))] = True
        missing |= dilation(drawn, disk(width))
    return missing


def _motion() -> Floats:
    return motion_kernel(25, 0.5, np.random.default_rng(1))


def _blurred(name: str, image: Floats, kernel: Floats, sigma: float, seed: int) -> Case:
    rows, cols = _cut(image)
    # A point becomes the kernel, which `Blur` turns by half a turn.
    wide = Blur(kernel[::-1, ::-1]).forward(image.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)[rows, cols]
    noise = np.random.default_rng(seed).standard_normal(wide.shape, dtype=np.float32)
    measured = _rounded(wide + np.float32(sigma / 255) * noise)
    return Case(name, image[rows, cols], measured, {"kernel": kernel})


def _shrunk(path: Path, scale: int) -> Case:
    image = _pixels(path)
    height, width = (side // scale * scale for side in image.shape[:2])
    clean = image[:height, :width]
    small = Downsample(scale).forward(np.ascontiguousarray(clean.transpose(2, 0, 1))[None])[0].transpose(1, 2, 0)
    return Case(path.stem, clean, _rounded(small), {"scale": scale})


def _biharmonic(case: Case) -> Floats:
    from skimage.restoration import inpaint_biharmonic

    filled: Floats = inpaint_biharmonic(
        case.measured.astype(np.float64), case.given["mask"], channel_axis=-1, split_into_regions=True
    ).astype(np.float32)
    return filled


def _bicubic(case: Case) -> Floats:
    """Keys's cubic with a = -1/2, as imresize enlarges: the interpolation that the literature reports."""
    from PIL import Image

    height, width, _ = case.clean.shape
    planes = [Image.fromarray(np.ascontiguousarray(case.measured[..., n])) for n in range(3)]
    large = [np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(large, axis=-1)


def _framed(restore: Callable[[Any, Any], Any]) -> Method:
    """scikit-image's methods, which take what lies beyond the border for 0 or for the opposite side, mirrored there."""

    def method(case: Case) -> Floats:
        kernel = case.given["kernel"].astype(np.float64)
        margin = max(kernel.shape)
        wide = np.pad(case.measured, ((margin, margin), (margin, margin), (0, 0)), mode="reflect").astype(np.float64)
        restored = np.stack([restore(wide[..., n], kernel) for n in range(3)], axis=-1)
        return restored[margin:-margin, margin:-margin].clip(0, 1).astype(np.float32)

    return method


def _best(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each classical method the numbers with which it did best."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table:
        key = (row["problem"], row["method"].partition(",")[0])
        if key not in found or row["psnr"] > found[key]["psnr"]:
            found[key] = row
    return list(found.values())


def show(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = ("problem", "method", "psnr", "ssim", "seconds")
    shown = Table(*names, "images")
    for row in rows:
        shown.add_row(*(str(row[name]) for name in names), str(len(row["psnr_of_each"])))
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
