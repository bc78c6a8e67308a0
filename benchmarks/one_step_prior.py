"""How near one pass of `prior-fast` comes to where its teacher's probability flow ends after many.

    taskset -c 0 python benchmarks/one_step_prior.py --data CBSD68

Centre crops of 128 x 128 of every twelfth image with noise that is drawn once; levels are its standard deviation for
images in [0, 1]. The end is that of 12 steps of DPM-Solver-2 (24 passes of `prior`). Per level and method, the means of
    psnr              to the true image, in dB
    to_end            PSNR to that end
    high_frequencies  energy of the differences from the mean of 3 x 3 pixels, over that of the true image
Nothing is clipped. One thread, ONNX Runtime: what is measured is the shipped files.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import write
from scipy.ndimage import uniform_filter
from tables import table

from restonnx import Restorer
from restonnx.diffusion.consistency import dpm_step, even_shares, falling, integrate
from restonnx.diffusion.purify import Denoised
from restonnx.images import read
from restonnx.solve import Denoiser

Floats = NDArray[np.float32]
Method = Callable[[Floats, float], Floats]
"""(image with noise, (1, 3, H, W) in [-1, 1]; its sigma) -> the estimate"""
SIDE = 128
LEVELS = (0.03, 0.1, 0.196, 0.5, 1.5)
END_STEPS = 12
SOLVED_WITH = (5, 20)
"""Steps of DDIM beside it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--teacher", default="prior", help="name or .onnx file")
    parser.add_argument("--student", default="prior-fast", help="name or .onnx file")
    parser.add_argument("--every", type=int, default=12)
    options = parser.parse_args()
    paths = sorted(path for path in options.data.iterdir() if path.is_file())[:: options.every]
    images = [_centre(path) for path in paths]
    teacher, student = (Restorer(name, device="cpu", threads=1) for name in (options.teacher, options.student))
    rows = [row for level in LEVELS for row in measured(level, images, teacher, student)]
    files = {key: restorer.model for key, restorer in (("teacher", teacher), ("student", student))}
    content = {
        "protocol": __doc__,
        **{
            key: {"name": file.metadata.name, "version": file.metadata.version, "sha256": file.sha256}
            for key, file in files.items()
        },
        "images": [path.name for path in paths],
        "rows": rows,
    }
    print(markdown(rows))
    write("one_step_prior", content)


def measured(level: float, images: list[Floats], teacher: Restorer, student: Restorer) -> list[dict[str, Any]]:
    sigma, size = 2 * level, (images[0].shape[2], images[0].shape[3])
    from_teacher, from_student = Denoiser(teacher, size), Denoiser(student, size)
    still = np.zeros_like(images[0])
    methods: dict[tuple[str, int], Method] = {
        ("prior, its mean", 1): from_teacher,
        **{
            (f"prior, DDIM-{n}", n): lambda x, sigma, n=n: Denoised(from_teacher, None, n)(x, still, sigma)
            for n in SOLVED_WITH
        },
        ("prior-fast", 1): from_student,
    }
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for number, clean in enumerate(images):
        drawn = np.random.default_rng(number).standard_normal(clean.shape, dtype=np.float32)
        noisy = clean + np.float32(sigma) * drawn
        end = integrate(from_teacher, noisy, falling(sigma, even_shares(END_STEPS)), dpm_step)
        for key, method in methods.items():
            found.setdefault(key, []).append(_measures(method(noisy, sigma), clean, end))
        found.setdefault(("prior, the path's end", 2 * END_STEPS), []).append(_measures(end, clean, end))
    means = {key: np.mean(values, axis=0) for key, values in found.items()}
    return [
        {
            "level": level,
            "method": method,
            "passes": passes,
            "psnr": round(float(psnr), 2),
            **({"to_end": round(float(to_end), 2)} if np.isfinite(to_end) else {}),
            "high_frequencies": round(float(high), 3),
        }
        for (method, passes), (psnr, to_end, high) in means.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """As cards and notes have it: a line per method, a column per level."""
    methods = {(row["method"], row["passes"]): None for row in rows}
    lines = []
    for method, passes in methods:
        found = [row for row in rows if row["method"] == method]
        ends = [f"{row['to_end']:.2f}" if "to_end" in row else "-" for row in found]
        cells = [f"{r['psnr']:.2f} / {end} / {r['high_frequencies']:.2f}" for r, end in zip(found, ends, strict=True)]
        lines.append([method, str(passes), *cells])
    return table(["PSNR / PSNR to the end / high frequencies", "passes", *(f"{level:g}" for level in LEVELS)], lines)


def _centre(path: Path) -> Floats:
    """(1, 3, SIDE, SIDE) in [-1, 1]."""
    pixels = read(path).pixels
    top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
    crop = pixels[top : top + SIDE, left : left + SIDE, :3].astype(np.float32) / np.iinfo(pixels.dtype).max
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None]) * 2 - 1


def _measures(image: Floats, clean: Floats, end: Floats) -> tuple[float, float, float]:
    return _psnr(image, clean), _psnr(image, end), _detail(image) / _detail(clean)


def _psnr(image: Floats, wanted: Floats) -> float:
    """In dB, white being 1 and black -1."""
    error = float(np.mean((image - wanted) ** 2, dtype=np.float64))
    return float(10 * np.log10(4 / error)) if error else float("inf")


def _detail(image: Floats) -> float:
    fine = image - uniform_filter(image, (0, 0, 3, 3), mode="nearest")
    return float(np.mean(fine**2, dtype=np.float64))


if __name__ == "__main__":
    main()
