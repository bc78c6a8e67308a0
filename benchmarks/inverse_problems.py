"""DCDP beside DPS, DDRM and DiffPIR of deepinv on six inverse problems, all with the same prior.

    taskset -c 0 python benchmarks/inverse_problems.py --prior prior --data TEST_IMAGES

TEST_IMAGES holds Set5, Set14 and McMaster. Centre crops of 128 x 128, one thread; seconds are the processor's. The
noise is drawn once for each problem and image; sigma is its standard deviation for images in [-1, 1]. PSNR and SSIM
over all channels, after clipping and rounding to 8 bit. DPS runs on the first image alone, unless --slow-images says
more. --brief leaves out what takes longest and says least (see `BRIEF`): by the seconds of the table as it stands a
quarter of an hour to 20 minutes on one core. `deepinv_solvers.py` says how to install deepinv, and its solvers'
settings. An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dcdp_solvers
import deepinv_solvers
import numpy as np
import torch
from dcdp_solvers import Prior
from deepinv_solvers import UnitRange, ddrm, diffpir, dps
from numpy.typing import NDArray
from results import FOLDER, write

from restonnx import Restorer, solve
from restonnx.diffusion.blurs import CircularBlur, gaussian_kernel, motion_kernel
from restonnx.diffusion.operators import Identity, Mask, box_mask, random_mask
from restonnx.diffusion.resizing import Downsample
from restonnx.images import read
from restonnx.training.evaluation.measures import psnr_ssim

Floats = NDArray[np.float32]
SIDE = 128
IMAGES = {
    "reported": ("Set5/butterfly.webp", "Set5/bird.webp", "McMaster/01.webp", "McMaster/10.webp"),
    "choice": ("Set14/barbara.webp", "Set14/comic.webp", "Set14/monarch.webp", "Set14/pepper.webp"),
}
"""What is reported, and where settings were chosen."""
SLOW, DDIM = "DPS, 1000 steps", "DCDP as published, DDIM-20"
BRIEF = {
    SLOW: lambda problem, index: index == 0 and problem.sigma >= 0.05 and problem.sigma != 0.196,
    DDIM: lambda problem, index: index == 0,
    "DDRM, 100 steps": lambda problem, index: False,
    "DCDP, torch": lambda problem, index: index == 0,
}
"""Which runs of the long methods a brief run has: DPS on every task with the more noise of two, on one image."""


@dataclass(frozen=True)
class Problem:
    task: str
    sigma: float
    """Standard deviation of the measurement's noise, for images in [-1, 1]."""
    operator: Any


@dataclass(frozen=True)
class Row:
    """One method on one image."""

    task: str
    sigma: float
    method: str
    image: str
    psnr: float
    ssim: float
    forwards: int
    """Evaluations of the prior."""
    backwards: int
    """How many of them were differentiated."""
    seconds: float
    """Of the processor, so that other work beside it matters less."""


