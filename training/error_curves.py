"""Modular and cumulative error of a sampler, step by step.

The two errors after Li and van der Schaar 2024 (arXiv 2308.05021) and Cheng et al. 2024 (arXiv 2412.12550), measured as
the squared error of the estimate of the clean image:
    modular      the network sees x_t made from the clean image, as in ordinary training
    cumulative   the network sees x_t made by its own earlier steps, as in use
Where the second is above the first, errors add up along the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restonnx.diffusion import rddm, resshift
from restonnx.errors import InputError
from restonnx.files import write_json
from restonnx.training import checkpoint as checkpoints
from restonnx.training.data import load_clean
from restonnx.training.machine import facts
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.networks.values import back, into
from restonnx.training.recipe import Recipe, parse, set_value
from restonnx.training.sections import RddmSection, ResShiftSection

CROP = 192
SEED = 0
Pair = tuple[Tensor, Tensor]
"""Modular and cumulative error."""


@dataclass(frozen=True)
class StepError:
    """One step of the chain; errors are averaged over the images, in decibels image by image."""

    t: int
    """Counts down: the chain begins with T-1 and ends with 0, or for RDDM with the least that its sampler visits."""
    modular_mse: float
    cumulative_mse: float
    modular_psnr: float
    cumulative_psnr: float


@dataclass(frozen=True)
class Curves:
    """The errors of one chain."""

    name: str
    """Of the recipe or the model."""
    task: str
    images: int
    steps: list[StepError]


def error_curves(
    checkpoint: str | Path, *, data: str | Path, overrides: Sequence[str] = (), limit: int | None = None
) -> Curves:
    """Measure one chain on the middle of every image of a folder, or of at most `limit`, every k-th.

    checkpoint: a model's name, an exported .onnx file, or what `restonnx train` wrote.
    The images are damaged as in its recipe; overrides such as "degradation.sigma=[25, 25]" change that.
    """
    saved = checkpoints.load(_path(checkpoint)).settled()
    content = saved.recipe.model_dump(mode="json", by_alias=True)
    for override in overrides:
        if not override.startswith("degradation."):
            raise InputError(f"only the degradation can be changed for a measurement, not {override!r}")
        set_value(content, override)
    recipe = parse(content)
    network = saved.build()
    name = Path(checkpoint).stem if Path(checkpoint).suffix == ".onnx" else recipe.name
    if isinstance(network, Denoiser):
        raise InputError(f"{checkpoint} is or holds a prior: only a chain has errors that add up over its steps")
    if isinstance(network, ResidualBackbone) and not network.conditioned:
        raise InputError(f"{checkpoint} makes new images: there is no clean one that its steps could be compared with")
    images = load_clean(Path(data), channels=recipe.image_channels, smallest=CROP)
    images = images[:: 1 if limit is None else max(1, -(-len(images) // limit))]
    errors: dict[int, list[Pair]] = {}
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for image in images:
            clean = torch.from_numpy(_middle(image).copy()).permute(2, 0, 1)[None].float() / 255
            clean, *given = recipe.degradation.degrade(clean, generator)
            measure = _of_residuals if isinstance(network, ResidualBackbone) else _of_shifts
            for t, pair in measure(network, recipe, clean, given, generator).items():  # type: ignore[arg-type]
                errors.setdefault(t, []).append(pair)
    steps = [_step(t, *zip(*errors[t], strict=True)) for t in sorted(errors, reverse=True)]
    return Curves(name, recipe.about.task, len(images), steps)


def compare(
    checkpoints: Sequence[str | Path],
    *,
    data: str | Path,
    output: str | Path | None = None,
    json: str | Path | None = None,
    overrides: Sequence[str] = (),
    limit: int | None = None,
) -> list[Curves]:
    """Measure several chains, print their errors, and write them to json and as curves to the picture `output`."""
    found = []
    for checkpoint in checkpoints:
        curves = error_curves(checkpoint, data=data, overrides=overrides, limit=limit)
        found.append(curves)
        for step in curves.steps:
            line = f"modular {step.modular_psnr:.2f} dB, cumulative {step.cumulative_psnr:.2f} dB"
            print(f"{curves.name}, t = {step.t}: {line}")  # noqa: T201
    if json is not None:
        report = {"machine": facts(), "data": Path(data).name, "models": [asdict(curves) for curves in found]}
        write_json(Path(json), report)
    if output is not None:
        panels: dict[str, dict[str, list[StepError]]] = {}
        for curves in found:
            panels.setdefault(curves.task, {})[curves.name] = curves.steps
        draw(panels, output)
    return found


def _path(checkpoint: str | Path) -> Path:
    """A model's name is that of its file."""
    from restonnx import library

    path = Path(checkpoint)
    return path if path.suffix in (".onnx", ".safetensors") or path.exists() else library.find(str(checkpoint)).path


