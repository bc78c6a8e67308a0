"""A checkpoint becomes one .onnx file: unrolled, described, and compared with torch before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from restonnx.errors import InputError
from restonnx.model import Metadata, SamplerSpec, TileSpec, read
from restonnx.onnx_export.freeze import freeze
from restonnx.onnx_export.halo import receptive_radius, sufficient_halo
from restonnx.onnx_export.precision import round_to_half
from restonnx.onnx_export.unroll import DenoisingPrior, Graph, Unrolled
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import RECIPE_KEY, Checkpoint
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.recipe import ResShiftSection

UNIT = 64
"""Sides at which graphs are compared are whole multiples of it, and every shipped network divides it."""
PREFERRED_TILE = 1280


@dataclass(frozen=True)
class Export:
    """What was written."""

    path: Path
    metadata: Metadata
    errors: tuple[float, ...]
    """Largest absolute difference between ONNX Runtime and torch at each of `freeze.SIZES`."""


def export_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    *,
    steps: int | None = None,
    name: str | None = None,
    precision: str = "float16",
    measured: dict[str, float] | None = None,
) -> Export:
    """Write checkpoint (.safetensors or .onnx) as an unrolled .onnx file.

    steps: cut the chain after so many steps, for a faster model.  name: the model's name; the recipe's by default.
    precision: how weights are stored, "float16" or "float32"; the arithmetic is float32 either way.
    Raises ModelError, and writes nothing, where the graph and torch differ by more than `freeze.LIMIT`.
    """
    saved = checkpoints.load(checkpoint)
    sampler = saved.recipe.sampler
    if Path(checkpoint).suffix == ".onnx":  # one that was cut stays so
        given = read(checkpoint).metadata
        steps, name = steps or given.sampler.steps, name or given.name
    if steps is not None and not 1 <= steps <= sampler.steps:
        raise InputError(f"the chain has {sampler.steps} steps, so steps must lie in 1..{sampler.steps}, not {steps}")
    if precision not in ("float16", "float32"):
        raise InputError(f"precision must be float16 or float32, not {precision!r}")
    module = unrolled(saved, steps)
    if precision == "float16":
        round_to_half(module)  # before the halo is measured
    metadata = describe(saved, module, name=name, measured=measured or {})
    recipe = {RECIPE_KEY: saved.recipe.model_dump_json(by_alias=True)}
    out = Path(out)
    errors = freeze(module, module.ports, metadata, out, unit=UNIT, precision=precision, extra=recipe)
    return Export(out, metadata, errors)


def unrolled(saved: Checkpoint, steps: int | None = None) -> Graph:
    """The module of a checkpoint; steps: cut the chain after so many."""
    network, sampler = saved.build(), saved.recipe.sampler
    if isinstance(sampler, ResShiftSection):
        assert isinstance(network, Backbone)
        last = sampler.steps - (steps or sampler.steps)
        return Unrolled(network, sampler.schedule(), sampler.reading(), last=last).eval()
    assert isinstance(network, Denoiser)
    return DenoisingPrior(network, sampler.preconditioning()).eval()


def describe(saved: Checkpoint, module: Graph, *, name: str | None, measured: dict[str, float]) -> Metadata:
    """The metadata of an unrolled checkpoint, with its measured halo."""
    recipe, about = saved.recipe, saved.recipe.about
    multiple = module.network.multiple
    exact = receptive_radius(module, recipe.network.channels, multiple)
    halo = sufficient_halo(module, _damaged_photographs(saved), multiple, exact)
    return Metadata(
        schema_=1,
        name=name or recipe.name,
        title=about.title,
        version=about.version,
        task=about.task,
        description=about.description,
        sampler=SamplerSpec(
            family=recipe.sampler.family,
            steps=module.steps,
            draws=module.draws,
            kappa=getattr(recipe.sampler, "kappa", None),
            options=recipe.sampler.model_dump(exclude={"family", "kappa"}) | {"last": module.last},
        ),
        domain=about.domain,
        channels=recipe.network.channels,
        range=module.range,
        scale=1,
        inputs=tuple(port.spec() for port in module.ports),
        tile=TileSpec(mode="halo", multiple=multiple, halo=halo, halo_exact=exact, preferred=PREFERRED_TILE),
        precision="float32",
        licence=about.licence,
        authors=about.authors,
        training_data=about.training_data,
        recipe=recipe.name,
        recipe_hash=recipe.hash(),
        network=recipe.network.model_dump(mode="json"),
        measured=measured,
        parent=saved.parent,
    )


def _damaged_photographs(saved: Checkpoint) -> NDArray[np.float32]:
    """(3, C, 512, 512): a photograph that comes with scikit-image, damaged as in training."""
    from skimage import data

    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    if saved.recipe.network.channels == 1:
        photograph = photograph.mean(dim=0, keepdim=True)
    clean = photograph.expand(3, -1, -1, -1).clone()
    generator = torch.Generator().manual_seed(0)
    _, degraded = saved.recipe.degradation.degrade(clean, generator)
    if not isinstance(saved.recipe.sampler, ResShiftSection):  # a prior's damage is noise, here of sigma 1 in [-1, 1]
        degraded = degraded + 0.5 * torch.randn(degraded.shape, generator=generator)
    return degraded.numpy()