Method = Callable[[Problem, Floats], Floats]
"""(problem, measurement of an image in [-1, 1]) -> the image (1, 3, H, W) in [0, 1]"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="prior", help="name or .onnx file")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", choices=IMAGES, default="reported")
    parser.add_argument("--slow-images", type=int, default=1, help=f"how many of them are for {SLOW}")
    parser.add_argument("--brief", action="store_true", help="without the longest runs")
    parser.add_argument("--tasks", nargs="+", help="all by default")
    parser.add_argument("--methods", nargs="+", help="all by default")
    parser.add_argument("--name", default="inverse_problems", help="of the file of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = Prior(options.prior)
    images = {name: centre(options.data / name) for name in IMAGES[options.images]}
    chosen = [problem for problem in problems() if options.tasks is None or problem.task in options.tasks]
    solvers = {k: m for k, m in methods(prior).items() if options.methods is None or k in options.methods}
    done = FOLDER / f"{options.name}.{prior.file.sha256[:8]}.jsonl"

    def wanted(method: str, problem: Problem, index: int) -> bool:
        if options.brief and method in BRIEF:
            return BRIEF[method](problem, index)
        return method != SLOW or index < options.slow_images

    rows = measure(prior, solvers, chosen, images, wanted, done)
    table = averages(rows)
    show(table)
    print(markdown(table))
    meta = prior.file.metadata
    write(
        options.name,
        {
            "protocol": __doc__,
            "prior": {"name": meta.name, "version": meta.version, "sha256": prior.file.sha256},
            "threads": 1,
            "images": list(images),
            "deepinv": deepinv_solvers.import_deepinv().__version__,
            "table": table,
        },
    )
    done.unlink()


def problems() -> list[Problem]:
    """Each task with hardly any noise and with some. The blurs are circular: DDRM can do no others."""
    rng = np.random.default_rng(1)
    operators = {
        "SR x4": Downsample(4),
        "Gaussian deblurring": CircularBlur(gaussian_kernel(61, 3.0)),
        "motion deblurring": CircularBlur(motion_kernel(61, 0.5, rng)),
        "box inpainting": Mask(box_mask(SIDE, SIDE, 39, 89, 39, 89)),
        "random inpainting": Mask(random_mask(rng.random((SIDE, SIDE)), 0.7)),
    }
    found = [Problem(task, sigma, operator) for task, operator in operators.items() for sigma in (0.01, 0.05)]
    return found + [Problem("denoising", round(2 * level / 255, 3), Identity()) for level in (25, 50)]


def methods(prior: Prior) -> dict[str, Method]:
    denoiser = UnitRange(prior.denoise, prior.sigmas)
    physics = functools.cache(
        lambda problem: deepinv_solvers.physics(problem.operator, (3, SIDE, SIDE), problem.sigma / 2)
    )

    def ours(problem: Problem, measured: Floats, restorer: Restorer) -> Floats:
        image: Floats = solve(
            in_unit_range(problem.operator, measured)[0].transpose(1, 2, 0),
            operator=problem.operator,
            prior=restorer,
            noise_level=problem.sigma / 2,
            value_range=(0, 1),
        )
        return image.transpose(2, 0, 1)[None]

    def published(problem: Problem, measured: Floats, ddim_steps: int | None = None) -> Floats:
        y = torch.from_numpy(measured)
        solved = dcdp_solvers.published(y, problem.operator, prior, problem.task, ddim_steps=ddim_steps)
        image: Floats = solved.numpy() / 2 + 0.5
        return image

    def deepinv(problem: Problem, measured: Floats, solver: deepinv_solvers.Solver) -> Floats:
        y = torch.from_numpy(in_unit_range(problem.operator, measured))
        with torch.no_grad():
            image: Floats = solver(y, physics(problem)).numpy()
        return image

    return {
        "DCDP, ONNX Runtime": lambda problem, y: ours(problem, y, prior.onnx_runtime),
        "DCDP, torch": lambda problem, y: ours(problem, y, prior.torch),
        "DCDP as published, Tweedie": lambda problem, y: published(problem, y),
        DDIM: lambda problem, y: published(problem, y, ddim_steps=20),
        "DiffPIR, 20 steps": lambda problem, y: deepinv(problem, y, diffpir(denoiser, 20, problem.sigma / 2)),
        "DiffPIR, 100 steps": lambda problem, y: deepinv(problem, y, diffpir(denoiser, 100, problem.sigma / 2)),
        "DDRM, 20 steps": lambda problem, y: deepinv(problem, y, ddrm(denoiser, 20)),
        "DDRM, 100 steps": lambda problem, y: deepinv(problem, y, ddrm(denoiser, 100)),
        SLOW: lambda problem, y: deepinv(problem, y, dps(denoiser, 1000)),
    }


def measure(
    prior: Prior,
    solvers: dict[str, Method],
    chosen: Sequence[Problem],
    images: dict[str, Floats],
    wanted: Callable[[str, Problem, int], bool],
    done: Path,
) -> list[Row]:
    """Run all that is wanted and that `done` does not hold yet, one JSON line a run."""
    rows = [Row(**json.loads(line)) for line in done.read_text().splitlines()] if done.exists() else []
    known = {(row.task, row.sigma, row.method, row.image) for row in rows}
    for name, solver in solvers.items():
        warm = False
        for problem in chosen:
            for index, (image, clean) in enumerate(images.items()):
                key = (problem.task, problem.sigma, name, image)
                if key in known or not wanted(name, problem, index):
                    continue
                rng = np.random.default_rng(index)
                measured = problem.operator.forward(clean)
                noise = rng.standard_normal(measured.shape, dtype=np.float32)
                # Where a pixel is missing, nothing is measured.
                visible = problem.operator.forward(np.ones_like(clean)) != 0
                measured = measured + np.float32(problem.sigma) * noise * visible
                if not warm and name != SLOW:
                    solver(problem, measured)
                    warm = True
                rows.append(run(prior, key, solver, problem, measured, clean))
                with done.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(rows[-1])) + "\n")
                print(rows[-1], flush=True)
    return rows


def run(
    prior: Prior, key: tuple[str, float, str, str], solver: Method, problem: Problem, measured: Floats, clean: Floats
) -> Row:
    prior.forwards = prior.backwards = 0
    started = time.process_time()
    image = solver(problem, measured)
    seconds = time.process_time() - started
    psnr, ssim = psnr_ssim(image[0].transpose(1, 2, 0), clean[0].transpose(1, 2, 0) / 2 + 0.5)
    return Row(*key, round(psnr, 3), round(ssim, 4), prior.forwards, prior.backwards, round(seconds, 3))


def in_unit_range(operator: Any, measured: Floats) -> Floats:
    """The measurement that belongs to the image in [0, 1] in place of [-1, 1]."""
    white = operator.forward(np.ones_like(operator.adjoint(measured)))
    shifted: Floats = (measured + white) / 2
    return shifted


def centre(path: Path) -> Floats:
    """(1, 3, SIDE, SIDE) in [-1, 1]."""
    pixels = read(path).pixels
    top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
    crop = pixels[top : top + SIDE, left : left + SIDE].astype(np.float32) / np.iinfo(pixels.dtype).max
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None]) * 2 - 1


def averages(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry for each problem and method, with the PSNR of each image."""
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.sigma, row.method), []).append(row)
    return [
        {
            "task": task,
            "sigma": sigma,
            "method": method,
            "psnr": round(float(np.mean([row.psnr for row in group])), 2),
            "ssim": round(float(np.mean([row.ssim for row in group])), 4),
            "forwards": round(float(np.mean([row.forwards for row in group])), 1),
            "backwards": round(float(np.mean([row.backwards for row in group])), 1),
            "seconds": round(float(np.mean([row.seconds for row in group])), 2),
            "psnr_of_each": {row.image: row.psnr for row in group},
        }
        for (task, sigma, method), group in groups.items()
    ]


