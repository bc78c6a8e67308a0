"""Modular and cumulative error of a sampler, step by step.

The two errors after Li and van der Schaar 2024 (arXiv 2308.05021) and Cheng et al. 2024 (arXiv 2412.12550), measured as
the squared error of the estimate of the clean image:
    modular      the network sees x_t made from the clean image, as in ordinary training
    cumulative   the network sees x_t made by its own earlier steps, as in use
Where the second is above the first, errors add up along the chain.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restonnx.diffusion import resshift
from restonnx.errors import InputError
from restonnx.training import checkpoint as checkpoints
from restonnx.training.data import load_clean
from restonnx.training.machine import facts
from restonnx.training.networks.backbone import Backbone
from restonnx.training.recipe import ResShiftSection, parse, set_value

CROP = 192
SEED = 0


@dataclass(frozen=True)
class StepError:
    """One step of the chain; errors are averaged over the images, in decibels image by image."""

    t: int
    """Counts down: the chain begins with T-1 and ends with 0."""
    modular_mse: float
    cumulative_mse: float
    modular_psnr: float
    cumulative_psnr: float


def error_curves(
    checkpoint: str | Path,
    *,
    data: str | Path,
    json: str | Path | None = None,
    plot: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> list[StepError]:
    """Measure a checkpoint (.safetensors or an exported .onnx) on the middle of every image of a folder.

    The images are damaged as in the checkpoint's recipe; overrides such as "degradation.sigma=[25, 25]" change that.
    Prints the errors, and writes them to json and as curves to plot.
    """
    saved = checkpoints.load(checkpoint)
    content = saved.recipe.model_dump(mode="json", by_alias=True)
    for override in overrides:
        if not override.startswith("degradation."):
            raise InputError(f"only the degradation can be changed for a measurement, not {override!r}")
        set_value(content, override)
    recipe = parse(content)
    network, sampler = saved.build(), recipe.sampler
    if not (isinstance(sampler, ResShiftSection) and isinstance(network, Backbone)):
        raise InputError(f"{recipe.name} is a prior: only a chain has errors that add up over its steps")
    schedule, reading = sampler.schedule(), sampler.reading()
    images = load_clean(Path(data), channels=recipe.network.channels, smallest=CROP)
    modular: list[list[Tensor]] = [[] for _ in range(schedule.steps)]
    cumulative: list[list[Tensor]] = [[] for _ in range(schedule.steps)]
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for image in images:
            clean = torch.from_numpy(_middle(image).copy()).permute(2, 0, 1)[None].float() / 255
            clean, degraded = recipe.degradation.degrade(clean, generator)
            noise = torch.randn(schedule.steps, *clean.shape, generator=generator)
            features = network.encode(degraded)

            def predict(x_t: Tensor, step: int, y: Tensor = degraded, f: Tensor = features) -> Tensor:
                return network.step(x_t, y, f, step)

            for t in range(schedule.steps):
                x_t = resshift.forward(clean, degraded, noise[schedule.steps - 1 - t], schedule, t)
                estimate = resshift.estimate(predict, x_t, degraded, schedule, t, reading)
                modular[t].append((estimate - clean).square().mean())

            def note(t: int, x_t: Tensor, estimate: Tensor, truth: Tensor = clean) -> None:
                cumulative[t].append((estimate - truth).square().mean())

            resshift.sample(predict, degraded, noise, schedule, reading, on_step=note)
    curves = [_step(t, modular[t], cumulative[t]) for t in reversed(range(schedule.steps))]
    for step in curves:
        print(f"t = {step.t}: modular {step.modular_psnr:.2f} dB, cumulative {step.cumulative_psnr:.2f} dB")  # noqa: T201
    if json is not None:
        report = {"machine": facts(), "images": len(images), "steps": [asdict(step) for step in curves]}
        Path(json).write_text(jsonlib.dumps(report, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        draw({recipe.name: curves}, plot)
    return curves


def draw(curves: dict[str, list[StepError]], path: str | Path) -> None:
    """The errors of several chains as one picture: solid cumulative, dashed modular."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, steps in curves.items():
        x = range(1, len(steps) + 1)
        (line,) = axes.plot(x, [s.cumulative_mse for s in steps], "o-", label=f"{name}: cumulative")
        axes.plot(x, [s.modular_mse for s in steps], "o--", color=line.get_color(), label=f"{name}: modular")
    axes.set_xlabel("step of the chain")
    axes.set_ylabel("mean squared error of the clean estimate")
    axes.set_yscale("log")
    axes.set_xticks(range(1, 1 + max(map(len, curves.values()))))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
    return image[top : top + CROP, left : left + CROP]


def _step(t: int, modular: list[Tensor], cumulative: list[Tensor]) -> StepError:
    a, b = torch.stack(modular).double(), torch.stack(cumulative).double()
    return StepError(t, float(a.mean()), float(b.mean()), float(-10 * a.log10().mean()), float(-10 * b.log10().mean()))
