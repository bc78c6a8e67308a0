"""A checkpoint becomes one .onnx file: unrolled, described, and compared with torch before it is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from restonnx.diffusion import rddm_paths
from restonnx.diffusion.consistency import even_shares
from restonnx.errors import InputError
from restonnx.model import Metadata, SamplerSpec, TileSpec, read
from restonnx.onnx_export.consistency_graphs import ConsistencyChain
from restonnx.onnx_export.freeze import freeze
from restonnx.onnx_export.halo import receptive_radius, sufficient_halo
from restonnx.onnx_export.stored import check_precision, round_weights
from restonnx.onnx_export.unroll import DenoisingPrior, Graph, ResidualChain, Unrolled
from restonnx.tiles import padded
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import RECIPE_KEY, Checkpoint
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.sections import DenoiserSampling, RddmSection, ResShiftSection

UNIT = 64
"""Sides at which graphs are compared are whole multiples of it, and every shipped network divides it."""
PREFERRED_TILE = 1536
"""Side of a square with the area of a tile of the result: about 1 GB of memory, and a photograph of 24 megapixels is
computed 1.14 times at a halo of 64."""
MOST_STEPS = 100
"""Of RDDM, of which each is a copy of the network's head in the graph, and of consistency models."""
MARGIN = 8
"""Pixels that are added to a measured halo: other images reach a little farther than that photograph."""
LEAST_TILE = 4
"""Side of a tile of the image, in halos."""
BLENDED_TILE, FADE = 512, 128
"""Side of tiles that are blended, and over which length."""


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
    order: str | None = None,
    name: str | None = None,
    precision: str = "float16",
    measured: dict[str, float] | None = None,
) -> Export:
    """Write checkpoint (.safetensors or .onnx) as an unrolled .onnx file.

    steps: cut the chain after so many steps, for a faster model; of RDDM and consistency models, their number.
    order: of RDDM, how residual and noise are removed: together, residual_first, noise_first. The recipe's by default.
    name: the model's name; the recipe's by default.
    precision: how weights are stored, see `stored`; the arithmetic is float32 in any case.
    Raises ModelError, and writes nothing, where the graph and torch differ by more than `freeze.LIMIT`.
    """
    saved = checkpoints.load(checkpoint).settled()
    if Path(checkpoint).suffix == ".onnx":  # one that was cut stays so
        given = read(checkpoint).metadata
        steps, name = steps or given.sampler.steps, name or given.name
    saved = _sampled(saved, steps, order)
    check_precision(precision)
    module = unrolled(saved, steps)
    round_weights(module, precision)  # before the halo is measured
    metadata = describe(saved, module, name=name, measured=measured or {})
    recipe = {RECIPE_KEY: saved.recipe.model_dump_json(by_alias=True)}
    out = Path(out)
    unit = UNIT // module.scale
    errors = freeze(module, module.ports, metadata, out, unit=unit, precision=precision, extra=recipe)
    return Export(out, metadata, errors)


def unrolled(saved: Checkpoint, steps: int | None = None) -> Graph:
    """The module of a checkpoint; steps: cut the chain after so many."""
    network, sampler = saved.build(), saved.recipe.sampler
    if isinstance(sampler, ResShiftSection):
        assert isinstance(network, Backbone)
        last = sampler.steps - (steps or sampler.steps)
        return Unrolled(network, sampler.schedule(), sampler.reading(), last=last).eval()
    if isinstance(sampler, RddmSection):
        assert isinstance(network, ResidualBackbone)
        return ResidualChain(
            network,
            sampler.residual_schedule(),
            sampler.reading(saved.recipe.prediction()),
            steps=sampler.steps,
            eta=sampler.eta,
            order=sampler.order,
        ).eval()
    assert isinstance(network, Denoiser)
    prior = DenoisingPrior(network, sampler.preconditioning())
    return (ConsistencyChain(prior, even_shares(steps)) if steps and steps > 1 else prior).eval()


