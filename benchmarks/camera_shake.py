"""Photographs blurred by real camera shake (Levin et al. 2009), deblurred by `restonnx.solve` and by scikit-image.

    python benchmarks/camera_shake.py --prior prior --data Levin09_real_gray --picture docs/images/camera-shake.webp

The data: 2 scenes, each photographed with 8 shakes whose kernels were measured. Settings are chosen on the first scene,
those with the best mean PSNR, and all that is reported is the second. Blurred and sharp photographs are shifted against
each other by some pixels, so every result is moved, by whole pixels and then by quarters, to where it fits the sharp
one best, and a border of 30 pixels is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import FOLDER, write

from restonnx import Restorer, solve
from restonnx.diffusion.blurs import Blur, CircularBlur
from restonnx.diffusion.operators import Chain, Crop
from restonnx.images import read
from restonnx.training.evaluation.classical.sharpen import framed
from restonnx.training.evaluation.measures import psnr_ssim

Floats = NDArray[np.float32]
Method = Callable[[Floats, Floats], Floats]
"""(blurred, kernel as `Blur` takes it) -> restored, in [0, 1]"""
KERNELS = range(1, 9)
CHOICE, REPORTED = "im1", "im2"
REACH = 10
"""Pixels by which images are shifted at most."""
BORDER = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="prior")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--only-picture", action="store_true", help="with the settings of the last run")
    parser.add_argument("--choose-on", type=int, nargs="+", default=[1, 4, 6], help="kernels of the first scene")
    options = parser.parse_args()
    restorer = Restorer(options.prior, device="cpu")
    sharp = {scene: load(options.data / "gt" / f"{scene}.png") for scene in (CHOICE, REPORTED)}
    kernels = {k: oriented(options.data, k, sharp[CHOICE]) for k in KERNELS}

    def measure(name: str, method: Method, scene: str, which: Sequence[int]) -> dict[str, Any]:
        rows, seconds = [], 0.0
        for k in which:
            blurred = load(options.data / "input" / f"{scene}_kernel{k}.png")
            started = time.perf_counter()
            restored = method(blurred, kernels[k])
            seconds += time.perf_counter() - started
            rows.append(psnr_ssim(*registered(restored, sharp[scene])))
        psnr, ssim = np.mean(rows, axis=0)
        return {
            "method": name,
            "psnr": round(float(psnr), 2),
            "ssim": round(float(ssim), 4),
            "seconds": round(seconds / len(which), 2),
            "psnr_of_each": [round(row[0], 2) for row in rows],
        }

    if options.only_picture:
        last = {
            row["method"]: row["setting"] for row in json.loads((FOLDER / "camera_shake.json").read_text())["table"]
        }
        found = {name: dict(variants)[last[name]] for name, variants in families(restorer).items()}
        return show(options.picture, options.data, found, kernels, sharp[REPORTED])
    table, tried, best = [], [], {}
    for name, variants in families(restorer).items():
        scores = {}
        for setting, method in variants:
            row = measure(name, method, CHOICE, options.choose_on) if len(variants) > 1 else {"psnr": 0.0}
            scores[setting] = row["psnr"]
            if len(variants) > 1:
                tried.append({"method": name, "setting": setting, "psnr": row["psnr"]})
                print(tried[-1], flush=True)
        chosen = max(scores, key=lambda setting: scores[setting])
        best[name] = dict(variants)[chosen]
        table.append({"setting": chosen} | measure(name, best[name], REPORTED, list(KERNELS)))
        print(table[-1], flush=True)
    write(
        "camera_shake",
        {
            "protocol": __doc__,
            "prior": {"name": restorer.metadata.name, "sha256": restorer.model.sha256},
            "chosen_on": {"scene": CHOICE, "kernels": options.choose_on, "tried": tried},
            "reported": REPORTED,
            "table": table,
        },
    )
    if options.picture:
        show(options.picture, options.data, best, kernels, sharp[REPORTED])


def families(restorer: Restorer) -> dict[str, list[tuple[str, Method]]]:
    """Every method with the settings to choose from."""
    from skimage.restoration import richardson_lucy, unsupervised_wiener, wiener

    return {
        "blurred": [("as it is", lambda blurred, kernel: blurred)],
        "Wiener": [
            (f"balance {balance:g}", deconvolved(lambda image, psf, b=balance: wiener(image, psf, b, clip=False)))
            for balance in (0.001, 0.003, 0.01, 0.03, 0.1)
        ],
        "unsupervised Wiener": [
            ("seed 0", deconvolved(lambda image, psf: unsupervised_wiener(image, psf, clip=False, rng=0)[0]))
        ],
        "Richardson-Lucy": [
            (f"{count} iterations", deconvolved(lambda image, psf, n=count: richardson_lucy(image, psf, num_iter=n)))
            for count in (10, 20, 40, 80, 160)
        ],
        "DCDP": [
            (f"noise level {level:g}, border {border}", ours(restorer, level, border))
            for level in (0.004, 0.008, 0.015)
            for border in ("mirrored", "unknown")
        ],
    }


def ours(restorer: Restorer, noise_level: float, border: str) -> Method:
    """border: mirrored, or unknown: the restored image is larger than the photograph, by what blurred into it."""

    def method(blurred: Floats, kernel: Floats) -> Floats:
        known: dict[str, Any] = {"prior": restorer, "noise_level": noise_level, "value_range": (0, 1)}
        if border == "mirrored":
            image: Floats = solve(blurred, operator=Blur(kernel), **known)
            return image
        margin = len(kernel)
        height, width = (side + 2 * margin for side in blurred.shape)
        seen = Chain((CircularBlur(kernel), Crop(margin, margin, margin, margin)))
        wide = solve(blurred, operator=seen, image_shape=(height, width), **known)
        return wide[margin:-margin, margin:-margin]

    return method


def deconvolved(restore: Callable[[Any, Any], Any]) -> Method:
    """One of scikit-image's methods."""
    return lambda blurred, kernel: framed(blurred, kernel, restore)


