"""The claim of data-consistent training (Cheng et al. 2024, arXiv 2412.12550), tried on its five tasks.

    python benchmarks/data_consistency.py --train PHOTOGRAPHS --test CLEAN_IMAGES --minutes 10 --out runs/claim

For each task the same network (claim.toml), photographs, damage, seed and wall time, but three objectives, each trained
in a process of its own; beside other work let --jobs 3 train them side by side, so that all lose as much by it.
Reported: what an iteration costs; PSNR, SSIM, colour and low-frequency shift of the finished chain on whole images;
modular and cumulative error at every step on their middles. All see the same damage and noise. Tasks that --task leaves
out keep what results/data_consistency.json says of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import FOLDER, write
from torch import Tensor

from restonnx.onnx_export.unroll import Unrolled
from restonnx.training import checkpoint as checkpoints
from restonnx.training.error_curves import StepError, draw, error_curves
from restonnx.training.evaluation.damage import of_recipe
from restonnx.training.evaluation.measures import mean, quality, rounded
from restonnx.training.evaluation.samples import Floats, Sample, read_unit, with_channels
from restonnx.training.evaluation.table import limited
from restonnx.training.loop import train
from restonnx.training.machine import facts
from restonnx.training.networks.backbone import Backbone, Enlarged
from restonnx.training.objectives.build import build_objective
from restonnx.training.recipe import Recipe, load
from restonnx.training.sections import BackboneSection, ResShiftSection

TASKS = ("super-resolution-x4", "denoise", "derain", "dehaze", "dual-camera-x2")
VARIANTS = {
    "forward-noised": ["objective.kind=forward_noised"],
    "detached chain": ["objective.kind=data_consistent", "objective.gradient=detached", "objective.loss_on=random"],
    "full chain": ["objective.kind=data_consistent", "objective.gradient=full", "objective.loss_on=end"],
}
RECIPE = Path(__file__).parent / "claim.toml"
RESULTS, PICTURE = FOLDER / "data_consistency.json", FOLDER / "data_consistency.webp"
MULTIPLE = 16
"""Sides of the test images are cut to it, which suits the network at every scale."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--minutes", type=float, default=2.0, help="of each training")
    parser.add_argument(
        "--init", default=None, metavar="MODEL", help="begin every training from what fits of its weights"
    )
    parser.add_argument("--limit", type=int, default=8, help="at most so many test images, every k-th")
    parser.add_argument(
        "--jobs", type=int, default=1, help="variants of a task trained at once, each on its share of cores"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        one(options, options.task[0])
        return
    threads = max(1, len(os.sched_getaffinity(0)) // options.jobs)

    def run(task: str, variant: str) -> dict[str, Any]:
        command = [sys.executable, __file__, *sys.argv[1:], "--task", task, "--variant", variant]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        result: dict[str, Any] = json.loads((folder(options, task, variant) / "result.json").read_text())
        print(f"{task}, {variant}: {result['quality']}", flush=True)
        return result

    settings = {"minutes": options.minutes, "threads": threads, "at_once": options.jobs, "begun_from": options.init}
    settings |= {"photographs": options.train.name, "data": options.test.name}
    for task in options.task:
        with ThreadPoolExecutor(options.jobs) as pool:
            variants = dict(zip(VARIANTS, pool.map(run, [task] * len(VARIANTS), VARIANTS), strict=True))
        images = test_images(options, task)
        found = settings | {"images": len(images), "machine": facts(), "input": given(images), "variants": variants}
        write("data_consistency", {"tasks": with_task(measured(), task, found)})
    picture()


def one(options: argparse.Namespace, task: str) -> None:
    """Train and measure one variant; runs in a process of its own, so that its peak memory is its own."""
    out = folder(options, task, options.variant)
    overrides = [*of_task(task), *VARIANTS[options.variant], f"training.minutes={options.minutes}"]
    wall, processor = time.monotonic(), time.process_time()
    path = train(RECIPE, data=options.train, out=out, overrides=overrides, resume=False, init=options.init, quiet=True)
    share = (time.process_time() - processor) / (time.monotonic() - wall)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    saved = checkpoints.load(path)
    network = saved.build()
    assert isinstance(network, Backbone)
    curves = error_curves(path, data=options.test, limit=options.limit)
    result = {
        "iterations": saved.iteration,
        "seconds_per_iteration": round(saved.seconds / saved.iteration, 4),
        "processor_seconds_per_iteration": round(share * saved.seconds / saved.iteration, 4),
        "peak_memory_mb": peak,
        "kept_for_backward_mb": round(kept_for_backward(saved.recipe), 1),
        "carry": [round(value, 3) for value in reversed(network.carry.detach().flatten().tolist())],
        "quality": finished(network, saved.recipe, test_images(options, task)),
        "steps": [asdict(step) for step in curves.steps],
    }
    (out / "result.json").write_text(json.dumps(result))


def of_task(task: str) -> list[str]:
    """What of claim.toml another task changes: as its shipped recipe has it."""
    recipe = load(task)
    assert isinstance(recipe.network, BackboneSection)
    damage = recipe.degradation.model_dump(mode="json", exclude_none=True)
    changes = {"about.task": recipe.about.task, "network.scale": recipe.network.scale}
    changes |= {"network.reference": recipe.network.reference}
    changes |= {f"degradation.{key}": value for key, value in damage.items()}
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def test_images(options: argparse.Namespace, task: str) -> list[Sample]:
    """Whole images, damaged as in training and neither clipped nor rounded; seeded by their numbers."""
    paths = sorted(path for path in options.test.iterdir() if path.is_file())
    damage = of_recipe(task, as_file=False)
    samples = []
    for index in limited(len(paths), options.limit):
        clean = with_channels(read_unit(paths[index]), 3)
        height, width = (side // MULTIPLE * MULTIPLE for side in clean.shape[:2])
        samples.append(damage(np.ascontiguousarray(clean[:height, :width]), index))
    return samples


@torch.no_grad()
def finished(network: Backbone, recipe: Recipe, samples: list[Sample]) -> dict[str, float]:
    """What the whole chain makes of the images."""
    assert isinstance(recipe.sampler, ResShiftSection)
    chain = Unrolled(network, recipe.sampler.schedule(), recipe.sampler.reading())
    qualities = []
    for seed, sample in enumerate(samples):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, chain.draws, *batch(sample.truth).shape[1:], generator=generator)
        reference = [] if sample.reference is None else [batch(sample.reference)]
        restored = chain(batch(sample.degraded), noise, *reference)
        qualities.append(quality(image(restored), sample.truth))
    return rounded(mean(qualities))


@torch.no_grad()
def given(samples: list[Sample]) -> dict[str, float]:
    """The quality of the inputs themselves, enlarged as the chain does it."""
    enlarged = Enlarged(3, samples[0].scale)
    return rounded(mean(quality(image(enlarged(batch(s.degraded))), s.truth) for s in samples))


def kept_for_backward(recipe: Recipe) -> float:
    """Megabytes that the largest iteration keeps for its gradient beside the weights: what objectives differ by, where
    peak memory is mostly the interpreter's and the photographs'."""
    network = recipe.build()
    objective = build_objective(recipe, network)
    own = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    settings, generator = recipe.training, torch.Generator().manual_seed(0)
    clean = torch.rand(settings.batch, recipe.image_channels, settings.patch, settings.patch, generator=generator)
    clean, degraded, *further = recipe.degradation.degrade(clean, generator)
    noise = torch.randn(recipe.sampler.training_draws, *clean.shape, generator=generator)
    last_step = torch.zeros(settings.batch + 2)  # so that the whole chain is run
    identity: Callable[[Tensor], Tensor] = lambda tensor: tensor  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(note, identity):
        loss = objective(clean, degraded, noise, last_step, 1.0, *further)
    assert loss.requires_grad  # and alive: no address was used twice
    return sum(size for address, size in kept.items() if address not in own) / 1e6


def picture() -> None:
    """The curves of every task that was measured, a panel each."""
    curves = {
        task: {name: [StepError(**step) for step in variant["steps"]] for name, variant in found["variants"].items()}
        for task, found in measured().items()
    }
    with tempfile.TemporaryDirectory() as place:
        draw(curves, Path(place) / "curves.png")
        with Image.open(Path(place) / "curves.png") as drawn:
            few = drawn.convert("RGB").quantize(64)  # colours, which keep the file small and the lines sharp
            few.convert("RGB").save(PICTURE, lossless=True)
    print(f"written: {PICTURE}")


def measured() -> dict[str, Any]:
    """What the file of results says, by task; nothing where there is none."""
    if not RESULTS.exists():
        return {}
    tasks: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")).get("tasks", {})
    return tasks


def with_task(tasks: dict[str, Any], task: str, found: dict[str, Any]) -> dict[str, Any]:
    """Another measurement of one task; the others stay, in the order of TASKS."""
    tasks = tasks | {task: found}
    return {name: tasks[name] for name in TASKS if name in tasks}


def folder(options: argparse.Namespace, task: str, variant: str) -> Path:
    path: Path = options.out / task / variant.replace(" ", "-")
    return path


def batch(array: Any) -> Tensor:
    """(H, W, C) -> (1, C, H, W)"""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).permute(2, 0, 1)[None]


def image(batch: Tensor) -> Floats:
    array: Floats = batch[0].permute(1, 2, 0).numpy()
    return array


if __name__ == "__main__":
    main()