def _of_shifts(
    network: Backbone, recipe: Recipe, clean: Tensor, given: Sequence[Tensor], generator: torch.Generator
) -> dict[int, Pair]:
    """ResShift's errors on one image, for each t; given: what the network is given, the degraded image first."""
    sampler = recipe.sampler
    assert isinstance(sampler, ResShiftSection)
    schedule, reading = sampler.schedule(), sampler.reading()
    noise = torch.randn(schedule.steps, *clean.shape, generator=generator)
    features, degraded = network.encode(*given), network.enlarged(given[0])

    def predict(x_t: Tensor, step: int) -> Tensor:
        return network.step(x_t, degraded, features, step)

    modular, cumulative = {}, {}
    for t in range(schedule.steps):
        x_t = resshift.forward(clean, degraded, noise[schedule.steps - 1 - t], schedule, t)
        modular[t] = (resshift.estimate(predict, x_t, degraded, schedule, t, reading) - clean).square().mean()

    def note(t: int, x_t: Tensor, estimate: Tensor) -> None:
        cumulative[t] = (estimate - clean).square().mean()

    resshift.sample(predict, degraded, noise, schedule, reading, on_step=note)
    return {t: (modular[t], cumulative[t]) for t in modular}


def _of_residuals(
    network: ResidualBackbone, recipe: Recipe, clean: Tensor, given: Sequence[Tensor], generator: torch.Generator
) -> dict[int, Pair]:
    """RDDM's, for each t that its sampler visits, residual and noise being removed together."""
    sampler = recipe.sampler
    assert isinstance(sampler, RddmSection)
    schedule, reading = sampler.residual_schedule(), sampler.reading(recipe.prediction())
    truth, degraded = into(2 * clean - 1, network.values), network.seen(2 * given[0] - 1, *given[1:])
    noise = torch.randn(rddm.draws(sampler.steps, sampler.eta), *clean.shape, generator=generator)
    predict = network.predictor(degraded, *given[1:])

    def error(prediction: rddm.Prediction) -> Tensor:
        return ((back(prediction.clean, network.values) + 1) / 2 - clean).square().mean()

    modular, cumulative = {}, {}
    for t in rddm.time_grid(schedule.steps, sampler.steps)[:-1]:
        x_t = rddm.forward(truth, degraded, noise[0], schedule, t)
        outputs = predict(x_t, rddm.time_inputs(schedule, t, reading, x_t))
        modular[t] = error(rddm.read(outputs, x_t, degraded, schedule, t, reading))

    def note(t: int, x_t: Tensor, prediction: rddm.Prediction) -> None:
        cumulative[t] = error(prediction)

    rddm.sample(predict, degraded, noise, schedule, reading, times=sampler.steps, eta=sampler.eta, on_step=note)
    return {t: (modular[t], cumulative[t]) for t in modular}


def draw(panels: dict[str, dict[str, list[StepError]]], path: str | Path) -> None:
    """The errors as one picture, a panel for each task and a colour for each chain in it: solid cumulative, dashed
    modular.

    panels: by the task, then by the chain's name.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    single = len(panels) == 1
    figure = Figure(figsize=(6, 4) if single else (3.6 * columns, 3.2 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    for axes, (task, chains) in zip(places, panels.items(), strict=False):
        for name, steps in chains.items():
            x = range(1, len(steps) + 1)
            (line,) = axes.plot(x, [s.cumulative_mse for s in steps], "o-", label=f"{name}: cumulative")
            axes.plot(x, [s.modular_mse for s in steps], "o--", color=line.get_color(), label=f"{name}: modular")
        axes.set_title("" if single else task)
        axes.set_xlabel("step of the chain")
        axes.set_ylabel("mean squared error of the clean estimate" if single else "mean squared error")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="small" if single else "x-small")
    figure.savefig(path, dpi=150)


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
    return image[top : top + CROP, left : left + CROP]


def _step(t: int, modular: Sequence[Tensor], cumulative: Sequence[Tensor]) -> StepError:
    a, b = torch.stack([*modular]).double(), torch.stack([*cumulative]).double()
    return StepError(t, float(a.mean()), float(b.mean()), float(-10 * a.log10().mean()), float(-10 * b.log10().mean()))