def load(path: Path) -> Floats:
    return read(path).pixels.astype(np.float32) / 255


def oriented(folder: Path, k: int, sharp: Floats) -> Floats:
    """The measured kernel, turned round if that explains the first scene better: two of the eight are stored so."""
    kernel = load(folder / "kernels" / f"kernel{k}.png")
    kernel = kernel / kernel.sum()
    blurred = load(folder / "input" / f"{CHOICE}_kernel{k}.png")

    def misfit(candidate: Floats) -> float:
        again, target = registered(Blur(candidate).forward(sharp[None, None])[0, 0], blurred)
        return float(np.mean((again - target) ** 2))

    return min((kernel, np.ascontiguousarray(kernel[::-1, ::-1])), key=misfit)


def registered(image: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Both without their border, the image moved to where it fits the target best."""
    from scipy.ndimage import shift

    def inside(array: Floats) -> Floats:
        return array[BORDER:-BORDER, BORDER:-BORDER]

    def misfit(moved: Floats) -> float:
        return float(np.mean((inside(moved) - inside(target)) ** 2))

    reach = range(-REACH, REACH + 1)
    whole = min(itertools.product(reach, reach), key=lambda by: misfit(np.roll(image, by, (0, 1))))
    finer = [(whole[0] + down / 4, whole[1] + right / 4) for down in range(-3, 4) for right in range(-3, 4)]
    moved = {by: shift(image, by, order=3, mode="nearest") for by in finer}
    best = min(moved, key=lambda by: misfit(moved[by]))
    return inside(moved[best]).clip(0, 1), inside(target)


def show(path: Path, folder: Path, best: dict[str, Method], kernels: dict[int, Floats], sharp: Floats) -> None:
    """Blurred, Richardson-Lucy, ours and sharp beside each other, for one kernel."""
    from PIL import Image

    k = 4
    blurred = load(folder / "input" / f"{REPORTED}_kernel{k}.png")
    parts = [registered(best[name](blurred, kernels[k]), sharp)[0] for name in ("blurred", "Richardson-Lucy", "DCDP")]
    parts.append(sharp[BORDER:-BORDER, BORDER:-BORDER])
    row = np.concatenate([np.pad(part, ((0, 0), (0, 4)), constant_values=1) for part in parts], axis=1)[:, :-4]
    picture = Image.fromarray(np.rint(row * 255).astype(np.uint8))
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC).save(path, quality=85)


if __name__ == "__main__":
    main()