def _sampled(saved: Checkpoint, steps: int | None, order: str | None) -> Checkpoint:
    """RDDM's checkpoint with the steps and the order that were asked for; of others, what was asked for is checked."""
    sampler = saved.recipe.sampler
    if not isinstance(sampler, RddmSection):
        most = MOST_STEPS if sampler.family == "consistency" else sampler.steps
        if order is not None:
            raise InputError(f"order is of RDDM's samplers; this one is of {sampler.family}: leave it out")
        if steps is not None and not 1 <= steps <= most:
            raise InputError(f"the chain has {most} steps, so steps must lie in 1..{most}, not {steps}")
        return saved
    if order not in (None, *rddm_paths.ORDERS):
        raise InputError(f"order must be one of {', '.join(rddm_paths.ORDERS)}, not {order!r}")
    if steps is not None and not 1 <= steps <= min(sampler.total, MOST_STEPS):
        raise InputError(f"steps must lie in 1..{min(sampler.total, MOST_STEPS)}, not {steps}")
    chosen = sampler.model_copy(update={"steps": steps or sampler.steps, "order": order or sampler.order})
    return replace(saved, recipe=saved.recipe.model_copy(update={"sampler": chosen}))


def describe(saved: Checkpoint, module: Graph, *, name: str | None, measured: dict[str, float]) -> Metadata:
    """The metadata of an unrolled checkpoint, with its measured halo."""
    recipe, about = saved.recipe, saved.recipe.about
    options = recipe.sampler.model_dump(mode="json", exclude={"family", "kappa"})
    if isinstance(recipe.sampler, RddmSection):
        options["prediction"] = recipe.prediction()
    return Metadata(
        schema_=1,
        name=name or recipe.name,
        title=about.title,
        version=about.version,
        # A chain takes noise: it denoises, but is no prior that a solver could ask over and over.
        task="denoise" if isinstance(module, ConsistencyChain) else about.task,
        description=about.description,
        sampler=SamplerSpec(
            family=recipe.sampler.family,
            steps=module.steps,
            draws=module.draws,
            kappa=getattr(recipe.sampler, "kappa", None),
            options=options | {"last": module.last},
        ),
        domain=about.domain,
        channels=recipe.network.channels,
        range=module.range,
        scale=module.scale,
        inputs=tuple(port.spec() for port in module.ports),
        tile=_tiles(saved, module),
        mosaic=getattr(recipe.degradation, "mosaic", None),
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


def _tiles(saved: Checkpoint, module: Graph) -> TileSpec:
    """With a halo that is measured; what starts from noise alone, or goes by the whole image, has blended tiles."""
    multiple = module.network.multiple
    if isinstance(module, ResidualChain) and not module.network.conditioned:
        return TileSpec(mode="overlap", multiple=multiple, halo=FADE, halo_exact=0, preferred=BLENDED_TILE)
    if isinstance(module, ResidualChain) and module.network.relights:
        return TileSpec(mode="overlap", multiple=multiple, halo=FADE, halo_exact=0, preferred=PREFERRED_TILE)
    exact = receptive_radius(module, saved.recipe.network.channels, multiple)
    degraded, *guide = _damaged_photographs(saved)
    halo = sufficient_halo(module, degraded, multiple, exact, *guide)
    halo = min(exact, halo + padded(MARGIN, multiple))
    return TileSpec(
        mode="halo",
        multiple=multiple,
        halo=halo,
        halo_exact=exact,
        preferred=max(PREFERRED_TILE // module.scale, LEAST_TILE * halo),
    )


def _damaged_photographs(saved: Checkpoint) -> list[NDArray[np.float32]]:
    """(3, C, 512, 512), or smaller by the scale: a photograph that comes with scikit-image, damaged as in training.

    And behind it the reference or the mask, for models that take one.
    """
    from skimage import data

    photograph = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    if saved.recipe.image_channels == 1:
        photograph = photograph.mean(dim=0, keepdim=True)
    clean = photograph.expand(3, -1, -1, -1).clone()
    generator = torch.Generator().manual_seed(0)
    _, degraded, *guide = saved.recipe.degradation.degrade(clean, generator)
    if isinstance(saved.recipe.sampler, DenoiserSampling):  # a prior's damage is noise, here of sigma 1 in [-1, 1]
        degraded = degraded + 0.5 * torch.randn(degraded.shape, generator=generator)
    return [degraded.numpy(), *(given.numpy() for given in guide)]