def show(table: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("task", "sigma", "method", "PSNR", "SSIM", "forwards", "backwards", "seconds", "images")
    for entry in sorted(table, key=lambda entry: (entry["task"], entry["sigma"])):
        values = [entry[name] for name in ("task", "sigma", "method", "psnr", "ssim", "forwards", "backwards")]
        shown.add_row(*map(str, values), str(entry["seconds"]), str(len(entry["psnr_of_each"])))
    Console(width=130).print(shown)


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """PSNR of every problem and method, as docs/notes/inverse-problems.md has it, then seconds and evaluations."""
    methods = list(dict.fromkeys(entry["method"] for entry in table))
    most = max(len(entry["psnr_of_each"]) for entry in table)
    rows = []
    for task, sigma in sorted({(entry["task"], entry["sigma"]) for entry in table}):
        found = {e["method"]: e for e in table if (e["task"], e["sigma"]) == (task, sigma)}
        cells = []
        for method in methods:
            count = len(found[method]["psnr_of_each"]) if method in found else 0
            few = f" ({count} image{'s' * (count > 1)})" if count < most else ""
            cells.append(f"{found[method]['psnr']:.2f}{few}" if count else "-")
        rows.append([f"{task}, {sigma:g}", *cells])
    for name, digits in (("seconds", 2), ("forwards", 0)):
        means = [np.mean([entry[name] for entry in table if entry["method"] == method]) for method in methods]
        label = "seconds, all problems" if name == "seconds" else "evaluations of the prior"
        rows.append([label, *(f"{mean:.{digits}f}" for mean in means)])
    head = ["problem, sigma", *methods]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
